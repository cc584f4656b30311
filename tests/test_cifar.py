"""CIFAR-10 on a CPU: the stored run can be repeated, from the data to the loss.

A minute, so only on demand: pytest -m exhaustive.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from diffjax import builder, config
from diffjax.data import read
from diffjax.devices import mesh
from diffjax.training import loop

pytestmark = [pytest.mark.optimized, pytest.mark.exhaustive]

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "tfds"
STORED = ROOT / "experiments" / "cifar10_cpu" / "metrics.jsonl"
STEPS = 10


@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason=f"no prepared CIFAR-10 in {DATA}")
def test_the_first_steps_of_the_stored_run_are_repeated():
    """Another network, loss, noise, data order or decoding would give other losses.

    The stored run used two virtual devices, so that the last bits may differ here, on one.
    """
    settings = config.override(config.load("cifar_vp_small"), [f"data.data_dir={DATA}"])
    # The first batches alone need not decode the whole data set.
    e = builder.experiment(config.override(settings, ["data.memory=0"]))
    layout = mesh.layout(jax.devices()[:1])
    abstract = jax.eval_shape(e.initialise)
    state = jax.jit(e.initialise, out_shardings=layout.state(abstract))()
    run, losses = None, []
    for stack in read(e.batches(), 0, STEPS, e.train.steps_per_dispatch):
        batch = layout.place(e.batch(stack))
        run = run or loop.compile_steps(e, layout, state, batch)
        state, metrics = run(state, batch)
        losses.append(np.asarray(metrics["loss"]))
    every = e.train.log_every
    ours = np.concatenate(losses).reshape(-1, every).mean(1)
    rows = [json.loads(line) for line in STORED.read_text().splitlines()[: STEPS // every]]
    assert [row["step"] for row in rows] == list(range(every, STEPS + 1, every))
    np.testing.assert_allclose(ours, [row["loss"] for row in rows], rtol=2e-3)
    assert len({row["loss"] for row in rows}) == len(rows)
