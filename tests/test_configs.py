"""Every published config on tiny data, from its file to its samples."""

import functools
import json
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ml_collections_configs
from diffjax import builder
from diffjax.config import load, override
from diffjax.devices import mesh
from diffjax.generation.program import generate
from diffjax.nets.edm2 import normalized
from diffjax.runs.trained import Trained
from diffjax.training import loop
from diffjax.training.experiment import Experiment
from diffjax.training.step import TrainState

FOLDER = Path(ml_collections_configs.__file__).parent
CONFIGS = sorted(
    p.stem
    for pattern in ("cifar_*.py", "image*.py")
    for p in FOLDER.glob(pattern)
    if not p.stem.endswith("_vae")  # `test_autoencoding` trains an autoencoder
)
U_NET = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": ()}
REDUCED = {
    "unet": U_NET,
    "edm2": {**U_NET, "head_channels": 8},
    "dit": {"width": 8, "depth": 1, "heads": 2},
}
TINY = (
    "sampling.steps=2",
    "train.steps=2",
    "train.batch_size=8",
    "train.steps_per_dispatch=1",
    "train.log_every=1",
    "train.sample_every=2",
    "train.checkpoint_every=2",
    "train.samples=2",
)
ADDED = {
    "cifar_improved_ddpm": "hybrid",
    "cifar_vdm": "bound",
    "imagenet64_adm": "hybrid",
    "imagenet256_dit": "hybrid",
}
"""What a loss reports beside itself."""


THE_LOOP = "imagenet64_edm2"
"""Trained by the loop itself, for it holds weights at a norm."""
MORE = ("cifar_vdm", "imagenet64_adm")
"""So in `make thorough`: a learned schedule, a second output."""


def tiny(name: str, data: Path) -> dict[str, Any]:
    """Return the config with tiny data and a tiny network."""
    config = override(load(name), TINY)
    own = {k: v for k, v in config["data"].items() if k in ("labels", "augment")}
    config["data"] = {"name": f"array:{data}", **own}
    network = config["network"]
    heads = {"head_channels": 8} if network.get("head_channels") else {}
    config["network"] = network | REDUCED[network["name"]] | heads
    return config


FIRST = ("digits_vp", "moons_vp", "cifar_flow", "imagenet256_dit")
"""Of each network one; the others are in `make thorough`, and the suite builds all of them."""


def tier(name: str) -> Any:
    return name if name in FIRST else pytest.param(name, marks=pytest.mark.thorough)


@pytest.mark.parametrize("name", [tier(name) for name in CONFIGS if name != THE_LOOP])
def test_every_published_config_starts(name, tiny_array):
    """The first step of a config that builds would fail, or the run could not be sampled.

    The config that the loop trains below is sampled there.
    """
    e = with_teacher(tiny(name, tiny_array))
    state = jax.tree.map(drawn, jax.eval_shape(e.initialise))
    batch = e.batch(e.batches()[0])
    new, metrics = jax.eval_shape(e.step(), state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert set(ADDED.values()) & set(metrics) == set(ADDED.get(name, "").split())
    sampled(e, state)


def with_teacher(config: dict[str, Any]) -> Experiment:
    """Return the experiment, with an untrained network like its own as the teacher, if any."""
    e = builder.experiment(config)
    if not e.loss.loads:
        return e
    params = jax.tree.map(drawn, jax.eval_shape(e.parameters))
    teacher = Trained(e.denoiser(params), e)
    return builder.experiment(config, load=lambda *_: teacher)


def sampled(e: Experiment, state: TrainState) -> None:
    """Trace the program that draws samples."""
    denoise = e.denoiser(state.ema[min(state.ema)])
    program = functools.partial(generate, shape=e.shape)
    cond = {"label": jnp.zeros(2, jnp.int32)} if e.classes else {}
    arguments = denoise, e.plan(denoise.sde), jax.random.key(0), jnp.arange(2), cond
    assert jax.eval_shape(program, *arguments).x.shape == (2, *e.shape)


def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return small positive numbers, so that nothing has to be compiled."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.zeros(leaf.shape, leaf.dtype)
    return np.random.default_rng(0).uniform(0.01, 0.1, leaf.shape).astype(leaf.dtype)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [THE_LOOP, *(pytest.param(name, marks=pytest.mark.thorough) for name in MORE)]
)
def test_a_published_config_is_trained_by_the_loop(name, tiny_array, tmp_path, capsys, monkeypatch):
    """Metrics would not be written, or weights lose the form that the network needs.

    Only the step is compiled: no program to initialise, and none to sample.
    """
    monkeypatch.setattr(loop, "picture", lambda *_: np.zeros((2, 2, 3), np.uint8))
    one = mesh.layout(jax.devices()[:1])
    e = builder.experiment(tiny(name, tiny_array))
    params = jax.tree.map(drawn, jax.eval_shape(e.initialise).params)
    state, stopped = loop.train(e, tmp_path, one, params=params)
    assert int(state.step) == 2 and stopped is None
    sampled(e, state)
    chex.assert_tree_all_finite((state.params, state.ema))
    if name == THE_LOOP:  # they would grow, and the learning rate lose its meaning
        chex.assert_trees_all_close(normalized(state.params["network"]), state.params["network"])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert (ADDED.get(name) in row) == (name in ADDED)
        assert all(np.isfinite(value) for value in row.values()), row
        assert any(k.startswith("loss_at_logsnr/") for k in row)
    shown = capsys.readouterr().err
    assert "  loss " in shown and "loss_at_logsnr" not in shown
