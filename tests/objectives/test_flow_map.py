"""Flow maps: the exact map is where every rule's loss is stationary; no training, in float64.

Expectations over x0 and eps are Gauss-Hermite sums. The network is the exact map plus a combination
of functions of x, t and s, so that "stationary" is said in every direction of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic, schedules
from diffjax.arrays import expand
from diffjax.denoiser import Model
from diffjax.draws import ScoreNorm, Uniform
from diffjax.nets import Network
from diffjax.objectives import PAIRS, Context, FlowMap, FlowMapDistillation, Task
from diffjax.objectives.pairs import MapTimes
from diffjax.objectives.rules import (
    Asked,
    Discrete,
    Eulerian,
    Lagrangian,
    Semigroup,
    Student,
)
from diffjax.objectives.velocities import Conditional, Own, Teacher
from diffjax.parameterization import X0, Edm, V, Velocity, t, time_999
from diffjax.sde import VE, VP, Flow

MEAN, VAR = 0.7, 0.3
GAUSSIAN = (np.ones(1), np.array([[MEAN]]), np.array([[VAR]]))
MIXTURE = (np.array([0.3, 0.7]), np.array([[-1.0], [0.8]]), np.array([[0.04], [0.09]]))
T, R, S = 0.8, 0.55, 0.3
FLOW = Flow(schedules.Logit())  # x_t = (1 - t) x0 + t eps
CASES = {
    "flow": (FLOW, Velocity(c_noise=time_999)),
    "vp": (VP(schedules.Cosine()), V(c_noise=time_999)),
    "ve": (VE(schedules.Karras(sigma_max=5.0)), Edm(c_noise=time_999, sigma_data=0.8)),
    "x0": (VP(schedules.Linear()), X0(c_noise=time_999)),
}
cases = pytest.mark.parametrize(
    ("sde", "parameterization"),
    [
        pytest.param(*case, id=name, marks=() if name == "ve" else pytest.mark.thorough)
        for name, case in CASES.items()
    ],
)


@dataclass(frozen=True)
class Around:
    """`exact` plus params @ (1, x, x^2, s, t), as a network with labels 999 t."""

    sde: Any
    parameterization: Any
    law: tuple = field(hash=False, compare=False)

    def exact(self):
        return analytic.Mixture(*map(jnp.asarray, self.law)).flow_map(self.sde)

    def apply(self, params, x, c_noise, cond, key=None):
        t, s = c_noise / 999, cond.get("to", c_noise) / 999
        x = x / expand(self.parameterization.c_in(self.sde, t), x)
        p = self.exact()(x, t, to=s)
        a, b = self.parameterization.target(self.sde, t)
        output = expand(a, x) * p.x0 + expand(b, x) * p.eps
        one = jnp.ones_like(x)
        ways = jnp.stack([one, x, x**2, expand(s, x) * one, expand(t, x) * one])
        return output + jnp.tensordot(params, ways, 1)

    def init(self, *_):
        return jnp.zeros(5)

    def network(self):
        return Network(self.init, self.apply)


def nodes(law, count=48):
    """Return x0, eps (N, 1) and weights (N,) of a distribution and a normal number."""
    point, weight = np.polynomial.hermite_e.hermegauss(count)
    weight = weight / weight.sum()
    share, mean, var = (np.asarray(a).reshape(-1) for a in law)
    x0 = (mean[:, None] + np.sqrt(var)[:, None] * point).ravel()
    w0 = (share[:, None] * weight).ravel()
    x0, eps = np.meshgrid(x0, point, indexing="ij")
    return x0.reshape(-1, 1), eps.reshape(-1, 1), np.outer(w0, weight).ravel()


def asked(sde, law, t=T, r=R, s=S):
    x0, eps, weight = map(jnp.asarray, nodes(law))
    each = [jnp.full(len(x0), a) for a in (t, r, s)]
    x = sde.perturb(x0, eps, each[0])
    return Asked(x, x0, eps, MapTimes(*each), 0), weight


def slope(sde, parameterization, law, rule, velocity, params, **times):
    """Return the expected loss of a rule and its gradient in the five directions."""
    network = Around(sde, parameterization, law)
    model = Model(sde, parameterization, network.network())
    question, weight = asked(sde, law, **times)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        student = Student(model, {"network": params}, {}, None, network.exact())
        residual = rule(student, question, velocity)
        return (weight * residual[:, 0] ** 2).sum()

    return loss(jnp.asarray(params))


EXACT, WRONG = np.zeros(5), np.array([0.0, 0.2, 0.0, 0.1, -0.1])
ALL = {
    "meanflow": (Eulerian(), Conditional()),
    "imf": (Eulerian(), Own()),
    "ayf": (Eulerian(), Teacher()),
    "sideways": (Eulerian(power=1.0), Conditional()),
    "lsd": (Lagrangian(), Own()),
    "lmd": (Lagrangian(), Teacher()),
    "psd": (Semigroup(), Conditional()),
}

BY_DEFAULT = ("meanflow", "lsd", "psd")
"""One of each rule."""


@cases
@pytest.mark.parametrize(
    ("rule", "velocity"),
    [
        pytest.param(*pair, id=name, marks=() if name in BY_DEFAULT else pytest.mark.thorough)
        for name, pair in ALL.items()
    ],
)
def test_the_exact_map_is_stationary_and_a_wrong_one_is_not(
    sde, parameterization, rule, velocity, x64
):
    """A wrong sign, derivative, A or B would train another map (F3, F4)."""
    _, at_exact = slope(sde, parameterization, GAUSSIAN, rule, velocity, EXACT)
    _, at_wrong = slope(sde, parameterization, GAUSSIAN, rule, velocity, WRONG)
    assert np.abs(at_exact).max() < 1e-8
    assert np.abs(at_wrong).max() > 1e-3


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["meanflow", *(pytest.param(n, marks=pytest.mark.thorough) for n in ("lsd", "psd"))]
)
def test_so_it_is_for_a_law_of_two_modes(name, x64):
    """Terms of second order would go unseen: on Gaussian data the map is affine."""
    sde, parameterization = CASES["flow"]
    _, at_exact = slope(sde, parameterization, MIXTURE, *ALL[name], EXACT, s=0.5)
    _, at_wrong = slope(sde, parameterization, MIXTURE, *ALL[name], WRONG, s=0.5)
    assert np.abs(at_exact).max() < 1e-4 < 1e-2 < np.abs(at_wrong).max()


def test_least_losses_are_their_closed_forms(x64):
    """The least losses would not have their closed forms (F5).

    They are S V_s / V_t^2 for MeanFlow, S / V_t along its own velocity, and 0 for the exact rules.
    """
    variance = lambda t: (1 - t) ** 2 * VAR + t**2
    least = {"meanflow": VAR * variance(S) / variance(T) ** 2, "imf": VAR / variance(T)}
    for name in ALL:
        if name != "sideways":
            value, _ = slope(*CASES["flow"], GAUSSIAN, *ALL[name], EXACT)
            assert value == pytest.approx(least.get(name, 0.0), rel=1e-9, abs=1e-12)
    assert least["meanflow"] == pytest.approx(0.1672531898, abs=1e-10)


def test_the_lagrangian_rule_has_one_scale_up_to_a_right_angle(x64):
    """The longest maps would outweigh all others: on VP with v, dB/ds is 0 at a right angle."""
    sde, longest = VP(schedules.Cosine(), t_max=0.999), {"t": 0.999, "s": 1e-3}
    frame = sde, V(c_noise=time_999)
    loss, _ = slope(*frame, GAUSSIAN, Lagrangian(), Teacher(), WRONG, **longest)
    assert 1e-2 < loss < 1  # in the middle, from 0.6 to 0.4, it is 0.05


@pytest.mark.thorough
def test_on_the_diagonal_meanflow_is_flow_matching(x64):
    """v would be trained wrongly: the gradient at s = t is that of |F - (eps - x0)|^2 (F6)."""
    sde, parameterization = CASES["flow"]
    _, found = slope(
        sde, parameterization, GAUSSIAN, Eulerian(), Conditional(), WRONG, t=T, r=T, s=T
    )
    model = Model(sde, parameterization, Around(sde, parameterization, GAUSSIAN).network())
    question, weight = asked(sde, GAUSSIAN, T, T, T)
    t = question.times.t

    @jax.grad
    def matching(params):
        output = Student(model, {"network": params}, {}, None).output(question.x, t, t)
        return (weight * (output - (question.eps - question.x0))[:, 0] ** 2).sum()

    np.testing.assert_allclose(found, matching(jnp.asarray(WRONG)), rtol=1e-9)


@pytest.mark.thorough
def test_the_whole_angle_of_trigflow(x64):
    """The loss would not be that of TrigFlow (arXiv:2410.11081).

    power = 1 on VP in angles is sCM's tangent with the weight cos(t) sin(t). The change of F is
    cos^2 (v - F) - cos sin (x + F'), with angles from t to s = 0.
    """
    sde, parameterization = CASES["vp"]
    law = GAUSSIAN
    network = Around(sde, parameterization, law)
    model = Model(sde, parameterization, network.network())
    question, _ = asked(sde, law, s=0.0)
    x, (t, _, s) = question.x, question.times
    student = Student(model, {"network": jnp.asarray(WRONG)}, {}, None)
    residual = Eulerian(power=1.0)(student, question, Conditional())
    angle = lambda t: jnp.arctan2(sde.sigma(t), sde.alpha(t))
    rate = jax.grad(lambda t: angle(t))(t[0])
    along = jnp.cos(angle(t))[:, None] * question.eps - jnp.sin(angle(t))[:, None] * question.x0
    output, change = jax.jvp(
        lambda x, t: student.output(x, t, s), (x, t), (along, jnp.ones_like(t) / rate)
    )
    cos, sin = (f(angle(t))[:, None] for f in (jnp.cos, jnp.sin))
    published = cos**2 * (along - output) - cos * sin * (x + change)
    np.testing.assert_allclose(-residual / rate, published, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("end", [0.0, pytest.param(S, marks=pytest.mark.thorough)])
def test_the_fixed_point_of_discrete_training_is_the_map_of_ddim(end, x64):
    """The optimum on Gaussian data would not be the grid's own DDIM steps (F7).

    With `end` > 0 these are the steps of one segment of multistep consistency.
    """
    sde, parameterization = CASES["flow"]
    question, weight = asked(sde, GAUSSIAN, t=T, r=R, s=end)
    exact = analytic.gaussian(jnp.array([MEAN]), jnp.array([VAR])).denoiser(sde)

    def step(x, t, s):
        p = exact(x, jnp.full(len(x), t))
        return sde.perturb(p.x0, p.eps, jnp.full(len(x), s))

    def steps(x, t):
        """Return DDIM from T over R to the end, from either of the two."""
        return jnp.where(t[:, None] > (T + R) / 2, step(step(x, T, R), R, end), step(x, R, end))

    class Steps(Around):
        def apply(self, params, x, c_noise, cond, key=None):
            t = c_noise / 999
            x = x / self.parameterization.c_in(self.sde, t)[:, None]
            target = steps(x, t)  # X_{t->s} = x - (t - s) F
            wrong = params[0] + params[1] * x
            output = (x - target) / (t - end)[:, None]
            return output + jnp.where(t[:, None] > (T + R) / 2, wrong, 0.0)

    model = Model(sde, parameterization, Steps(sde, parameterization, GAUSSIAN).network())
    for gap in (True, False):

        @jax.grad
        def loss(params, gap=gap):
            student = Student(model, {"network": params}, {}, None)
            return (weight * Discrete(gap)(student, question, Conditional())[:, 0] ** 2).sum()

        np.testing.assert_allclose(loss(jnp.zeros(2)), 0, atol=1e-9)
        assert np.abs(loss(jnp.array([0.1, 0.0]))).max() > 1e-3


@pytest.mark.parametrize("name", PAIRS)
def test_times_are_in_order_and_in_range(name):
    """Maps would be trained that lead backwards, or outside of the process."""
    sde, pair = VE(schedules.Karras()), PAIRS[name]()
    u = jax.random.uniform(jax.random.key(0), (3, 2000))
    for step in (0, 25_000):
        t, r, s = map(np.asarray, pair(sde, Uniform(), u, (), step))
        assert (t >= r).all() and (r >= s).all() and (s >= 0).all()
        assert (t <= sde.t_max).all() and (t > 0).all() and (t > s).all()


def test_pairs_have_their_laws():
    """A published method would train on other times than its paper states."""
    sde, u = VE(schedules.Karras()), jax.random.uniform(jax.random.key(0), (3, 4000))
    rho = lambda t: np.exp(-np.asarray(sde.logsnr(jnp.asarray(t))) / 2)
    t, r, _ = PAIRS["ratio"](every=100, most=12)(sde, Uniform(), u, (), 700)
    kept = 1 - (1 + 8 / (1 + np.exp(rho(t)))) / 2.0**8
    np.testing.assert_allclose(rho(r)[r > 0] / rho(t)[r > 0], kept[r > 0], rtol=2e-3)
    t, r, _ = PAIRS["neighbours"](first=10)(sde, Uniform(), u, (), 0)
    low = float(rho(sde.t_min))
    grid = (np.linspace(low ** (1 / 7), 80 ** (1 / 7), 11)) ** 7
    near = np.abs(np.log(rho(t))[:, None] - np.log(grid)).argmin(1)
    np.testing.assert_allclose(rho(t), grid[near], rtol=2e-3)
    np.testing.assert_allclose(rho(r), grid[near - 1], rtol=2e-3)
    t, r, s = PAIRS["dyadic"](steps=8)(sde, Uniform(), u, (), 0)
    assert set(np.unique(np.round(8 * np.asarray(t - s), 4)).tolist()) == {2.0, 4.0, 8.0}
    t, _, s = PAIRS["segments"](count=4)(sde, Uniform(), u, (), 0)
    assert set(np.unique(np.round(4 * np.asarray(s), 4)).tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert (t - s <= 0.25 + 1e-6).all()


def loss_of(rule, **settings):
    """Return the loss on 64 Gaussian samples of a student whose teacher is exact.

    It takes the parameters of the student, and weights and a mask of the samples.
    """
    model = Model(*CASES["flow"], Around(*CASES["flow"], GAUSSIAN).network())
    objective = FlowMapDistillation(rule=rule, teacher=model, diagonal=0.25, **settings)
    x = jnp.asarray(MEAN + np.sqrt(VAR) * np.random.default_rng(0).standard_normal((64, 1)))
    held = {"teacher": {"network": jnp.zeros(5)}}

    @jax.jit
    def loss(params, weight, mask):
        batch = {"x": x, "weight": weight, "mask": mask}
        context = Context(model, {"network": params}, batch, jax.random.key(1), held=held)
        return objective(context)[1]

    def call(params, weight=np.ones(64), mask=np.ones((64, 1))):
        values = loss(*map(jnp.asarray, (params, weight, mask)))
        return [float(values[name]) for name in ("loss", "loss_rule", "loss_diagonal")]

    return call


RULES = [
    pytest.param(Eulerian(), marks=pytest.mark.thorough, id="eulerian"),
    pytest.param(Lagrangian(), id="lagrangian"),
    pytest.param(Semigroup(), marks=pytest.mark.thorough, id="semigroup"),
]


@pytest.mark.parametrize("rule", RULES)
def test_the_exact_map_has_no_loss_beside_an_exact_teacher(rule, x64):
    """A residual would not vanish at the exact map, or a weight or a mask not count."""
    loss = loss_of(rule)
    assert max(loss(EXACT)) < 1e-20
    whole, off, diagonal = loss(WRONG)
    assert off > 1e-4 and diagonal > 1e-4
    np.testing.assert_allclose(whole, 0.75 * off + 0.25 * diagonal)
    np.testing.assert_allclose(loss(WRONG, weight=np.full(64, 2.0))[0], 2 * whole)
    assert loss(WRONG, weight=(np.arange(64) < 16) * 1.0)[1:] == [0, diagonal]
    assert loss(WRONG, mask=np.zeros((64, 1)))[0] == 0


def test_self_weighting_makes_the_losses_of_all_samples_equal(x64):
    loss = loss_of(Discrete(), self_weight=1.0, self_weight_floor=1e-12)
    np.testing.assert_allclose(loss(WRONG), 1, rtol=1e-3)


def test_what_a_flow_map_would_not_train_is_refused(x64):
    """A draw would not learn, a schedule shrink, or a second output stay untrained."""
    model = Model(*CASES["flow"], Around(*CASES["flow"], GAUSSIAN).network())
    FlowMap().check(model)
    for objective, task, said in (
        (FlowMap(draw=ScoreNorm()), Task(), "learns from losses"),
        (FlowMap(), Task(second_output=True), "no second output"),
        (FlowMap(), Task(second_time=False), "takes a second time"),
        (FlowMap(pair=PAIRS["neighbours"]()), Task(), "needs a finite sigma / alpha"),
    ):
        with pytest.raises(ValueError, match=said):
            objective.check(model, task)


def test_a_steep_label_is_doubtful_where_the_rule_differentiates_in_t():
    """MeanFlow would train for days to a wrong map, without a word."""
    network = Around(*CASES["flow"], GAUSSIAN).network()
    steep, plain = (Model(FLOW, Velocity(c_noise=c), network) for c in (time_999, t))
    meanflow = FlowMap(rule=Eulerian())
    line = "c_noise='time_999': the rule eulerian .* spans 99. vary .* c_noise='t'"
    assert re.search(line, meanflow.doubt(steep))
    assert not meanflow.doubt(plain) and not FlowMap(rule=Semigroup()).doubt(steep)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: FlowMap(rule=Lagrangian()), "velocity='conditional'"),
        (lambda: FlowMap(velocity=Teacher()), "flow_map_distillation"),
        (lambda: FlowMap(diagonal=1.5), "diagonal=1.5"),
        (lambda: FlowMap(condition_dropout="0.1"), "condition_dropout='0.1': needs a"),
        (
            lambda: FlowMap(condition_dropout={"a": 2.0}),
            r"condition_dropout\['a'\]=2.0: needs a rate",
        ),
        (lambda: FlowMap(self_weight=-1.0), "self_weight=-1.0"),
        (lambda: Eulerian(normalise=-1.0), "normalise=-1.0"),
        (lambda: PAIRS["dyadic"](steps=12), "steps=12"),
        (lambda: PAIRS["ratio"](base=1.0), "base=1.0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()
