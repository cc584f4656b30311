"""Rules that the exact flow map obeys, as residuals whose square training minimises.

With F the network output of a parameterization F = a x0 + b eps, det = a sigma_t - b alpha_t,

    X_{t->s}(x) = A x + B F(x, t, s),
    A = (a sigma_s - b alpha_s) / det,    B = (alpha_s sigma_t - sigma_s alpha_t) / det,

so that X_{t->t} = x for every network. Each of these conditions, for all t >= r >= s, characterises
the exact map of the probability-flow ODE with velocity v:

    eulerian      d/dt X_{t->s}(x_t) = 0 along the ODE
    lagrangian    d/ds X_{t->s}(x) = v(X_{t->s}(x), s)
    semigroup     X_{r->s}(X_{t->r}(x)) = X_{t->s}(x)
    discrete      X_{r->s}(x_r) = X_{t->s}(x_t), t and r neighbours: exact in the limit r -> t

All but the first also need X_{t->s} -> the denoiser as s -> t, which the first contains. A rule in
`progressive` follows the rows of a teacher's sampler instead of the ODE.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from diffjax.arrays import Cond, Params, expand
from diffjax.denoiser import Model
from diffjax.objectives.pairs import MapTimes, Step
from diffjax.prediction import Denoise, Sample, Time
from diffjax.sde import SDE

Views = tuple[Sample, Sample]
"""The views (x0, eps) of x_t = alpha x0 + sigma eps, each (B, *d)."""


def transport(model: Model, t: Time, s: Time) -> tuple[Time, Time]:
    """Return (A, B) of X_{t->s} = A x + B F, each (B,).

    B <= 0 for the parameterizations eps, v and velocity, B >= 0 for x0.
    """
    a, b = model.parameterization.target(model.sde, t)
    alpha, sigma = model.sde.alpha(t), model.sde.sigma(t)
    alpha_s, sigma_s = model.sde.alpha(s), model.sde.sigma(s)
    det = a * sigma - b * alpha
    return (a * sigma_s - b * alpha_s) / det, (alpha_s * sigma - sigma_s * alpha) / det


def speed(sde: SDE, views: Views, t: Time) -> Sample:
    """Return the velocity alpha' x0 + sigma' eps at times t (B,), (B, *d)."""
    dalpha, dsigma = sde.slopes(t)
    x0, eps = views
    return expand(dalpha, x0) * x0 + expand(dsigma, x0) * eps


class Student(NamedTuple):
    """The flow map in training: model, parameters and conditions in one evaluation of the loss.

    key: randomness of dropout, shared by all network passes. teacher: the fixed denoiser that
    distillation learns from, if any.
    """

    model: Model
    params: Params
    cond: Cond
    key: Key[Array, ""] | None
    teacher: Denoise | None = None

    def output(self, x: Sample, t: Time, s: Time | None) -> Sample:
        """Return the network output F of the map from t to s, (B, *d).

        The network does not receive s where it is None.
        """
        return self.model.output(self.params, x, t, self.cond, self.key, s)[0]

    def lead(self, x: Sample, t: Time, s: Time) -> Sample:
        """Return X_{t->s}(x), (B, *d)."""
        keep, gain = transport(self.model, t, s)
        return expand(keep, x) * x + expand(gain, x) * self.output(x, t, s)

    def denoised(self, x: Sample, t: Time, cond: Cond | None = None) -> Views:
        """Return the views on the diagonal s = t, where the map is a denoiser, without gradient."""
        here = self if cond is None else self._replace(cond=cond)
        output = here.output(x, t, t)
        return jax.lax.stop_gradient(self.model.views(output, x, t))


class Asked(NamedTuple):
    """The inputs of a rule: samples x = alpha_t x0 + sigma_t eps, times, and the training step."""

    x: Sample
    x0: Sample
    eps: Sample
    times: MapTimes
    step: Step


class Velocity(Protocol):
    """The source of the velocity that the map follows: the sample, the student or a teacher.

    anywhere: whether the velocity is defined at every x, and not at the samples alone. guides:
    whether it needs a condition. taught: whether it needs a teacher.
    """

    anywhere: ClassVar[bool]
    guides: ClassVar[bool]
    taught: ClassVar[bool]

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        """Return two pairs of views: of the target, and of the velocity for derivatives of the map.

        The mean of the target's views given x are those of a denoiser. views: those of the sample.
        """
        ...


class Rule(abc.ABC):
    """A rule `(student, asked, velocity) -> residual (B, *d)`, whose mean square is minimised.

    anywhere: whether it evaluates the velocity at points other than the samples. leads: whether the
    network receives s; otherwise t alone must determine s. in_t: whether it differentiates in t.
    """

    anywhere: ClassVar[bool] = False
    leads: ClassVar[bool] = True
    in_t: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample: ...


@dataclass(frozen=True)
class Eulerian(Rule):
    """The Eulerian rule: the residual F - sg(F + w E), E the derivative of X along v, by one JVP.

    E = A' x + A v + B' F + B F' and w = -sign(B) A^power; sg stops the gradient. On Flow with
    velocities the target is MeanFlow's v - (t - s) F' (arXiv:2505.13447); on VP with v, in angles,
    power = 1 is sCM (arXiv:2410.11081) and power = -1 TiM (arXiv:2509.04394).

    warmup: number of training steps over which the terms A' x + B F', whose variance is large, grow
    from 0. normalise: c of E / (|E| + c), with |E| the root mean square per sample; 0 does not
    normalise. Both change the optimum: the warm-up while it lasts, c permanently where E is noisy.
    Raises ValueError for settings below 0.

    >>> Eulerian(power=1.0, warmup=10_000)  # sCM
    Eulerian(power=1.0, warmup=10000, normalise=0.0)
    """

    in_t: ClassVar[bool] = True

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
    """The Lagrangian rule: the residual (d/ds X_{t->s}(x) - sg v(X_{t->s}(x), s)) / c.

    c = ((A' / c_in)^2 + B'^2)^1/2, with derivatives in s, is the size of d/ds X for inputs and
    outputs of the network of unit variance. On Flow it is |B'| = 1 (arXiv:2505.18825, LSD); on VP
    B' alone is 0 for the longest maps. The rule takes one JVP in s alone, so no derivative of the
    network in x. The velocity is that of the student's own diagonal, or of a teacher.
    """

    anywhere: ClassVar[bool] = True

    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample:
        x, (t, _, s) = asked.x, asked.times
        one = jnp.ones_like(s)
        there, onward = jax.jvp(lambda s: student.lead(x, t, s), (s,), (one,))
        _, (dkeep, dgain) = jax.jvp(lambda s: transport(student.model, t, s), (s,), (one,))
        size = jnp.hypot(dkeep / student.model.parameterization.c_in(student.model.sde, t), dgain)
        there = jax.lax.stop_gradient(there)
        _, along = velocity(student, there, s, (asked.x0, asked.eps))
        v = jax.lax.stop_gradient(speed(student.model.sde, along, s))
        return (onward - v) / expand(size, x)


@dataclass(frozen=True)
class Semigroup(Rule):
    """The semigroup rule: F - sg F*, where F* is the output that leads to X_{r->s}(X_{t->r}(x)).

    It takes two more passes and no derivative (arXiv:2505.18825, PSD). With r in the middle of
    dyadic steps it is the self-consistency of shortcut models (arXiv:2410.12557).
    """

    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample:
        x, (t, r, s) = asked.x, asked.times
        goal = student.lead(student.lead(x, t, r), r, s)
        return _off(student, x, t, s, goal)


@dataclass(frozen=True)
class Discrete(Rule):
    """The discrete rule of consistency models: X_{t->s}(x_t) - sg X_{r->s}(x_r), r < t.

    x_r has the x0 and eps of the sample (consistency training), of the student's own diagonal, or
    of a teacher's DDIM step (distillation) (arXiv:2303.01469). gap: whether the square is divided
    by rho_t - rho_r, rho = sigma / alpha, as in arXiv:2310.14189 and arXiv:2406.14548; otherwise
    the residual is in units of F.

    >>> Discrete(gap=False)
    Discrete(gap=False)
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
    """Return F minus the output that leads from x at t to `goal` at s; 0 where s = t."""
    keep, gain = (expand(a, x) for a in transport(student.model, t, s))
    still = gain == 0
    target = jnp.where(still, 0.0, (goal - keep * x) / jnp.where(still, 1.0, gain))
    residual = student.output(x, t, s) - jax.lax.stop_gradient(target)
    return jnp.where(still, 0.0, residual)
