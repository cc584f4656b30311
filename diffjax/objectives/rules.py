"""The rules that a flow map obeys, as residuals whose square training minimises.

With F the network output of a parameterization F = a x0 + b eps, det = a sigma_t - b alpha_t,

    X_{t->s}(x) = A x + B F(x, t, s),
    A = (a sigma_s - b alpha_s) / det,    B = (alpha_s sigma_t - sigma_s alpha_t) / det,

so that X_{t->t} = x for every network. The exact map of the probability-flow ODE with velocity v is
the one with, each for all t >= r >= s:

    eulerian      d/dt X_{t->s}(x_t) = 0 along the ODE
    lagrangian    d/ds X_{t->s}(x) = v(X_{t->s}(x), s)
    semigroup     X_{r->s}(X_{t->r}(x)) = X_{t->s}(x)
    discrete      X_{r->s}(x_r) = X_{t->s}(x_t), t and r neighbours: exact as they come together

together with X_{t->s} -> the denoiser as s -> t, for all but the first, which contains it.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from diffjax.arrays import Cond, Params, catalogue, expand, null
from diffjax.denoiser import Model
from diffjax.objectives.pairs import MapTimes, Step
from diffjax.prediction import Denoise, Sample, Time
from diffjax.sde import SDE

Views = tuple[Sample, Sample]
"""x0 and eps, of which x_t = alpha x0 + sigma eps is made."""


def transport(model: Model, t: Time, s: Time) -> tuple[Time, Time]:
    """(A, B) of X_{t->s} = A x + B F, each (B,). B <= 0 for eps, v and velocity, >= 0 for x0."""
    a, b = model.parameterization.target(model.sde, t)
    alpha, sigma = model.sde.alpha(t), model.sde.sigma(t)
    alpha_s, sigma_s = model.sde.alpha(s), model.sde.sigma(s)
    det = a * sigma - b * alpha
    return (a * sigma_s - b * alpha_s) / det, (alpha_s * sigma - sigma_s * alpha) / det


def speed(sde: SDE, views: Views, t: Time) -> Sample:
    """The velocity alpha' x0 + sigma' eps (B, *d)."""
    dalpha, dsigma = sde.slopes(t)
    x0, eps = views
    return expand(dalpha, x0) * x0 + expand(dsigma, x0) * eps


class Student(NamedTuple):
    """The map that is trained: network, parameters and condition of one pass of the objective.

    All passes share `key`, and so their dropout. teacher: the denoiser that is held, if any.
    """

    model: Model
    params: Params
    cond: Cond
    key: Key[Array, ""] | None
    teacher: Denoise | None = None

    def output(self, x: Sample, t: Time, s: Time) -> Sample:
        """F of the map from t to s (B, *d)."""
        return self.model.output(self.params, x, t, self.cond, self.key, s)[0]

    def lead(self, x: Sample, t: Time, s: Time) -> Sample:
        """X_{t->s}(x), (B, *d)."""
        keep, gain = transport(self.model, t, s)
        return expand(keep, x) * x + expand(gain, x) * self.output(x, t, s)

    def denoised(self, x: Sample, t: Time, cond: Cond | None = None) -> Views:
        """The views of the diagonal s = t, an ordinary denoiser; no gradient flows."""
        here = self if cond is None else self._replace(cond=cond)
        output = here.output(x, t, t)
        return jax.lax.stop_gradient(self.model.views(output, x, t))


class Asked(NamedTuple):
    """The samples that a rule sees: x = alpha_t x0 + sigma_t eps, and the times of the map."""

    x: Sample
    x0: Sample
    eps: Sample
    times: MapTimes
    step: Step


class Velocity(Protocol):
    """Whose velocity leads the map: of the sample, of the student itself, or of a teacher.

    anywhere: whether it is a function of x, and not of the sample alone. guides: whether it needs a
    condition. taught: whether it needs a teacher.
    """

    anywhere: ClassVar[bool]
    guides: ClassVar[bool]
    taught: ClassVar[bool]

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        """Views that training is led by, whose mean given x are those of a denoiser; and those of
        the velocity along which the map is differentiated. views: those of the sample."""
        ...


class Rule(abc.ABC):
    """`(student, asked, velocity) -> residual (B, *d)`, of which the mean square is minimised.

    anywhere: whether it asks for the velocity at other points than the samples.
    """

    anywhere: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample: ...


@dataclass(frozen=True)
class Eulerian(Rule):
    """F - sg(F + w E), E = A' x + A v + B' F + B F' the derivative of X along v: one `jvp`.

    w = -sign(B) A^power. On Flow with velocities that is MeanFlow's target v - (t - s) F'
    (arXiv:2505.13447); on VP with v, in angles, power = 1 is sCM (arXiv:2410.11081)
    and power = -1 TiM (arXiv:2509.04394). warmup: steps over which the terms A' x + B F', of which
    the variance is large, grow from 0. normalise: c of E / (|E| + c), |E| the root mean square per
    sample; 0 leaves E as it is. Both change the optimum on the way: c for good where E is noisy.
    Raises ValueError for settings below 0.
    """

    power: float = 0.0
    warmup: int = 0
    normalise: float = 0.0

    def __post_init__(self):
        for name in ("warmup", "normalise"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"{name}={value}: needs {name} >= 0")

    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample:
        x, (t, _, s) = asked.x, asked.times
        led, along = velocity(student, x, t, (asked.x0, asked.eps))
        one = jnp.ones_like(t)
        wide = lambda a: expand(a, x)
        (keep, gain), (dkeep, dgain) = jax.jvp(
            lambda t: transport(student.model, t, s), (t,), (one,)
        )
        output, doutput = jax.jvp(
            lambda x, t: student.output(x, t, s), (x, t), (speed(student.model.sde, along, t), one)
        )
        late = wide(dkeep) * x + wide(gain) * doutput
        if self.warmup:
            late *= jnp.minimum(asked.step / self.warmup, 1.0)
        v = speed(student.model.sde, led, t)
        change = wide(keep) * v + wide(dgain) * output + late
        change *= wide(-jnp.where(gain > 0, 1.0, -1.0) * keep**self.power)
        if self.normalise:
            axes = tuple(range(1, x.ndim))
            size = jnp.sqrt((change**2).mean(axes, keepdims=True))
            change /= size + self.normalise
        return output - jax.lax.stop_gradient(output + change)


@dataclass(frozen=True)
class Lagrangian(Rule):
    """(d/ds X_{t->s}(x) - sg v(X_{t->s}(x), s)) / (dB/ds), in units of F (arXiv:2505.18825, LSD).

    One `jvp` in s alone, so no derivative of the network in x. The velocity is that of the
    student's own diagonal, or of a teacher.
    """

    anywhere: ClassVar[bool] = True

    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample:
        x, (t, _, s) = asked.x, asked.times
        one = jnp.ones_like(s)
        there, onward = jax.jvp(lambda s: student.lead(x, t, s), (s,), (one,))
        _, (_, dgain) = jax.jvp(lambda s: transport(student.model, t, s), (s,), (one,))
        there = jax.lax.stop_gradient(there)
        _, along = velocity(student, there, s, (asked.x0, asked.eps))
        v = jax.lax.stop_gradient(speed(student.model.sde, along, s))
        return (onward - v) / expand(dgain, x)


@dataclass(frozen=True)
class Semigroup(Rule):
    """F - sg F*, F* the output that leads to X_{r->s}(X_{t->r}(x)) (arXiv:2505.18825, PSD).

    Two passes more and no derivative. With pairs in the middle of dyadic steps it is the
    self-consistency of shortcut models (arXiv:2410.12557).
    """

    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample:
        x, (t, r, s) = asked.x, asked.times
        goal = student.lead(student.lead(x, t, r), r, s)
        return _off(student, x, t, s, goal)


@dataclass(frozen=True)
class Discrete(Rule):
    """X_{t->s}(x_t) against sg X_{r->s}(x_r), r < t: consistency models (arXiv:2303.01469).

    x_r has the x0 and eps of the sample (consistency training), of the student's own diagonal, or
    of a teacher's DDIM step (distillation). gap: the square is divided by rho_t - rho_r, rho =
    sigma / alpha, as in arXiv:2310.14189 and arXiv:2406.14548; else the residual is in units of F.
    """

    gap: bool = True

    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample:
        x, (t, r, s) = asked.x, asked.times
        sde = student.model.sde
        led, _ = velocity(student, x, t, (asked.x0, asked.eps))
        near = jax.lax.stop_gradient(sde.perturb(*led, r))
        goal = student.lead(near, r, s)
        if not self.gap:
            return _off(student, x, t, s, goal)
        rho = lambda t: jnp.exp(-sde.logsnr(t) / 2)
        difference = student.lead(x, t, s) - jax.lax.stop_gradient(goal)
        return difference / expand(jnp.sqrt(rho(t) - rho(r)), x)


def _off(student: Student, x: Sample, t: Time, s: Time, goal: Sample) -> Sample:
    """F less the output that leads from x at t to `goal` at s; 0 where s = t."""
    keep, gain = (expand(a, x) for a in transport(student.model, t, s))
    still = gain == 0
    target = jnp.where(still, 0.0, (goal - keep * x) / jnp.where(still, 1.0, gain))
    residual = student.output(x, t, s) - jax.lax.stop_gradient(target)
    return jnp.where(still, 0.0, residual)


@dataclass(frozen=True)
class Conditional:
    """The x0 and eps of the sample itself: needs no teacher, and is right in expectation."""

    anywhere: ClassVar[bool] = False
    guides: ClassVar[bool] = False
    taught: ClassVar[bool] = False

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        return views, views


@dataclass(frozen=True)
class Own:
    """Led by the sample, along the student's own diagonal: less variance (arXiv:2512.02012)."""

    anywhere: ClassVar[bool] = True
    guides: ClassVar[bool] = False
    taught: ClassVar[bool] = False

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        return views, student.denoised(x, t)


@dataclass(frozen=True)
class Guided:
    """The sample, guided by the student's own diagonal (arXiv:2505.13447).

    omega views + kappa D(x, c) + (1 - omega - kappa) D(x, no c), so that the optimum is
    classifier-free guidance of weight omega / (1 - kappa), in one pass when sampled. Raises
    ValueError for kappa outside [0, 1), where the optimum is no fixed point.
    """

    anywhere: ClassVar[bool] = True
    guides: ClassVar[bool] = True
    taught: ClassVar[bool] = False

    omega: float = 1.0
    kappa: float = 0.5

    def __post_init__(self):
        if not 0 <= self.kappa < 1:
            raise ValueError(f"kappa={self.kappa}: needs 0 <= kappa < 1")

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        conditional = student.denoised(x, t)
        free = student.denoised(x, t, null(student.cond))
        shares = self.omega, self.kappa, 1 - self.omega - self.kappa
        mix = lambda *each: sum(share * view for share, view in zip(shares, each, strict=True))
        mixed = jax.tree.map(mix, views, conditional, free)
        return mixed, mixed


@dataclass(frozen=True)
class Teacher:
    """The views of the teacher that the objective holds; guidance: weight of classifier-free
    guidance of it (arXiv:2210.03142), 1 for none."""

    anywhere: ClassVar[bool] = True
    guides: ClassVar[bool] = False
    taught: ClassVar[bool] = True

    guidance: float = 1.0

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        if student.teacher is None:
            raise ValueError("velocity='teacher': the objective holds none; allowed: conditional")
        p = student.teacher(x, t, student.cond)
        seen = p.x0, p.eps
        if self.guidance != 1:
            q = student.teacher(x, t, null(student.cond))
            lead = lambda free, conditional: free + self.guidance * (conditional - free)
            seen = lead(q.x0, p.x0), lead(q.eps, p.eps)
        seen = jax.lax.stop_gradient(seen)
        return seen, seen


MAP_RULES = catalogue(Eulerian, Lagrangian, Semigroup, Discrete)
VELOCITIES = catalogue(Conditional, Own, Guided, Teacher)
