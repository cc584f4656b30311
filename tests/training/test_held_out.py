"""The held-out loss: equal questions at each evaluation, for any batch size and devices."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import builder
from diffjax.arrays import stream
from diffjax.config import ConfigError, load, override
from diffjax.data import to_float
from diffjax.devices.mesh import layout
from diffjax.objectives import Context
from diffjax.training.held_out import held_out, make_held_out, read

pytestmark = pytest.mark.typed

TINY = (
    "network.channels=8",
    "network.multipliers=(1,)",
    "network.heads=2",
    "network.attention=()",
    "network.dropout=0.5",
    "loss.condition_dropout=0.9",
    "train.batch_size=16",
    "train.held_out=21",
)


def digits(*more: str):
    return builder.experiment(override(load("digits_vp"), (*TINY, *more)))


def redrawn(experiment):
    """Return a state without zero layers, whose average has other parameters."""
    rng = np.random.default_rng(1)
    state = jax.eval_shape(experiment.initialise)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    params, ema = jax.tree.map(draw, (state.params, state.ema))
    begun = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)
    return begun._replace(params=params, ema=ema)


def measure(experiment, state, devices: int):
    return held_out(experiment, layout(jax.devices()[:devices]))(state)


@pytest.fixture(scope="module")
def digits_loss():
    """Return an experiment with both dropouts, a state, and its held-out losses."""
    experiment = digits()
    state = redrawn(experiment)
    return experiment, state, measure(experiment, state, 1)


def test_it_is_the_mean_over_single_items_without_any_dropout(digits_loss):
    """The loss would be shifted by a padded last batch, dropout, or randomly dropped labels."""
    experiment, state, found = digits_loss
    still = digits("network.dropout=0.0", "loss.condition_dropout=0.0")
    stack = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), read(experiment, 1))
    assert stack["counts"].sum() == 21 < len(stack["counts"])

    @jax.jit
    def one(params, x, label, u, i):
        batch = {"x": to_float(x[None]), "cond": {"label": label[None]}, "u": u[None]}
        key = jax.random.fold_in(stream(still.seed, "held_out"), i)
        return still.loss(Context(still.model, params, batch, key))[1]["loss"]

    items = (stack["x"], stack["cond"]["label"], stack["u"], stack["index"])
    for name, params in (("loss", state.ema[min(state.ema)]), ("raw_loss", state.params)):
        each = [one(params, *(a[i] for a in items)) for i in range(21)]
        assert found[f"held_out/{name}"] == pytest.approx(np.mean(each), rel=1e-5)
    assert set(found) == {"held_out/loss", "held_out/raw_loss"}
    assert found["held_out/loss"] != pytest.approx(found["held_out/raw_loss"], rel=1e-3)


def test_it_does_not_depend_on_the_batch_nor_on_the_devices(digits_loss):
    """Two runs that differ in batch size or devices could not be compared."""
    experiment, state, found = digits_loss
    train = dataclasses.replace(experiment.train, batch_size=8)
    assert measure(dataclasses.replace(experiment, train=train), state, 4) == pytest.approx(
        found, rel=1e-4
    )


def test_measuring_the_state_does_not_change_its_training(digits_loss):
    """A run would no longer be bit-for-bit identical after an evaluation."""
    experiment, state, found = digits_loss
    before = jax.tree.map(np.array, state)
    assert measure(experiment, state, 1) == found
    jax.tree.map(np.testing.assert_array_equal, before, state)


def test_for_an_output_of_zero_it_is_the_variance_of_the_target(toy):
    """The loss would be wrong: with output 0 and target eps it is E eps^2 = 1 for all data."""
    experiment = builder.experiment(json.loads((toy / "config.json").read_text()))
    apply = lambda params, x, c_noise, cond, *, key=None: jnp.zeros_like(x)
    network = dataclasses.replace(experiment.model.network, apply=apply)
    model = dataclasses.replace(experiment.model, network=network)
    train = dataclasses.replace(experiment.train, batch_size=400, held_out=400)
    stack = jax.tree.map(jnp.asarray, read(dataclasses.replace(experiment, train=train), 1))
    many = int(stack["counts"].sum())
    found = make_held_out(model, experiment.loss, 0)({"network": {}}, stack)["loss"]
    assert found == pytest.approx(1, abs=5 / many**0.5)
    assert found != 1


def test_any_first_items_cover_the_noise_levels(toy):
    """A test split sorted by class would be measured at one noise level per class."""
    experiment = builder.experiment(json.loads((toy / "config.json").read_text()))
    u = np.sort(read(experiment, 1)["u"].ravel())
    assert u[0] >= 0 and u[-1] < 1
    gaps = np.diff(u, append=u[0] + 1)
    assert gaps.max() < 3 / len(u) and gaps.min() > 0.3 / len(u)


def test_rows_of_a_run(toy):
    """The curve that distinguishes learning from memorising would be missing."""
    lines = (toy / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if "held_out/loss" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert all(set(row) == {"step", "held_out/loss", "held_out/raw_loss"} for row in rows)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("held_out_every", -1, "needs held_out_every >= 0"),
        ("held_out", 0, "needs held_out >= 1"),
        ("held_out_every", 7, "needs a multiple of steps_per_dispatch=10"),
    ],
)
def test_what_cannot_be_measured_is_refused(name, value, said):
    with pytest.raises(ConfigError, match=f"config.train: {name}={value}: {said}"):
        builder.experiment(override(load("digits_vp"), (f"train.{name}={value}",)))
