"""Distribution matching against closed forms in float64, and a run with a critic.

Data and generated samples are Gaussian, so every divergence and both denoisers have closed forms.
Expectations over noise are Gauss-Hermite sums, which are exact here.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax
from diffjax import analytic, builder, schedules
from diffjax.arrays import expand
from diffjax.config import load, override
from diffjax.denoiser import Denoiser, Model
from diffjax.draws import ScoreNorm
from diffjax.nets import Network
from diffjax.objectives import Context, DistributionMatching, Task
from diffjax.objectives.matching import KL, Fisher, Match
from diffjax.parameterization import X0, V, Velocity, time_999
from diffjax.runs.trained import Trained
from diffjax.sde import VE, VP, Flow
from diffjax.training.workdir import load_state
from diffjax.weights import uniform_eps, uniform_score

MEAN, VAR = 0.7, 0.3
TIMES = (0.2, 0.5, 0.9)
CASES = {
    "flow": (Flow(schedules.Logit()), Velocity(c_noise=time_999)),
    "vp": (VP(schedules.Cosine(), t_max=0.99), V(c_noise=time_999)),
    "ve": (VE(schedules.Karras(sigma_max=5.0)), X0(c_noise=time_999)),
}
cases = pytest.mark.parametrize(
    "case", ["flow", *(pytest.param(n, marks=pytest.mark.thorough) for n in ("vp", "ve"))]
)
STUDENT = np.array([0.2, 0.5])
"""Mean and deviation of the generated samples."""


@dataclass(frozen=True)
class Affine:
    """A network that generates mean + deviation eps at t_max, and denoises that law elsewhere."""

    sde: Any
    parameterization: Any

    def apply(self, params, x, c_noise, cond, *, key=None):
        t = c_noise / 999
        x = x / expand(self.parameterization.c_in(self.sde, t), x)
        mean, deviation = params["law"]
        made = mean + deviation * x / expand(self.sde.sigma(t), x)
        p = analytic.gaussian(mean[None], deviation[None] ** 2).denoiser(self.sde)(x, t)
        first = expand(t > 0.999 * self.sde.t_max, x)
        x0 = jnp.where(first, made, p.x0)
        alpha, sigma = (expand(f(t), x) for f in (self.sde.alpha, self.sde.sigma))
        eps = (x - alpha * x0) / sigma
        a, b = self.parameterization.target(self.sde, t)
        return expand(a, x) * x0 + expand(b, x) * eps

    def init(self, *_, **__):
        return {"law": STUDENT}

    def model(self):
        network = Network(self.init, self.apply)
        return Model(self.sde, self.parameterization, network)


def nodes(count=24):
    """Return two independent normal numbers (N, 1) each, and their weights (N,)."""
    point, weight = np.polynomial.hermite_e.hermegauss(count)
    z, eps = np.meshgrid(point, point, indexing="ij")
    weight = np.outer(weight, weight).ravel() / weight.sum() ** 2
    return jnp.asarray(z.reshape(-1, 1)), jnp.asarray(eps.reshape(-1, 1)), jnp.asarray(weight)


def descended(case, divergence, weight, **settings):
    """Return a function of (mean, deviation): the losses of all nodes, summed over TIMES, (N,)."""
    model = Affine(*CASES[case]).model()
    objective = DistributionMatching(None, divergence, weight, **settings)
    data = analytic.gaussian(jnp.array([MEAN]), jnp.array([VAR])).denoiser(model.sde)
    z, eps, _ = nodes()

    def each(law):
        fixed = {"network": {"law": jax.lax.stop_gradient(law)}}
        match = Match(model, data, Denoiser(model, fixed), {})
        last = jnp.zeros(len(z), int)
        x = objective.generate(model, {"network": {"law": law}}, z[None], last, {})
        at = lambda t: objective.descent(match, x, eps, jnp.full(len(x), t))
        return jax.vmap(at)(jnp.asarray(TIMES)).sum(0)

    return each


def laws(sde, law, t):
    """Return mean and variance at t of generated samples and of data."""
    alpha, sigma = sde.alpha(jnp.asarray(t)), sde.sigma(jnp.asarray(t))
    both = (law[0], law[1] ** 2), (MEAN, VAR)
    return [(alpha * mean, alpha**2 * var + sigma**2) for mean, var in both]


def kl(sde, law, t):
    (m, v), (mean, var) = laws(sde, law, t)
    return 0.5 * (jnp.log(var / v) + (v + (m - mean) ** 2) / var - 1)


def fisher(sde, law, t):
    """E |score of generated - score of data|^2 over the generated x_t."""
    (m, v), (mean, var) = laws(sde, law, t)
    slope, offset = 1 / var - 1 / v, (m - mean) / var
    return slope**2 * v + offset**2


@cases
def test_gradients_are_those_of_the_divergences(case, x64):
    """A wrong sign, weight or lost derivative would train another distribution (F12, F13).

    DMD has the gradient of the KL divergence and SiD with a = 1/2 half that of the Fisher
    divergence. With the distribution of the data the gradient of each sample is zero, for a = 1
    too.
    """
    sde, weight = CASES[case][0], nodes()[2]
    every = [
        descended(case, KL(), uniform_eps),
        descended(case, Fisher(a=0.5), uniform_score),
        descended(case, Fisher(a=1.0), uniform_score),
    ]
    slopes = jax.jit(jax.jacfwd(lambda law: [each(law) for each in every]))
    dmd, half, one = (weight @ slope for slope in slopes(jnp.asarray(STUDENT)))
    whole = lambda law: [sum(f(sde, law, t) for t in TIMES) for f in (kl, fisher)]
    exact_kl, exact_fisher = jax.jit(jax.jacfwd(whole))(jnp.asarray(STUDENT))
    np.testing.assert_allclose(dmd, exact_kl, rtol=1e-9)
    np.testing.assert_allclose(half, exact_fisher / 2, rtol=1e-9)
    assert np.abs(one - exact_fisher / 2).min() > 1e-2
    for slope in slopes(jnp.array([MEAN, np.sqrt(VAR)])):
        np.testing.assert_allclose(slope, 0, atol=1e-9)


@pytest.mark.thorough
def test_dividing_by_the_error_of_each_sample_changes_signs(x64):
    """The docstring of `normalise` would be wrong: in one dimension a component changes its sign.

    The generator is too wide and its mean too small. The gradient of the divergence narrows it;
    with the published normalisation it widens.
    """
    weight = nodes()[2]
    law = jnp.array([0.2, 0.6])
    every = [descended("flow", KL(), uniform_eps, normalise=on) for on in (False, True)]
    slopes = jax.jit(jax.jacfwd(lambda law: [weight @ each(law) for each in every]))(law)
    assert slopes[0][1] > 0.2 and slopes[1][1] < -0.2


@pytest.mark.thorough
def test_generator_and_critic_have_their_own_losses(x64):
    """One would be trained by the other's loss, or the generator in the wrong steps (F14).

    The critic's gradient is zero where it denoises the generator's samples, up to the error of the
    mean over samples.
    """
    model = Affine(*CASES["flow"]).model()
    objective = DistributionMatching(model, critic_steps=3)
    held = {"teacher": {"network": {"law": jnp.array([MEAN, np.sqrt(VAR)])}}}
    batch = {"x": jnp.zeros((2**14, 1))}

    @jax.jit
    @jax.grad
    def gradient(params, step):
        context = Context(model, params, batch, jax.random.key(0), (), step, {}, held)
        return objective(context)[0]

    params = lambda *critic: {"network": {"law": jnp.asarray(STUDENT)}, "critic": {"law": critic}}
    wrong, right = params(0.6, 0.9), params(*STUDENT)
    idle, busy = (jax.tree.map(np.asarray, gradient(wrong, step)) for step in (1, 2))
    assert not idle["network"]["law"].any() and busy["network"]["law"].all()
    np.testing.assert_array_equal(idle["critic"]["law"], busy["critic"]["law"])
    at_right, at_wrong = (np.abs(gradient(p, 0)["critic"]["law"]) for p in (right, wrong))
    assert at_right.max() < 0.02 < 0.1 < at_wrong.max()


def test_a_generator_of_several_steps_ends_where_a_sampler_would(x64):
    """Its later evaluations would see other inputs in training than in sampling."""
    model = Affine(*CASES["flow"]).model()
    objective, params = DistributionMatching(steps=2), {"network": {"law": jnp.asarray(STUDENT)}}
    noise = jnp.array([[[0.3], [-1.0]], [[0.5], [0.8]]])
    generate = lambda params: objective.generate(model, params, noise, jnp.array([0, 1]), {})
    first = STUDENT[0] + STUDENT[1] * noise[0]
    t = jnp.full(2, 0.5 * (1 + model.sde.t_min))  # the grid `nested`

    def sampled(params):
        return Denoiser(model, params)(model.sde.perturb(first, noise[1], t), t).x0

    x, second = jax.jit(lambda params: (generate(params), sampled(params)))(params)
    np.testing.assert_allclose(x, [first[0], second[1]], rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "task", "said"),
    [
        ({"draw": ScoreNorm()}, Task(), "learns from losses"),
        ({}, Task(second_output=True), "no second output"),
        ({}, Task(second_time=True), "no second time"),
        ({"teacher": None}, Task(), "teacher: needs the path"),
    ],
)
def test_what_would_not_be_trained_is_refused(settings, task, said):
    model = Affine(*CASES["flow"]).model()
    with pytest.raises(ValueError, match=said):
        DistributionMatching(**{"teacher": model, **settings}).check(model, task)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="critic_steps=0"):
        DistributionMatching(critic_steps=0)
    with pytest.raises(ValueError, match="a=nan"):
        Fisher(a=float("nan"))


MOONS = Path(__file__).parents[1] / "moons.py"
SHORT = (
    "train.steps=4",
    "train.batch_size=16",
    "train.checkpoint_every=1",
    "train.held_out_every=4",
    "train.held_out=20",
    "train.snapshot_every=0",
    "sampling.sampler=ddim",
    "sampling.steps=1",
)


def matching(teacher):
    loss = {"name": "distribution_matching", "critic_steps": 3, "teacher": str(teacher)}
    return override(load(str(MOONS)), SHORT) | {"loss": loss}


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def drawn(shapes):
    rng = np.random.default_rng(0)
    draw = lambda a: rng.uniform(0.01, 0.1, a.shape).astype(a.dtype)
    return jax.tree.map(draw, shapes)


def begun():
    """Return the experiment of a run, its first state and a batch."""
    ordinary = builder.experiment(override(load(str(MOONS)), SHORT))
    params = drawn(jax.eval_shape(ordinary.parameters))
    teacher = Trained(ordinary.denoiser(params), ordinary)
    config = override(matching("teacher"), ["optimizer.rates={'^critic/': 2.0}"])
    e = builder.experiment(config, load=lambda *_: teacher)
    begin = lambda params: e.begin(params)._replace(held=e.loaded)
    batch = {"x": np.zeros((16, 2), np.float32), "cond": {"label": np.zeros(16, np.int32)}}
    return e, begin, params, batch


def test_the_state_has_a_critic_that_is_neither_averaged_nor_sampled():
    """Samples, exports and averages would hold a second network."""
    e, begin, params, batch = begun()
    state, metrics = jax.eval_shape(e.step(), jax.eval_shape(begin, params), batch)
    assert set(state.params) == {"network", "critic"} and set(state.companions) == {"critic"}
    assert set(state.ema["power"]) == set(state.weights("raw")) == {"network"}
    assert {"loss", "loss_critic", "loss_generator"} <= set(metrics)


@pytest.mark.thorough
def test_a_step_trains_the_critic_and_in_its_turn_the_generator():
    """The generator would drift by its momentum between its turns.

    Both begin with the same weights.
    """
    e, begin, params, batch = begun()
    states, step = [jax.jit(begin)(params)], jax.jit(e.step())
    assert same(states[0].params, {"network": params["network"], "critic": params["network"]})
    for _ in range(4):
        state, metrics = step(states[-1], batch)
        states.append(state)
        assert np.isfinite(metrics["loss"])
    pairs = list(pairwise(states))
    moments = lambda state: [a["network"] for a in state.optimizer[1][0][1:3]]
    assert [same(a.params["network"], b.params["network"]) for a, b in pairs] == [1, 1, 0, 1]
    assert [same(moments(a), moments(b)) for a, b in pairs] == [1, 1, 0, 1]
    assert not any(same(a.params["critic"], b.params["critic"]) for a, b in pairs)


@pytest.mark.thorough
def test_a_run_exports_and_samples_the_generator_alone(tmp_path):
    """The critic would be sampled or exported, or a run begin without the teacher's weights."""
    ordinary = builder.experiment(override(load(str(MOONS)), SHORT))
    params = drawn(jax.eval_shape(ordinary.parameters))
    Trained(ordinary.denoiser(params), ordinary).save(tmp_path / "teacher")
    config = override(matching(tmp_path / "teacher"), ["loss.divergence=fisher"])
    run = diffjax.fit(config, tmp_path / "run", resume_from=tmp_path / "teacher")
    assert set(run.denoise.params) == {"network"} and np.isfinite(run.sample(3).x).all()
    rows = [json.loads(s) for s in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss_generator"] != 0 for row in rows if "loss_critic" in row] == [0, 0, 1, 0]
    assert all(np.isfinite(v) for row in rows for k, v in row.items() if "held_out" in k)
    run.save(tmp_path / "export")
    assert same(diffjax.load(tmp_path / "export").denoise.params, run.denoise.params)
    raw = load_state(run.experiment, tmp_path / "run").params
    assert set(raw) == {"network", "critic"}
    assert same(jax.tree.map(jnp.shape, raw["critic"]), jax.tree.map(jnp.shape, raw["network"]))
    longer = override(config, ["train.steps=6"])
    assert diffjax.fit(longer, tmp_path / "run").step == 6
