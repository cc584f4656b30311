"""Every published config on tiny data, from its file to the metrics of two steps."""

import json
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

import ml_collections_configs
from diffjax import build
from diffjax.config import load, override
from diffjax.nets.edm2 import normalized
from diffjax.training import loop, mesh

FOLDER = Path(ml_collections_configs.__file__).parent
CONFIGS = sorted(p.stem for pattern in ("cifar_*.py", "image*.py") for p in FOLDER.glob(pattern))
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


@pytest.mark.parametrize("name", CONFIGS)
def test_every_published_config_trains(name, tiny_array, tmp_path, capsys):
    """A config that builds may still be one that cannot be trained or sampled."""
    config = override(load(name), TINY)
    own = {k: v for k, v in config["data"].items() if k in ("labels", "augment")}
    config["data"] = {"name": f"array:{tiny_array}", **own}
    network = config["network"]
    heads = {"head_channels": 8} if network.get("head_channels") else {}
    config["network"] = network | REDUCED[network["name"]] | heads
    one = mesh.layout(jax.devices()[:1])
    state, stopped = loop.train(build.experiment(config), tmp_path, one)
    assert int(state.step) == 2 and stopped is None
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((state.params, state.ema)))
    if network["name"] == "edm2":  # its weights would grow, and the learning rate lose its meaning
        chex.assert_trees_all_close(normalized(state.params["network"]), state.params["network"])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert all(np.isfinite(value) for value in row.values()), row
        assert row["loss"] > 0
        assert set(ADDED.values()) & set(row) == set(ADDED.get(name, "").split())
        assert any(k.startswith("loss_at_logsnr/") for k in row)
    shown = capsys.readouterr().err
    assert "  loss " in shown and "loss_at_logsnr" not in shown
