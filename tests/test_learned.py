"""The learned schedule: its form, its gradients against quadrature, and a run with it."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import builder, config
from diffjax.devices import mesh
from diffjax.nets import Network
from diffjax.schedules import Learned
from diffjax.sde import SDES, VP
from diffjax.training import loop
from diffjax.training.workdir import load_state

WIDTH = 5
FORM = ("slope", "scale", "bend", "centre")
T = np.linspace(0.0, 1.0, 201)
seeds = pytest.mark.parametrize("seed", range(4))


def drawn(seed: int, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Return random parameters: ends, and a form with steps anywhere."""
    rng = np.random.default_rng(seed)
    made = {
        "ends": np.array([rng.uniform(3, 15), np.log(rng.uniform(5, 25))]),
        "slope": rng.normal(size=1),
        "scale": rng.normal(-1.0, 2.0, width),
        "bend": rng.normal(2.0, 1.0, width),
        "centre": rng.uniform(-0.2, 1.2, width),
    }
    return {k: v.astype(np.float32) for k, v in made.items()}


def bound(seed: int) -> Learned:
    return Learned(width=WIDTH).bind(drawn(seed))


@jax.jit
def values(params, t):
    """Return l at t, and t by the inverse, from one program for all parameters."""
    schedule = Learned(width=WIDTH).bind(params)
    return schedule(t), schedule.inverse(schedule(t))


def slope(schedule, t):
    """Return l' at t."""
    return jax.jvp(schedule, (t,), (jnp.ones_like(t),))[1]


@jax.jit
def rates(params, t):
    """Return l' at t."""
    return slope(Learned(width=WIDTH).bind(params), t)


@seeds
@pytest.mark.typed
def test_falls_between_its_ends_and_has_its_inverse(seed, x64):
    """Time would not order noise levels, for parameters that training may reach."""
    ends = drawn(seed)["ends"].astype(np.float64)
    l, back = values(drawn(seed), jnp.asarray(T))
    assert (np.diff(l) < 0).all()
    np.testing.assert_allclose(
        np.asarray(l)[[0, -1]], [ends[0], ends[0] - np.exp(ends[1])], rtol=1e-12
    )
    np.testing.assert_allclose(back, T, atol=1e-9)


@pytest.mark.parametrize("ends", [(13.3, -5.0), (4.0, -20.0)])
def test_begins_near_the_straight_line_between_the_ends_it_is_given(ends):
    """A run would start from another schedule than that of its config."""
    schedule = Learned(*ends)
    l = jax.jit(schedule)(jnp.asarray(T, jnp.float32))
    np.testing.assert_allclose(np.asarray(l)[[0, -1]], ends, rtol=1e-6)
    line = ends[0] + (ends[1] - ends[0]) * T
    assert np.abs(l - line).max() < 0.01 * (ends[0] - ends[1])
    assert np.abs(l - line).max() > 1e-4  # each unit contributes, so that it is trained


@seeds
def test_float32_is_float64(seed):
    """Float64 tables of samplers would have other noise levels than the network was trained with.

    The inverse costs the rounding of l over its slope.
    """
    l, back = values(drawn(seed), jnp.asarray(T, jnp.float32))
    rate = np.abs(rates(drawn(seed), jnp.asarray(T, jnp.float32)))
    with jax.enable_x64(True):
        exact, _ = values(drawn(seed), jnp.asarray(T.astype(np.float32), jnp.float64))
    np.testing.assert_allclose(l, exact, rtol=3e-6, atol=3e-5)
    assert (np.abs(back - T) <= 1e-6 + 3e-5 / rate).all()


def test_bound_schedules_are_equal_as_their_parameters_are():
    """Samplers would compile again for the same schedule, or use the program of another."""
    fresh = Learned(width=WIDTH)
    one, same, other = bound(0), bound(0), bound(1)
    assert one == same and hash(one) == hash(same) and one.bind(drawn(0)) == one
    on_device = fresh.bind(jax.tree.map(jnp.asarray, drawn(0)))
    assert on_device == one and hash(on_device) == hash(one)
    assert len({fresh, one, other}) == 3
    sde = VP(fresh)
    assert sde.bind(drawn(0)) == VP(one) != VP(other) and sde.bind({}) is sde


def test_binding_its_own_beginning_changes_no_value():
    """A fresh run would be planned with another schedule than its first one."""
    fresh, t = Learned(), jnp.asarray(T, jnp.float32)
    np.testing.assert_allclose(fresh.bind(fresh.init())(t), fresh(t), rtol=1e-6, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.typed
def test_bind_takes_traced_parameters():
    """No training step could be compiled, in some frame."""
    t = jnp.linspace(0.01, 1.0, 7)

    def in_frame(frame, params):
        sde = SDES[frame](Learned(width=WIDTH)).bind(params)
        return sde.alpha(t), sde.sigma(t), sde.inverse(sde.logsnr(t)), sde.wronskian(t)

    all_frames = lambda params: {frame: in_frame(frame, params) for frame in SDES}
    traced = jax.jit(all_frames)(drawn(2))
    fixed = jax.jit(lambda: all_frames(drawn(2)))()  # bound to numbers
    chex.assert_trees_all_close(traced, fixed, rtol=2e-5, atol=1e-6)


def test_derivatives_of_the_inverse(x64):
    """Draws by log-SNR would divide by a wrong density, which is this derivative."""
    schedule, params = bound(3), drawn(3)
    t = jnp.asarray(T[5:-5:10])
    l, _ = values(params, t)
    by_l = jax.jit(lambda l: jax.jvp(schedule.inverse, (l,), (jnp.ones_like(l),))[1])(l)
    np.testing.assert_allclose(by_l, 1 / rates(params, t), rtol=1e-9)

    # Derivatives in the ends, at the same l, against a small difference.
    @jax.jit
    def at(ends, direction):
        inverse = lambda ends: schedule.bind({**params, "ends": ends}).inverse(l)
        return jax.jvp(inverse, (ends,), (direction,))

    for direction in np.eye(2):
        ends, h = params["ends"].astype(np.float64), 1e-5 * direction
        up, down = (at(e, direction)[0] for e in (ends + h, ends - h))
        np.testing.assert_allclose(at(ends, direction)[1], (up - down) / 2e-5, rtol=1e-6)


def wide(seed: int) -> dict[str, np.ndarray]:
    return jax.tree.map(lambda a: a.astype(np.float64), drawn(seed))


@jax.jit
@jax.grad
def total_gradient(params, weight):
    return (weight * Learned(width=WIDTH).bind(params)(jnp.asarray(T))).sum()


@seeds
def test_values_have_a_gradient_in_the_ends_only(seed, x64):
    """The form would follow the noise of a bound that does not depend on it."""
    weight = np.random.default_rng(seed).normal(size=len(T))
    grads = total_gradient(wide(seed), weight)
    for name in FORM:
        np.testing.assert_array_equal(grads[name], np.zeros_like(grads[name]))
    first, log_range = drawn(seed)["ends"].astype(np.float64)
    g = (first - np.asarray(values(drawn(seed), jnp.asarray(T))[0])) / np.exp(log_range)
    exact = [weight.sum(), -(weight * g).sum() * np.exp(log_range)]
    np.testing.assert_allclose(grads["ends"], exact, rtol=1e-9)


def toy(l):
    """Return the squared error of eps at a log-SNR, in place of a network's."""
    return jax.nn.sigmoid((3 - l) / 2) ** 2 + 0.05 + 0.3 * jnp.exp(-((l - 1) ** 2))


def plain(params, t):
    """Return l at t by its definition, without stopped gradients."""
    u = lambda t: (
        jnp.exp(params["slope"][0]) * t
        + sum(
            jnp.exp(s) * jax.nn.sigmoid(jnp.exp(b) * (t - c))
            for s, b, c in zip(params["scale"], params["bend"], params["centre"], strict=True)
        )
    )
    zero, one = u(jnp.zeros_like(t)), u(jnp.ones_like(t))
    return params["ends"][0] - jnp.exp(params["ends"][1]) * (u(t) - zero) / (one - zero)


def losses(params, t):
    """Return L(t) = -l' e(l) / 2, whose integral is the variational bound."""
    l, rate = jax.jvp(lambda t: plain(params, t), (t,), (jnp.ones_like(t),))
    return -rate * toy(l) / 2


@jax.jit
def both_gradients(params):
    """Return value and gradient of the term, and the gradient of log E[L^2]."""
    t = jnp.asarray((np.arange(20_000) + 0.5) / 20_000)
    loss = losses(params, t)
    term = lambda p: Learned(width=WIDTH).bind(p).variance(t, loss, jnp.ones_like(t))
    exact = jax.grad(lambda p: jnp.log((losses(p, t) ** 2).mean()))(params)
    return jax.value_and_grad(term)(params), exact


@seeds
@pytest.mark.typed
def test_variance_has_the_gradient_of_the_second_moment(seed, x64):
    """The form would be trained for something other than a small variance of the loss.

    The reference is plain differentiation of the integral of L^2 over t, relative to its value.
    """
    (value, ours), exact = both_gradients(wide(seed))
    assert value == 0
    np.testing.assert_array_equal(ours["ends"], np.zeros(2))  # they are trained by the bound alone
    for name in FORM:
        assert np.abs(exact[name]).max() > 1e-3
        np.testing.assert_allclose(ours[name], exact[name], rtol=1e-6, atol=1e-6)


def test_variance_differentiates_nothing_but_the_form(x64):
    """The network would be trained for a small variance too, in place of a small loss."""
    t = T[1:-1]
    grad = jax.jit(jax.grad(lambda loss: bound(0).variance(t, loss, np.ones_like(t))))(1 + t)
    np.testing.assert_array_equal(grad, np.zeros(len(t)))


@pytest.mark.thorough
def test_training_the_form_lowers_the_variance_and_keeps_the_mean():
    """A wrong sign would raise the variance, and a form that moves the ends change the bound."""
    t, optimizer = jnp.asarray((np.arange(512) + 0.5) / 512, jnp.float32), optax.adam(0.02)
    term = lambda p, loss: Learned().bind(p).variance(t, loss, jnp.ones_like(t))

    def descend(carry, _):
        params, state = carry
        loss = losses(params, t)
        updates, state = optimizer.update(jax.grad(term)(params, loss), state)
        return (optax.apply_updates(params, updates), state), (loss.mean(), loss.var())

    params = Learned().init()
    begin = params, optimizer.init(params)
    (params, _), (mean, var) = jax.jit(lambda b: jax.lax.scan(descend, b, length=300))(begin)
    assert var[-1] < 0.1 * var[0]
    np.testing.assert_allclose(mean, mean[0], rtol=1e-2)
    chex.assert_trees_all_equal(params["ends"], Learned().init()["ends"])


@pytest.fixture(scope="module")
def run(tiny_array, tmp_path_factory):
    """A few steps of a tiny variational diffusion model: experiment, last state and workdir."""
    settings = config.override(
        config.load("cifar_vdm"),
        [
            f"data.name=array:{tiny_array}",
            "optimizer.learning_rate=0.03",
            "optimizer.warmup=0",
            "ema.decay=0.5",
            "train.batch_size=8",
            "train.steps=4",
            "train.log_every=2",
            "train.sample_every=4",
            "train.checkpoint_every=4",
            "train.samples=2",
            "sampling.steps=3",
        ],
    )
    settings["network"] = {"name": "dit", "width": 8, "depth": 1, "heads": 2}
    # The schedule is trained whatever the network: one number is enough, and compiles fast.
    apply = lambda params, x, c_noise, cond, key=None: params["c"] * x
    network = Network(lambda *inputs: {"c": jnp.full((), 0.1)}, apply)
    experiment, workdir = builder.experiment(settings), tmp_path_factory.mktemp("vdm")
    model = dataclasses.replace(experiment.model, network=network)
    experiment = dataclasses.replace(experiment, model=model)
    state, _ = loop.train(experiment, workdir, mesh.layout(jax.devices()[:1]))
    return experiment, state, workdir


def test_a_run_trains_every_parameter_of_the_schedule(run):
    """A parameter without a gradient would keep its initial value, unnoticed."""
    experiment, state, _ = run
    fresh = experiment.model.sde.schedule.init()
    assert set(state.params["schedule"]) == set(state.ema["constant"]["schedule"]) == set(fresh)
    for name, value in fresh.items():
        assert (np.abs(state.params["schedule"][name] - value) > 1e-6).all(), name


@pytest.mark.typed
def test_the_checkpoint_holds_the_schedule(run):
    """Samples would be drawn with the initial schedule."""
    experiment, state, workdir = run
    found = load_state(experiment, workdir)
    chex.assert_trees_all_equal(found.params["schedule"], state.params["schedule"])
    chex.assert_trees_all_equal(
        found.ema["constant"]["schedule"], state.ema["constant"]["schedule"]
    )


def test_sampling_uses_the_trained_ends(run):
    """The first row would have another noise level than the network was trained at."""
    experiment, state, _ = run
    denoise = experiment.denoiser(state.ema["constant"])
    (l_max, d), sde = np.asarray(state.ema["constant"]["schedule"]["ends"], np.float64), denoise.sde
    assert hash(sde) == hash(experiment.denoiser(state.ema["constant"]).sde)
    l = np.asarray(sde.logsnr(jnp.array([0.0, 1.0])), np.float64)
    np.testing.assert_allclose(l, [l_max, l_max - np.exp(d)], rtol=1e-5)
    ours, fresh = experiment.plan(sde).table, experiment.plan(experiment.model.sde).table
    assert len(ours) == len(fresh)
    assert not np.allclose(ours.update, fresh.update, rtol=1e-3)


def test_a_denoiser_knows_its_process_in_a_traced_function(run):
    """Samplers would be planned with the initial schedule, or not compile."""
    experiment, state, _ = run
    denoise, t = experiment.denoiser(state.ema["constant"]), jnp.array([0.1, 0.5, 1.0])
    inside = jax.jit(lambda denoise, t: (denoise.sde.alpha(t), denoise.sde.sigma(t)))(denoise, t)
    chex.assert_trees_all_close(inside, (denoise.sde.alpha(t), denoise.sde.sigma(t)), rtol=1e-5)
    assert not np.allclose(inside[0], experiment.model.sde.alpha(t), rtol=1e-3)


def test_a_denoiser_without_a_learned_schedule_has_the_process_of_its_model(run):
    """Equal processes would be constructed again, and compile again."""
    experiment, state, _ = run
    model = dataclasses.replace(experiment.model, sde=VP(Learned().bind(Learned().init())))
    params = {"network": state.ema["constant"]["network"]}
    assert model.bind(params) is model
