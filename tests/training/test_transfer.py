"""Weights of another network: by name, renamed, or in part where requested."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import diffjax
from diffjax import builder
from diffjax.config import ConfigError, load, override
from diffjax.io.trees import flat, nested
from diffjax.runs import launch
from diffjax.training.transfer import transfer
from diffjax.training.workdir import Weights, write_weights

MOONS = Path(__file__).parents[1] / "moons.py"
SHORT = ("train.steps=2", "train.held_out_every=0", "train.snapshot_every=0")


def experiment(*changes):
    return builder.experiment(override(load(str(MOONS)), (*SHORT, *changes)))


@pytest.fixture(scope="module")
def known():
    """Return an experiment and its parameters, with the value k in leaf k."""
    e = experiment()
    leaves = flat(e.parameters())
    return e, {path: jnp.full_like(a, k) for k, (path, a) in enumerate(sorted(leaves.items()))}


def renamed(params):
    return nested({path.replace("Dense_", "layers/") + "/old": a for path, a in params.items()})


def test_a_map_renames_in_its_order(known):
    """Weights of a network with other names could not be used."""
    e, params = known
    found = transfer(e, renamed(params), (r"/old$=", r"layers/(\d+)=Dense_\1"))
    assert found.complete
    assert {k: float(a.ravel()[0]) for k, a in flat(found.params).items()} == {
        k: float(a.ravel()[0]) for k, a in params.items()
    }
    found = transfer(e, nested({k.replace("network", "b"): v for k, v in params.items()}))
    assert not found.params and len(found.missing) == len(found.surplus) == len(params)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers", "--resume_map=layers: the form is OLD=NEW"),
        ("=x", "--resume_map==x: the form is OLD=NEW"),
        ("(=x", "--resume_map=(=x: not a regular expression"),
        (r"Dense=\3", "not a regular expression"),
        ("convs=x", "--resume_map=convs=x: matches no parameter; known: network/"),
        ("kernel|bias=w", "--resume_map=kernel|bias=w: renames several parameters to 'network/"),
    ],
)
def test_a_map_that_cannot_be_is_refused(known, text, said):
    """A typing error would leave the weights at random."""
    with pytest.raises(ConfigError) as refused:
        transfer(known[0], nested(known[1]), (text,))
    assert said in str(refused.value)


@pytest.fixture(scope="module")
def source(known, tmp_path_factory):
    """Return an export of those parameters."""
    folder = tmp_path_factory.mktemp("source") / "export"
    write_weights(folder, known[0], Weights(3, nested(known[1]), "power"))
    return folder


@pytest.mark.thorough
def test_a_partial_load_is_requested_and_lists_what_is_missing(source, known, tmp_path, capsys):
    """A network with some random layers would pass for one that was loaded."""
    deeper = override(load(str(MOONS)), (*SHORT, "network.depth=2", "optimizer.learning_rate=1e-9"))
    with pytest.raises(ConfigError) as refused:
        diffjax.fit(deeper, tmp_path / "run", resume_from=source)
    line = str(refused.value)
    assert line.startswith(f"--resume_from={source}: not the parameters of config.network: ")
    assert "network/Dense_" in line and line.endswith("--resume_partial uses those that fit")
    assert not (tmp_path / "run" / "config.json").exists()
    fit = lambda: diffjax.fit(deeper, tmp_path / "run", resume_from=source, resume_partial=True)
    made = fit()
    told = capsys.readouterr().err
    assert (
        "missing, so initialised at random: " in told
        and "of other shapes, so initialised at random: " in told
    )
    e = made.experiment
    found = transfer(e, nested(known[1]))
    assert found.missing and found.reshaped and not found.surplus
    params, drawn = flat(made.denoise.params), flat(e.parameters())
    for path in params:
        given = flat(found.params)
        near = given[path] if path in given else drawn[path]
        np.testing.assert_allclose(params[path], near, atol=1e-4, err_msg=path)
    (line, *_) = (tmp_path / "run" / "launches.jsonl").read_text().splitlines()
    origin = json.loads(line)["resume_from"]
    assert origin["step"] == 3 and set(origin["missing"]) == set(found.missing)
    assert fit().step == 2  # resumed, and nothing is loaded again


def test_flags_go_with_the_run_that_they_are_for(source, tmp_path):
    """`--resume_map` alone would silently do nothing."""
    for flag in ({"resume_map": ("a=b",)}, {"resume_partial": True}, {"resume_ema": "raw"}):
        with pytest.raises(ConfigError, match="need --resume_from"):
            launch.launch(load(str(MOONS)), tmp_path / "run", **flag)
    other = override(load(str(MOONS)), SHORT)
    with pytest.raises(ConfigError, match="has no parameter of config"):
        diffjax.fit(other, tmp_path, resume_from=source, resume_map=("^=x/",), resume_partial=True)
