"""From the network output to both views, and the same network under another process."""

from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture
from diffjax.arrays import expand
from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.grids import uniform
from diffjax.nets import Network
from diffjax.parameterization import NOISE_LABELS, PARAMETERIZATIONS, V
from diffjax.prediction import predict
from diffjax.samplers import ancestral, sample
from diffjax.schedules import Cosine, Linear, Logit
from diffjax.sde import VE, VP, Flow, SubVP, ends, levels

FINITE = [VP(Linear(), t_min=1e-5), VE(Linear(), t_min=1e-5), VP(Cosine(), 1e-5, 0.99)]
FINITE += [SubVP(Linear(), t_min=1e-5), Flow(Logit(), 1e-5, 0.99)]
name = lambda sde: f"{type(sde).__name__}-{type(sde.schedule).__name__}"


def init(key, x, c_noise, cond):
    return {}


def known_output(params, x, c_noise, cond, *, key=None):
    return params["F"]


def given(sde, parameterization, output):
    """Return a denoiser whose network returns `output` for every input."""
    model = Model(sde, parameterization, Network(init, known_output))
    return Denoiser(model, {"network": {"F": output}})


# The time of each noise label.
TIME = {
    "time": lambda sde, label: label / 1000,
    "time_999": lambda sde, label: label / 999,
    "time_999_reversed": lambda sde, label: 1 - label / 999,
    "rescaled_index": lambda sde, label: label / 1000 + 1 / sde.schedule.steps,
    "index": lambda sde, label: (label + 1) / sde.schedule.steps,
    "angle": lambda sde, label: sde.inverse(-2 * jnp.log(jnp.tan(label * jnp.pi / 2000))),
    "t": lambda sde, label: label,
    "one_minus_t": lambda sde, label: 1 - label,
    "half_logsnr": lambda sde, label: sde.inverse(2 * label),
    "log_sigma": lambda sde, label: sde.inverse(-2 * label),
    "log_half_sigma": lambda sde, label: sde.inverse(-2 * (label + jnp.log(2.0))),
    "quarter_log_sigma": lambda sde, label: sde.inverse(-8 * label),
}
REFUSED_AT_ALPHA_0 = {"eps", "score"}


def test_every_noise_label_stands_for_a_time():
    """A label in the catalogue without its inverse here would go untested."""
    assert set(TIME) == set(NOISE_LABELS)


@dataclass(frozen=True)
class ExactOutput:
    """The perfectly trained network of mixture data, which sees c_in x and c_noise only."""

    sde: Any
    parameterization: Any

    def __call__(self, params, x, c_noise, cond, *, key=None):
        t = TIME[self.parameterization.c_noise.__name__](self.sde, c_noise)
        x = x / expand(self.parameterization.c_in(self.sde, t), x)
        exact = params["data"].denoiser(self.sde)(x, t, cond)
        a, b = self.parameterization.target(self.sde, t)
        return expand(a, x) * exact.x0 + expand(b, x) * exact.eps


def trained(sde, parameterization, data):
    network = Network(init, ExactOutput(sde, parameterization))
    return Denoiser(Model(sde, parameterization, network), {"network": {"data": data}})


def mixture():
    mean = jnp.array([[-1.0, 0.5], [1.0, 0.0], [0.0, 2.0]])
    return Mixture(jnp.array([0.5, 0.3, 0.2]), mean, 0.1 + 0.2 * mean**2)


@pytest.mark.parametrize("sde", FINITE, ids=name)
def test_round_trip_recovers_x0_and_eps(sde):
    """Views would lose digits beyond what rounding of x and F costs.

    The cost is the sum of |coefficient * operand|, in units of 1e-6: 1 / alpha where F is eps, 1 /
    sigma where F is x0. It is nothing for v, velocity and edm where alpha and sigma are at most 1:
    these must stay within 1e-5 from t = 1e-5.
    """
    t = jnp.asarray(np.geomspace(sde.t_min, sde.t_max, 16), jnp.float32)
    x0, eps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 8)), jnp.float32)

    @jax.jit
    def views(t):
        made = {}
        for kind, parameterization in PARAMETERIZATIONS.items():
            a, b = (expand(c, x0) for c in parameterization().target(sde, t))
            x, output = sde.perturb(x0, eps, t), a * x0 + b * eps
            made[kind] = given(sde, parameterization(), output)(x, t), a, b, x
        return made

    at = levels(sde, np.asarray(t))
    alpha, sigma = at.alpha[:, None], at.sigma[:, None]
    for kind, (p, a, b, x) in views(t).items():
        det = np.abs(np.asarray(a) * sigma - np.asarray(b) * alpha)
        cost_x0 = (sigma * np.abs(p.output) + np.abs(b * x)) / det
        cost_eps = (alpha * np.abs(p.output) + np.abs(a * x)) / det
        assert (np.abs(p.x0 - x0) <= 1e-6 * (1 + cost_x0)).all(), kind
        assert (np.abs(p.eps - eps) <= 1e-6 * (1 + cost_eps)).all(), kind
        if kind in ("v", "velocity", "edm") and not isinstance(sde, VE):
            chex.assert_trees_all_close((p.x0, p.eps), (x0, eps), atol=1e-5)


@pytest.mark.parametrize("parameterization", sorted(set(PARAMETERIZATIONS) - REFUSED_AT_ALPHA_0))
def test_views_at_zero_signal_are_the_limits(parameterization):
    """The first sampler row from pure noise (cosine, t = 1) would be NaN."""
    sde, t = VP(Cosine()), jnp.ones(4)
    x0, eps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
    parameter = PARAMETERIZATIONS[parameterization]()

    @jax.jit
    def views(t):
        a, b = (expand(c, x0) for c in parameter.target(sde, t))
        return given(sde, parameter, a * x0 + b * eps)(sde.perturb(x0, eps, t), t)

    p = views(t)
    chex.assert_trees_all_close((p.x0, p.eps), (x0, eps), atol=1e-6)


@pytest.mark.parametrize("parameterization", sorted(REFUSED_AT_ALPHA_0))
def test_noise_alone_at_zero_signal_is_refused_by_name(parameterization):
    """The model would train, and every sample of it would be NaN."""
    with pytest.raises(ValueError, match=f"{parameterization} with .*alpha is 0 at t_max"):
        Model(VP(Cosine()), PARAMETERIZATIONS[parameterization](), Network(init, known_output))


@pytest.mark.parametrize("sde", FINITE, ids=name)
@pytest.mark.typed
def test_both_views_give_back_x(sde, x64):
    """x0 and eps of an imperfect network would contradict each other."""
    t = jnp.linspace(sde.t_min, sde.t_max, 16)
    x, output = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 3)))

    @jax.jit
    def views(t):
        made = [given(sde, p(), output)(x, t) for p in PARAMETERIZATIONS.values()]
        made.append(predict(sde, x, t, output))
        return made, [sde.perturb(p.x0, p.eps, t) for p in made]

    made, back = views(t)
    assert all((p.output == output).all() for p in made)
    np.testing.assert_array_equal(made[-1].x0, output)
    chex.assert_trees_all_close(back, [x] * len(back), rtol=1e-9, atol=1e-9)


@pytest.mark.typed
def test_network_gets_scaled_input_label_condition_and_key():
    """A network would receive raw x or raw t, or lose its condition or dropout key."""
    seen = []

    def apply(params, x, c_noise, cond, *, key=None):
        seen.append((x, c_noise, cond, key))
        return x

    parameter = V(sigma_data=0.5)
    model = Model(VE(Linear()), parameter, Network(init, apply))
    x, t, key = jnp.ones((2, 3)), jnp.array([0.5, 1.0]), jax.random.key(3)
    cond = {"label": jnp.array([1, 2])}
    params = model.init(key, x, cond)
    assert params == {"network": {}}
    Denoiser(model, params)(x, t, cond, key=key)
    model.output(params, x, t, None, None)
    at = levels(model.sde, np.asarray(t))
    scaled = (1 / np.sqrt(0.25 + at.sigma**2))[:, None] * np.ones((2, 3))
    np.testing.assert_allclose(seen[0][0], scaled, rtol=1e-5)
    np.testing.assert_allclose(seen[0][1], [500, 1000], rtol=1e-6)
    assert seen[0][2] is cond and seen[0][3] is key
    assert seen[1][2] is None and seen[1][3] is None


def test_leaves_of_a_denoiser_are_its_parameters():
    """Settings would be traced, or equal denoisers compile the sampler again."""
    denoise = given(VP(Linear()), V(), jnp.ones((2, 3)))
    other = given(VP(Linear()), V(), jnp.zeros((2, 3)))
    assert [leaf.shape for leaf in jax.tree.leaves(denoise)] == [(2, 3)]
    assert jax.tree.structure(denoise) == jax.tree.structure(other)


FRAMES = [
    (VP(Linear()), VE(Linear())),
    (VE(Linear()), VP(Linear())),
    (VP(Cosine(), t_max=0.99), VE(Linear(), t_min=5e-3, t_max=0.9)),
    (VE(Linear()), VP(Cosine(), t_min=5e-3, t_max=0.9)),
]


# From VP in this test and back in the next one, or the reverse.
REFRAMES = [(p, "time", *FRAMES[i % 2]) for i, p in enumerate(PARAMETERIZATIONS)]
RETURNS = [
    pytest.param(p, *FRAMES[1 - i % 2], marks=[] if i < 2 else [pytest.mark.thorough])
    for i, p in enumerate(PARAMETERIZATIONS)
]
REFRAMES += [
    pytest.param("v", label, *FRAMES[2 + i % 2], marks=[] if i % 3 == 0 else [pytest.mark.thorough])
    for i, label in enumerate(NOISE_LABELS)
]


@pytest.mark.parametrize(("parameterization", "label", "old", "new"), REFRAMES)
def test_reframed_network_is_the_exact_denoiser_of_the_other_process(
    parameterization, label, old, new, x64
):
    """Rereading the output in the other frame would be wrong for v, a wrong t' for all."""
    data, parameter = mixture(), PARAMETERIZATIONS[parameterization](c_noise=NOISE_LABELS[label])
    denoise = reframe(trained(old, parameter, data), new)
    t = jnp.linspace(new.t_min, new.t_max, 16)
    x0, eps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 2)))

    @jax.jit
    def both(t):
        x = new.perturb(x0, eps, t)
        ours, exact = denoise(x, t), data.denoiser(new)(x, t)
        return (ours.x0, ours.eps), (exact.x0, exact.eps)

    ours, exact = both(t)
    chex.assert_trees_all_close(ours, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("parameterization", "old", "new"), RETURNS)
def test_sampling_in_another_frame_gives_the_same_samples(parameterization, old, new, x64):
    """Training in VP and sampling in VE, or the reverse, would change the samples."""
    data, keys = mixture(), jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 8)
    parameter = PARAMETERIZATIONS[parameterization]()
    eps = np.random.default_rng(1).normal(size=(8, 2))

    def run(sde, denoise):
        # Equal x / alpha under both processes, at pure noise.
        x = jnp.asarray(ends(sde).sigma[1] * eps)
        return sample(denoise, ancestral(sde, uniform(sde, 6)), x, keys)

    ours = run(new, reframe(trained(old, parameter, data), new))
    chex.assert_trees_all_close(ours, run(old, data.denoiser(old)), atol=1e-6)
    assert np.abs(np.asarray(ours)).max() > 0.5


@pytest.mark.parametrize("parameterization", sorted(set(PARAMETERIZATIONS) - REFUSED_AT_ALPHA_0))
@pytest.mark.typed
def test_reframe_at_zero_signal(parameterization, x64):
    """The scale alpha' / alpha would be 0 / 0 at the start of a cosine process."""
    old, new, data = VP(Cosine(0.008)), VP(Cosine(0.0), t_min=0.05), mixture()
    denoise = reframe(trained(old, PARAMETERIZATIONS[parameterization](), data), new)
    both = jax.jit(lambda x, t: (denoise(x, t).x0, data.denoiser(new)(x, t).x0))
    chex.assert_trees_all_close(*both(jnp.ones((2, 2)), jnp.ones(2)), atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (VP(Linear()), VP(Cosine(), t_min=0.1)),  # noisier than trained
        (VP(Linear()), VE(Linear(), t_min=1e-4)),  # cleaner than trained
        (VP(Cosine(), t_max=0.9), VE(Linear(), t_min=0.01)),
    ],
)
def test_reframe_refuses_noise_levels_outside_the_trained_range(old, new):
    """The network would be evaluated outside its training range, or silently clamped."""
    with pytest.raises(ValueError, match="exceeds the trained one"):
        reframe(trained(old, V(), mixture()), new)
