"""Optimizers and rates against their formulas."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiers import some

from diffjax import builder
from diffjax.config import ConfigError, load
from diffjax.data.form import labelled
from diffjax.training.optimizer import OPTIMIZERS, RATES, matched, optimizer

pytestmark = pytest.mark.typed

RNG = np.random.default_rng(0)
SHAPES = {
    "network": {
        "Dense_0": {"kernel": (6, 4), "bias": (4,)},
        "Conv_0": {"kernel": (3, 3, 2, 4)},
        "blocks": {"kernel": (2, 5, 5), "bias": (2, 5)},
        "label": {"embedding": (3, 4)},
        "Embedding_0": {"frequencies": (4,)},
    },
    "schedule": {"ends": (2,)},
    "loss": {"u": (3,)},
}
normal = lambda shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)
PARAMS, GRADS = (
    jax.tree.map(normal, SHAPES, is_leaf=lambda s: isinstance(s, tuple)) for _ in range(2)
)
FORM = labelled("points", (2,), 3)


def one_step(made, params=None):
    """Take the first step of all parameters, in one program."""
    params = PARAMS if params is None else params

    @jax.jit
    def step(params, grads):
        return made.update(grads, made.init(params), params)[0]

    return step(params, GRADS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends_and_keeps_types(name):
    """A wrong sign would raise |p|^2, or a wrong type compile again at every step."""
    made = optimizer(OPTIMIZERS[name], learning_rate=0.02)

    def step(carry, _):
        params, state = carry
        grads = jax.tree.map(lambda a: 2 * a, params)
        steps, new = made.update(grads, state, params)
        return (optax.apply_updates(params, steps), new), optax.tree.norm(params)

    start = PARAMS, made.init(PARAMS)
    run = jax.jit(lambda start: jax.lax.scan(step, start, None, 20))
    (params, _), norms = run(start)
    chex.assert_trees_all_equal_shapes_and_dtypes(params, PARAMS)
    assert (np.diff(norms) < 0).all() and norms[-1] < 0.98 * norms[0]


def test_adam_is_its_formula():
    """Adam would differ from arXiv:1412.6980, Alg. 1, in three steps in float64."""
    rate, b1, b2, eps = 0.1, 0.8, 0.9, 1e-3
    made = optimizer(
        functools.partial(OPTIMIZERS["adam"], b1=b1, b2=b2, eps=eps),
        learning_rate=rate,
        clip=None,
    )
    p, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    params = {"network": {"w": jnp.asarray(p, jnp.float32)}}
    state = made.init(params)
    for t in (1, 2, 3):
        g = np.sin(p * t)
        grads = {"network": {"w": jnp.asarray(g, jnp.float32)}}
        steps, state = made.update(grads, state, params)
        params = optax.apply_updates(params, steps)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        np.testing.assert_allclose(params["network"]["w"], p, rtol=1e-5)


def test_lion_steps_by_the_sign():
    """Lion would differ from arXiv:2302.06675, Alg. 2: all steps have the size of the rate."""
    steps = one_step(optimizer(OPTIMIZERS["lion"], learning_rate=0.01))
    chex.assert_trees_all_close(steps, jax.tree.map(lambda g: -0.01 * jnp.sign(g), GRADS))


def test_muon_steps_kernels_by_orthogonal_matrices_and_the_rest_by_adam():
    """A stack of blocks would be one matrix, a convolution several, or kernels use Adam.

    Five steps of Newton and Schulz bring singular values near 1 (to 0.7 to 1.2); each is 0.2
    sqrt(the longer side) here. Adam's first step with Nesterov's momentum is 1 + b1 / (1 + b1).
    """
    rate = 0.01
    steps = one_step(optimizer(OPTIMIZERS["muon"], learning_rate=rate, clip=None))["network"]
    conv = steps["Conv_0"]["kernel"].reshape(18, 4)
    for matrix in (steps["Dense_0"]["kernel"], *steps["blocks"]["kernel"], conv):
        singular = np.linalg.svd(matrix, compute_uv=False)
        ratio = singular / (0.2 * rate * math.sqrt(max(matrix.shape)))
        assert (ratio > 0.5).all() and (ratio < 1.3).all(), ratio
    for path in (("Dense_0", "bias"), ("blocks", "bias"), ("label", "embedding")):
        step, grad = steps[path[0]][path[1]], GRADS["network"][path[0]][path[1]]
        first = rate * (1 + 0.9 / 1.9)
        np.testing.assert_allclose(step, -first * jnp.sign(grad), rtol=1e-3)


@pytest.mark.parametrize(
    "name", some([k for k in OPTIMIZERS if k not in ("adam", "radam")], ("adamw", "muon"))
)
def test_weight_decay_is_for_the_network_alone(name):
    """A learned schedule would be pulled to zero, and fixed frequencies move."""
    core = lambda decay: functools.partial(OPTIMIZERS[name], weight_decay=decay)
    without, with_it = (one_step(optimizer(core(decay))) for decay in (0.0, 0.5))
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), without, with_it)
    assert not any(jax.tree.leaves((differs["schedule"], differs["loss"])))
    assert not differs["network"]["Embedding_0"]["frequencies"]
    assert differs["network"]["Dense_0"]["kernel"] and differs["network"]["Conv_0"]["kernel"]


def followed(steps, **settings):
    """Return the rates of the first steps, from gradient descent on a gradient of 1."""
    made = optimizer(lambda rate: optax.sgd(rate), clip=None, **settings)
    params = {"network": {"w": jnp.zeros(())}}
    ones = jax.tree.map(jnp.ones_like, params)

    def step(state, _):
        steps, state = made.update(ones, state, params)
        return state, -steps["network"]["w"]

    return np.asarray(jax.jit(lambda s: jax.lax.scan(step, s, None, steps)[1])(made.init(params)))


FORMULAS = {
    "constant": ({}, lambda t: np.ones_like(t)),
    "linear": ({"length": 40, "final": 0.2}, lambda t: 1 - 0.8 * np.minimum(t / 40, 1)),
    "cosine": (
        {"length": 40, "final": 0.2},
        lambda t: 0.2 + 0.4 * (1 + np.cos(np.pi * np.minimum(t / 40, 1))),
    ),
    "inverse_sqrt": ({"reference": 16}, lambda t: 1 / np.sqrt(np.maximum(t / 16, 1))),
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_rate_is_its_formula_times_the_warm_up(name, batch_size):
    """Steps would be counted as images, or the warm-up be lost. batch_size: lengths in images."""
    settings, formula = FORMULAS[name]
    unit = batch_size or 1
    settings = {k: v if k == "final" else v * unit for k, v in settings.items()}
    made = followed(
        60,
        learning_rate=0.5,
        warmup=9 * unit,
        schedule=RATES[name](**settings),
        in_images=batch_size is not None,
        batch_size=batch_size or 7,
    )
    t = np.arange(60.0)
    np.testing.assert_allclose(made, 0.5 * formula(t) * np.minimum((t + 1) / 10, 1), rtol=1e-5)


def test_groups_have_their_own_rates():
    """A pattern would scale all parameters, or none. Factors of two patterns multiply."""
    rates = {"label": 0.5, "^network/.*/(bias|embedding)$": 0.1, "Conv": 0.0}
    steps = one_step(optimizer(optax.sgd, learning_rate=1.0, clip=None, rates=rates))
    expected = jax.tree.map(lambda g: -g, GRADS)
    expected["network"]["label"]["embedding"] *= 0.05
    expected["network"]["Dense_0"]["bias"] *= 0.1
    expected["network"]["blocks"]["bias"] *= 0.1
    expected["network"]["Conv_0"]["kernel"] *= 0.0
    chex.assert_trees_all_close(steps, expected, rtol=1e-6)


def test_the_gradient_is_clipped_before_the_optimizer():
    """A burst would pass, or each gradient be clipped by its own norm."""
    steps = one_step(optimizer(optax.sgd, learning_rate=1.0, clip=0.5))
    np.testing.assert_allclose(optax.tree.norm(steps), 0.5, rtol=1e-5)
    chex.assert_trees_all_close(
        one_step(optimizer(optax.sgd, learning_rate=1.0, clip=None)),
        jax.tree.map(lambda g: -g, GRADS),
    )


def configured(**changes):
    """Return an optimizer around a network that traces fast: all parameters follow its rules."""
    config = load("digits_vp") | {"network": {"name": "mlp", "width": 8, "depth": 1}}
    config["data"] = {"name": "moons", "labels": True}
    return builder.experiment(config | changes, FORM)


@pytest.mark.parametrize("name", some(OPTIMIZERS, ("adam", "adafactor")))
def test_every_optimizer_is_built_from_a_config(name):
    """A state would change its type, compile again at every step, and fit no checkpoint."""
    schedule = {"name": "cosine", "length": 100}
    e = configured(optimizer={"name": name, "schedule": schedule, "rates": {"Dense_0": 0.0}})
    state = jax.eval_shape(e.initialise)
    batch = {"x": jnp.zeros((8, *FORM.shape)), "cond": {"label": jnp.zeros(8, jnp.int32)}}
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(e.step(), state, batch)[0], state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": "cosin"},
            "schedule.name='cosin': unknown (did you mean 'cosine'?)",
        ),
        ({"schedule": "cosine"}, "config.optimizer.schedule: length=0: needs length > 0"),
        ({"schedule": {"name": "inverse_sqrt"}}, "schedule: reference=0: needs reference > 0"),
        ({"schedule": {"name": "linear", "length": 1, "final": 2}}, "final=2.0: needs 0 <= final"),
        (
            {"rates": {"Conv": 0.1}},
            "optimizer.rates: 'Conv': matches no parameter; known: ",
        ),
        ({"rates": {"(": 0.1}}, "config.optimizer.rates: '(': not a regular expression"),
        ({"rates": {"Dense": -1.0}}, "config.optimizer: Dense=-1.0: needs Dense >= 0"),
        ({"rates": {"Dense": "low"}}, "config.optimizer.rates.Dense='low': needs float, got str"),
        ({"momentum": 0.9}, "config.optimizer.momentum: no such field; known: b1, b2, clip, eps"),
        ({"weight_decay": -1.0}, "config.optimizer: weight_decay=-1.0: needs weight_decay >= 0"),
        ({"clip": 0.0}, "config.optimizer: clip=0.0: needs clip > 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(changes, message):
    """A typing error would silently train at another rate."""
    with pytest.raises(ConfigError) as error:
        configured(optimizer={"name": "adamw"} | changes)
    assert message in str(error.value)


def test_patterns_may_be_left_out():
    """A config that is written to a file, with its default of None, would be refused."""
    matched(None, PARAMS)


@pytest.mark.parametrize(
    ("ema", "message"),
    [
        ({}, "config.ema: has no entry; known: constant, half_life, power, warmup"),
        ({"raw": {"name": "power"}}, "config.ema.raw: needs an identifier, and not 'raw' or"),
        ({"nan": {"name": "power"}}, "config.ema.nan: needs an identifier, and not 'raw' or"),
        ({"a/b": {"name": "power"}}, "config.ema.a/b: needs an identifier"),
        ({"a": {"name": "pwr"}}, "config.ema.a.name='pwr': unknown (did you mean 'power'?)"),
        ({"a": 0.99}, "config.ema.a=0.99: needs fields"),
    ],
)
def test_names_of_averages_that_cannot_be_chosen_are_refused(ema, message):
    """`--ema=raw` and `--ema=0.1` would mean two things."""
    with pytest.raises(ConfigError) as error:
        configured(ema=ema)
    assert message in str(error.value)


def test_averages_go_by_their_names():
    """Averages could not be chosen by name; a single entry is chosen by its own."""
    power = lambda std: {"name": "power", "std": std}
    e = configured(ema={"short": power(0.05), "mean": {"name": "warmup"}, "long": power(0.1)})
    assert list(e.averages) == ["long", "mean", "short"] and e.stds == {"short": 0.05, "long": 0.1}
    assert set(jax.eval_shape(e.initialise).ema) == set(e.averages)
    assert list(configured().averages) == ["power"]


def test_snapshots_need_an_average_to_take_them_of():
    """A run would finish without any snapshot."""
    train = load("digits_vp")["train"]
    with pytest.raises(ConfigError, match="snapshot_every=50: needs power-function"):
        configured(ema={"name": "constant"}, train=train | {"snapshot_every": 50})
    with pytest.raises(ConfigError, match="snapshot_every=55: needs a multiple of steps_per_disp"):
        configured(train=train | {"snapshot_every": 55})
    with pytest.raises(ConfigError, match="snapshot_every=-1: needs snapshot_every >= 0"):
        configured(train=train | {"snapshot_every": -1})
