"""The benchmarks of networks and of a device run; networks that are compared have equal sizes."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

pytestmark = pytest.mark.thorough


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments" / "benchmarks")
    import networks

    yield networks
    for name in ("networks", "stock", "memory"):
        sys.modules.pop(name, None)


def parameters(networks, case, side):
    x = jnp.zeros((1, *case.shape))
    init = networks.network(case, side, "float32").init
    shapes = jax.eval_shape(init, jax.random.key(0), x, jnp.zeros(1), None)
    return sum(a.size for a in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", ["U-Net, 64 channels", "DiT-S/2"])
def test_both_networks_have_the_same_size(networks, name):
    """A ratio of times would compare different networks."""
    ours, plain = (parameters(networks, networks.CPU[name], s) for s in ("diffjax", "flax"))
    assert ours == plain


@pytest.mark.thorough
def test_every_phase_is_measured(networks, capsys):
    """A change of the library would break a script that nobody runs every day."""
    options = networks.Options(rounds=2, steps=2, matmul=32)
    networks.compare({"DiT": networks.SMALL["DiT, small"]}, options, memory=False)
    shown = capsys.readouterr().out
    assert "torch is left out" in shown
    for phase in ("forward", "train", "2 DDIM steps"):
        assert f"  {phase}: diffjax " in shown


def test_a_device_is_measured(monkeypatch, capsys):
    """The script would break on the day that a GPU is there."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments" / "benchmarks")
    import device

    monkeypatch.setattr(sys, "argv", ["device.py", "--tiny", "--steps=1"])
    device.main()
    shown = capsys.readouterr().out
    assert max(device.errors().values()) < 0.02
    assert "attention, odd, masked: " in shown and "| small DiT, batch 16 |" in shown
