"""Progressive distillation against closed forms: no training, in float64, on Gaussian data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic, samplers, schedules
from diffjax.arrays import expand, pytree
from diffjax.denoiser import Model
from diffjax.grids import nested
from diffjax.nets import Network
from diffjax.objectives import MAP_RULES, PAIRS, FlowMap, FlowMapDistillation, Task
from diffjax.objectives.pairs import MapTimes
from diffjax.objectives.rules import Asked, Student
from diffjax.objectives.velocities import Teacher
from diffjax.parameterization import X0, Edm, V, Velocity
from diffjax.prediction import predict
from diffjax.sde import VE, VP, Flow
from diffjax.weights import truncated_snr

MEAN, VAR = 0.7, 0.3
RULE = MAP_RULES["progressive"]()
CASES: dict[str, tuple[Any, Any]] = {
    "flow": (Flow(schedules.Logit()), Velocity()),  # alpha = 0 at t_max
    "vp": (VP(schedules.Cosine(), t_max=0.99), V()),
    "ve": (VE(schedules.Karras(sigma_max=5.0)), Edm(sigma_data=0.8)),  # sigma > 0 at t = 0
    "x0": (VP(schedules.Linear()), X0()),
}
cases = pytest.mark.parametrize(
    ("sde", "parameterization"),
    [
        pytest.param(*case, id=name, marks=() if name == "ve" else pytest.mark.thorough)
        for name, case in CASES.items()
    ],
)


def network(apply: Any, init: Any = lambda *_: {}) -> Network:
    return Network(init, apply)


def data():
    return analytic.gaussian(jnp.array([MEAN]), jnp.array([VAR]))


@pytree
@dataclass(frozen=True)
class Halved:
    """The denoiser whose one row of DDIM is two rows of `teacher`, by the rule under test."""

    teacher: Any
    parameterization: Any = field(metadata={"static": True})
    times: tuple[float, ...] = field(metadata={"static": True})  # of the teacher

    @property
    def sde(self):
        return self.teacher.sde

    def target(self, x, t):
        """Return F*, as the rule's residual of a network that answers 0."""
        zero = network(lambda params, x, *_, key=None: 0 * x)
        student = Student(Model(self.sde, self.parameterization, zero), {"network": {}}, {}, None)
        first = 2 * jnp.argmin(jnp.abs(t[:, None] - jnp.asarray(self.times)[None, :-1:2]), 1)
        grid = jnp.asarray(self.times)
        places = MapTimes(t, grid[first + 1], grid[first + 2])
        asked = Asked(x, x, x, places, 0)
        return -RULE(student._replace(teacher=self.teacher), asked, Teacher())

    def __call__(self, x, t, cond=None, *, key=None):
        model = Model(self.sde, self.parameterization, network(lambda *_: 0))
        x0, eps = model.views(self.target(x, t), x, t)
        return predict(self.sde, x, t, x0)._replace(x0=x0, eps=eps)


@cases
def test_the_chain_ends_at_the_ddim_table_of_the_first_teacher(sde, parameterization, x64):
    """Each stage would add an error of its own (F8). Four rows become two and one."""
    times = np.array([1.0, 0.6, 0.3, 0.05, 0.0]) * sde.t_max
    denoise: Any = data().denoiser(sde)
    start = np.array([0.4]), np.array([[2.0]])

    def ddim(times, denoise):
        mean, cov = samplers.affine_moments(samplers.ddim(sde, times), denoise, (1,), start=start)
        return mean.item(), cov.item()

    wanted = ddim(times, denoise)
    while len(times) > 2:
        denoise = Halved(denoise, parameterization, tuple(times.tolist()))
        times = times[::2]
        np.testing.assert_allclose(
            np.concatenate(ddim(times, denoise), None), np.concatenate(wanted, None), rtol=1e-9
        )


@pytest.mark.thorough
def test_two_rows_are_those_of_the_unrolled_table(x64):
    """The rows within a step would be those of another sampler."""
    sde, parameterization = CASES["vp"]
    times = np.array([0.9, 0.6, 0.2])
    exact = data().denoiser(sde)
    table = samplers.unroll(samplers.ddim(sde, times))
    x = jnp.array([[0.3], [-1.1]])
    seen = exact(x, jnp.full(2, times[0])).x0
    one = samplers.unroll(samplers.ddim(sde, times[:2])).result
    middle = one[0] * x + one[1] * seen
    whole = table.result
    wanted = whole[0] * x + whole[1] * seen + whole[2] * exact(middle, jnp.full(2, times[1])).x0
    student = Halved(exact, parameterization, (0.9, 0.6, 0.2))
    row = samplers.unroll(samplers.ddim(sde, times[::2])).result
    found = row[0] * x + row[1] * student(x, jnp.full(2, times[0])).x0
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


@cases
def test_two_rows_of_the_teacher_are_stationary_and_other_maps_are_not(sde, parameterization, x64):
    """Another map than the teacher's two rows would be learned (F8)."""
    teacher = data().denoiser(sde)
    times = (0.9 * sde.t_max, 0.5 * sde.t_max, 0.2 * sde.t_max)
    halved = Halved(teacher, parameterization, times)

    def apply(params, x, c_noise, cond, *, key=None):
        assert not cond, "the student would receive a second time"
        t = jnp.full(len(x), times[0])
        x = x / expand(parameterization.c_in(sde, t), x)
        return halved.target(x, t) + params[0] + params[1] * x + params[2] * x**2

    model = Model(sde, parameterization, network(apply, lambda *_: jnp.zeros(3)))
    x0, eps = (jax.random.normal(jax.random.key(k), (64, 1)) for k in (0, 1))
    places = MapTimes(*(jnp.full(64, t) for t in times))
    asked = Asked(sde.perturb(x0, eps, places.t), x0, eps, places, 0)

    @jax.jit
    @jax.grad
    def slope(params):
        student = Student(model, {"network": params}, {}, None, teacher)
        return (truncated_snr(model, places.t) * RULE(student, asked, Teacher())[:, 0] ** 2).mean()

    assert np.abs(slope(jnp.zeros(3))).max() < 1e-10
    for wrong in np.eye(3):
        assert np.abs(slope(0.1 * jnp.asarray(wrong))).max() > 1e-3


def test_rows_draw_the_steps_of_the_grid():
    """A student would be trained at times that its sampler does not visit."""
    sde = CASES["vp"][0]
    times = tuple(np.linspace(0.9, 0, 9).tolist())
    pair = PAIRS["rows"](steps=2, times=times)
    u = np.random.default_rng(0).random((3, 200), np.float32)
    t, r, s = map(np.asarray, pair(sde, FlowMap().draw, u, (), 0))
    drawn = {tuple(map(round, 1e3 * row)) for row in np.stack([t, r, s], 1)}
    assert drawn == {(900, 675, 450), (450, 225, 0)}
    (grid,) = pair.grids(sde)
    np.testing.assert_allclose(grid, [0.9, 0.45, 0.0])
    assert [len(grid) - 1 for grid in PAIRS["dyadic"](steps=8).grids(sde)] == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: PAIRS["rows"](steps=2, times=(1.0, 0.5, 0.0)), "3 of them; needs k"),
        (lambda: PAIRS["rows"](steps=1, times=(0.5, 0.7, 0.0)), "need to decrease"),
        (lambda: PAIRS["rows"](steps=1, times=(0.9, 0.7, 0.1)), "end at 0"),
        (lambda: FlowMap(rule=RULE, diagonal=0.0, velocity=Teacher()), "flow_map_distillation"),
        (lambda: FlowMapDistillation(rule=RULE), "diagonal=0.5"),
        (lambda: FlowMapDistillation(rule=RULE, diagonal=0.0), "needs one s for each t"),
        (lambda: nested(CASES["vp"][0], 3, (1.0, 0.5, 0.0)), "needs k \\* 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()


def test_a_network_that_cannot_be_distilled_is_refused():
    """The network would be asked outside of its times."""
    rows = lambda times=(): PAIRS["rows"](steps=1, times=times)
    teacher = Model(*CASES["flow"], network(lambda params, x, *_, key=None: x))
    distil = lambda pair, weight=truncated_snr: FlowMapDistillation(
        rule=RULE, pair=pair, diagonal=0.0, weight=weight, teacher=teacher
    )
    distil(rows()).check(teacher, Task(second_time=False))
    with pytest.raises(ValueError, match="leave"):
        distil(rows((2.0, 1.0, 0.0))).check(teacher)
