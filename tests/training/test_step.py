"""The train step against problems whose every step is known in closed form."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.arrays import stream
from diffjax.data import pipeline
from diffjax.data.augment import Affine
from diffjax.denoiser import Model
from diffjax.draws import Uniform
from diffjax.likelihood import EDGES
from diffjax.nets import Network, mlp
from diffjax.objectives import Context, Denoising
from diffjax.parameterization import X0, V
from diffjax.schedules import Cosine
from diffjax.sde import VP
from diffjax.training.ema import EMAS, Constant, update
from diffjax.training.optimizer import OPTIMIZERS, optimizer
from diffjax.training.step import TrainState, make_step, scan

pytestmark = pytest.mark.typed

adamw = functools.partial(optimizer, OPTIMIZERS["adamw"])
SDE = VP(Cosine(), t_min=1e-3, t_max=0.995)
POINT = jnp.array([0.5, -1.0])


def constant_init(key, x, c_noise, cond):
    return {"c": jnp.zeros(x.shape[1:])}


def constant_apply(params, x, c_noise, cond, *, key=None):
    return jnp.broadcast_to(params["c"], x.shape)


CONSTANT = Model(SDE, X0(), Network(constant_init, constant_apply))
"""F = c whatever the input: on data that are all one point p the loss is exactly mean (c - p)^2."""


CONSTANT_V = Model(SDE, V(), CONSTANT.network)
"""The same where the loss depends on the noise."""


@functools.cache
def first_params(model, shape):
    """Return the first parameters, drawn by one program for each model."""
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *shape)))


def begin(model, optimizer, shape=(2,)):
    params = first_params(model, shape)
    copy = jax.tree.map(jnp.copy, params)
    ema = {"mean": copy}
    return TrainState(jnp.zeros((), jnp.int32), params, ema, optimizer.init(params), ())


def points(n: int = 16):
    return {"x": jnp.broadcast_to(POINT, (n, 2)), "cond": {}}


def run(model, optimizer, average, steps, seed=0, loss=None, batch=None):
    """Return all states and metrics of a short training."""
    step = jax.jit(make_step(model, loss or Denoising(), optimizer, {"mean": average}, seed))
    states, rows = [begin(model, optimizer)], []
    for _ in range(steps):
        state, metrics = step(states[-1], batch or points())
        states.append(state)
        rows.append(jax.device_get(metrics))
    return states, rows


def test_gradient_descent_on_one_point_follows_its_closed_form():
    """The loss, its gradient or the update would be wrong: c_k = p (1 - (1 - rate)^k)."""
    rate = 0.2
    states, rows = run(CONSTANT, optax.sgd(rate), Constant(0.5), 10)
    far = (1 - rate) ** np.arange(11)
    for state, f in zip(states, far, strict=True):
        np.testing.assert_allclose(state.params["network"]["c"], POINT * (1 - f), atol=1e-6)
    for row, f in zip(rows, far, strict=False):
        np.testing.assert_allclose(row["loss"], float((POINT**2).mean()) * f**2, rtol=1e-5)
        np.testing.assert_allclose(row["grad_norm"], float(jnp.linalg.norm(POINT)) * f, rtol=1e-5)
    assert [int(s.step) for s in states] == list(range(11))


@pytest.mark.parametrize("average", [make() for make in EMAS.values()], ids=list(EMAS))
def test_the_average_follows_its_recursion_and_moves(average):
    """An average of the old parameters, or with the decay of the wrong step, would lag by one."""
    states, _ = run(CONSTANT, optax.sgd(0.2), average, 6)
    mean = np.zeros(2)
    for k, state in enumerate(states[1:]):
        share = float(average(jnp.asarray(k), 16))
        assert 0 < share <= 1
        mean = (1 - share) * mean + share * np.asarray(state.params["network"]["c"], np.float64)
        np.testing.assert_allclose(state.ema["mean"]["network"]["c"], mean, rtol=1e-5)
    assert not np.allclose(
        states[-1].ema["mean"]["network"]["c"], states[-1].params["network"]["c"]
    )
    assert not np.allclose(
        states[-1].ema["mean"]["network"]["c"], states[0].ema["mean"]["network"]["c"]
    )


def test_an_average_that_takes_all_is_the_parameters_themselves():
    """Shares and decays would be confused."""
    params, old = {"a": jnp.arange(3.0)}, {"a": jnp.full(3, 9.0)}
    np.testing.assert_array_equal(update(old, params, jnp.ones(()))["a"], params["a"])
    np.testing.assert_array_equal(update(old, params, jnp.zeros(()))["a"], old["a"])


def test_training_a_network_lowers_the_loss():
    """An x0 network would not learn data at one point, which are a constant."""
    model = Model(SDE, X0(), mlp(width=16, depth=1))
    _, rows = run(model, adamw(learning_rate=1e-2), Constant(0.9), 120)
    assert rows[-1]["loss"] < 1e-3 * rows[0]["loss"]


def noisy(seed: int):
    return run(CONSTANT_V, adamw(warmup=3), Constant(0.9), 3, seed)


@pytest.fixture(scope="module")
def first():
    return noisy(0)


def test_two_runs_are_identical_bit_for_bit(first):
    (a, rows_a), (b, rows_b) = first, noisy(0)
    for x, y in zip(jax.tree.leaves((a, rows_a)), jax.tree.leaves((b, rows_b)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_another_seed_gives_other_noise(first):
    assert first[1][0]["loss"] != noisy(1)[1][0]["loss"]


def test_the_noise_of_step_k_is_that_of_seed_and_k():
    """Noise would depend on more than (seed, "train", k), from which it is recomputed here."""
    seed = 5
    states, rows = run(CONSTANT_V, optax.sgd(0.0), Constant(0.9), 4, seed)
    loss = jax.jit(lambda key: Denoising()(Context(CONSTANT_V, states[0].params, points(), key))[0])
    for k, row in enumerate(rows):
        key = jax.random.fold_in(stream(seed, "train"), k)
        np.testing.assert_allclose(row["loss"], loss(key), rtol=1e-5)
    assert len({float(row["loss"]) for row in rows}) == len(rows)


def test_uint8_images_are_seen_as_floats_from_minus_one_to_one():
    """Pixels would be scaled wrongly: for white ones, x0 = 1 and an output of 0 has loss 1."""
    batch = {"x": jnp.full((4, 2), 255, jnp.uint8), "cond": {}}
    _, rows = run(CONSTANT, optax.sgd(0.1), Constant(0.5), 1, batch=batch)
    np.testing.assert_allclose(rows[0]["loss"], 1.0, rtol=1e-6)


class Counting(Denoising):
    """A loss whose state is the number of its calls."""

    def __call__(self, context):
        value = (context.params["network"]["c"] ** 2).sum()
        return value, {"loss": value}, context.state + 1


def test_the_loss_state_is_carried_from_step_to_step():
    """Losses that learn (importance sampling) would start anew at every step."""

    optimizer = optax.sgd(0.1)
    step = make_step(CONSTANT, Counting(), optimizer, {"mean": Constant(0.5)}, 0)
    state = begin(CONSTANT, optimizer)._replace(loss=jnp.zeros(()))
    for _ in range(3):
        state, _ = step(state, points())
    assert float(state.loss) == 3


def test_the_optimizer_state_advances(first):
    """Adam would have no memory, and the warm-up stay at its start."""
    states, _ = first
    counts = [
        [int(leaf) for leaf in jax.tree.leaves(s.optimizer) if leaf.dtype == jnp.int32]
        for s in states
    ]
    assert counts[0]
    assert all(len(set(c)) == 1 for c in counts)
    assert [c[0] for c in counts] == [0, 1, 2, 3]


@pytest.mark.parametrize("warmup", [0, 4])
def test_the_first_updates_of_adamw_have_the_size_of_the_warm_up(warmup):
    """Adam's first update would not be its rate, times the warm-up 1 / (warmup + 1)."""
    optimizer = adamw(learning_rate=1e-2, warmup=warmup)
    states, _ = run(CONSTANT, optimizer, Constant(0.5), 6)
    c = [np.asarray(s.params["network"]["c"]) for s in states]
    moved = [np.abs(b - a).max() for a, b in itertools.pairwise(c)]
    np.testing.assert_allclose(moved[0], 1e-2 / (warmup + 1), rtol=1e-3)
    np.testing.assert_allclose(moved[5], 1e-2, rtol=0.05)


def test_the_step_keeps_every_type_and_shape():
    """A state that changes its type would compile again at every step, and fit no checkpoint."""
    model, optimizer = Model(SDE, V(), mlp(width=8, depth=1)), adamw()
    state = begin(model, optimizer)
    step = make_step(model, Denoising(), optimizer, {"mean": Constant(0.9)}, 0)
    after, metrics = jax.eval_shape(step, state, points())
    kinds = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), tree)
    assert kinds(after) == kinds(jax.eval_shape(lambda: state))
    binned = metrics.pop("loss_at_logsnr")
    assert binned.shape == (2, len(EDGES) - 1)
    assert all(m.shape == () for m in jax.tree.leaves(metrics))


def spread(*shape):
    """Data in which every row counts differently."""
    return {"x": jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32), "cond": {}}


def descended(model, loss, batch, seed=0, loss_state=(), **settings):
    """Return a state past the first, one step of gradient descent from it, and the metrics."""
    optimizer = optax.sgd(1.0)
    state = begin(model, optimizer)._replace(step=jnp.asarray(7), loss=loss_state)
    step = jax.jit(make_step(model, loss, optimizer, {"mean": Constant(0.5)}, seed, **settings))
    return state, *step(state, batch)


def test_the_accumulated_gradient_is_the_mean_over_the_parts():
    """A row of the batch, or one of its times, would be lost: part i is rows i, i + 3, ...

    The other noise of part i is that of the step's key folded with i.
    """
    seed, parts, batch = 3, 3, spread(12, 2)
    old, new, metrics = descended(CONSTANT_V, Denoising(), batch, seed, accumulate=parts)
    key = jax.random.fold_in(stream(seed, "train"), 7)

    @jax.jit
    @jax.value_and_grad
    def objective(params, i, part):
        return Denoising()(Context(CONSTANT_V, params, part, jax.random.fold_in(key, i)))[0]

    u = Uniform().positions(key, 12)
    part = lambda i: {**batch, "x": batch["x"][i::parts], "u": u[i::parts]}
    every = [objective(old.params, i, part(i)) for i in range(parts)]
    values, grads = zip(*every, strict=True)
    mean = jax.tree.map(lambda *a: sum(a) / parts, *grads)
    moved = jax.tree.map(jnp.subtract, old.params, new.params)
    chex.assert_trees_all_close(moved, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], np.mean(values), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(mean), rtol=1e-5)
    assert set(metrics) == {"loss", "loss_at_logsnr", "grad_norm", "skipped", "spikes"}
    assert metrics["loss"].shape == ()
    assert int(new.step) == 8


def test_without_noise_accumulation_changes_nothing():
    """Accumulation would train at `accumulate` times the rate, with a sum for the mean."""
    _, one, metrics = descended(CONSTANT, Denoising(), points(12))
    _, three, same = descended(CONSTANT, Denoising(), points(12), accumulate=3)
    chex.assert_trees_all_close(three, one, rtol=1e-6)
    assert same.pop("loss_at_logsnr").shape == metrics.pop("loss_at_logsnr").shape  # of other t
    chex.assert_trees_all_close(same, metrics, rtol=1e-6)
    np.testing.assert_allclose(one.params["network"]["c"], POINT, rtol=1e-6)  # rate 1: at once


class Reading(Counting):
    """A loss whose state is what it has seen, in order."""

    def __call__(self, context):
        value, first = (context.params["network"]["c"] ** 2).sum(), context.batch["x"][0, 0]
        return value, {"first": first}, 10 * context.state + first


def test_the_parts_hand_on_the_loss_state_and_their_metrics_are_averaged():
    """Losses that learn would see one part of the batch only."""

    batch = {"x": jnp.tile(jnp.array([[1.0], [2.0], [6.0]]), (4, 2)), "cond": {}}
    _, new, metrics = descended(CONSTANT, Reading(), batch, loss_state=jnp.zeros(()), accumulate=3)
    assert float(new.loss) == 126
    np.testing.assert_allclose(metrics["first"], 3.0, rtol=1e-6)


def test_scanned_steps_are_the_single_ones():
    """Runs would depend on the number of steps per dispatch."""
    k, optimizer = 3, adamw(learning_rate=1e-2)
    model = Model(SDE, V(), mlp(width=8, depth=1))
    step = make_step(model, Denoising(), optimizer, {"mean": Constant(0.9)}, 0)
    batches, state = spread(k, 8, 2), begin(model, optimizer)
    after, stacked = jax.jit(scan(step))(state, batches)
    single, rows = jax.jit(step), []
    for x in batches["x"]:
        state, metrics = single(state, {"x": x, "cond": {}})
        rows.append(metrics)
    chex.assert_trees_all_close(after, state, rtol=1e-6, atol=1e-6)
    assert all(m.shape[0] == k for m in jax.tree.leaves(stacked))
    chex.assert_trees_all_close(stacked, jax.tree.map(lambda *a: jnp.stack(a), *rows), rtol=1e-5)
    assert int(after.step) == k


MARK = np.array([[0, 60], [120, 255]], np.uint8)[..., None]


class Upright(Counting):
    """An objective that undoes the turn that it receives, and reports the error and the turns."""

    def __call__(self, context):
        batch = context.batch
        cos, sin = batch["kept"]["augment"].T
        quarters = jnp.round(jnp.arctan2(sin, cos + 1) / (jnp.pi / 2)).astype(int) % 4
        turned = jnp.stack([jnp.rot90(MARK / 127.5 - 1, k) for k in range(4)])[quarters]
        off = jnp.abs(turned - batch["x"]).max()
        value = (context.params["network"]["c"] ** 2).sum()
        return value, {"off": off, "turns": quarters}, context.state


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.thorough), 3])
def test_images_are_augmented_by_seed_and_step_and_keep_their_labels(accumulate):
    """The network would receive the change of another image, ignore it, and leak it."""
    only = dict.fromkeys(("flip", "flip_y", "scale", "rotate", "stretch", "move"), False)
    reading = pipeline.Reading(augment=Affine(p=1.0, turn=True, **only))
    batch = {"x": jnp.tile(MARK, (12, 1, 1, 1)), "cond": {}}
    optimizer, seen = optax.sgd(1.0), []
    for seed in (0, 1):
        step = jax.jit(
            make_step(
                CONSTANT, Upright(), optimizer, {"mean": Constant(0.5)}, seed, accumulate, reading
            )
        )
        for k in (7, 8, 7):
            state = begin(CONSTANT, optimizer, (2, 2, 1))._replace(step=jnp.asarray(k))
            _, metrics = step(state, batch)
            assert float(metrics["off"]) < 1e-6
            seen.append(metrics["turns"].tobytes())
    assert seen[0] == seen[2] and seen[3] == seen[5]
    assert len(set(seen)) == 4


def test_a_step_that_is_not_finite_changes_nothing_but_its_number():
    """One bad batch would ruin a run: no average and no moment forgets a NaN."""
    optimizer, state = adamw(clip=1.0, warmup=2), None
    step = jax.jit(make_step(CONSTANT_V, Denoising(), optimizer, {"mean": Constant(0.9)}, 0))
    state, _ = step(begin(CONSTANT_V, optimizer), points())
    for k, bad in enumerate((np.nan, np.inf, 3e38), 1):
        x = points()["x"].at[3, 1].set(bad)
        after, metrics = step(state, {"x": x, "cond": {}})
        assert bool(metrics["skipped"]) and not bool(metrics["spikes"])
        assert (int(after.health.skipped), int(after.health.row)) == (k, k)
        assert int(after.step) == int(state.step) + 1
        whole = after._replace(step=state.step, health=state.health)
        jax.tree.map(np.testing.assert_array_equal, whole, state)
        state = after
    good, metrics = step(state, points())
    assert not bool(metrics["skipped"])
    assert (int(good.health.skipped), int(good.health.row)) == (3, 0)
    assert float(jnp.abs(good.params["network"]["c"] - state.params["network"]["c"]).min()) > 0
