"""Velocities that a flow map follows: of the sample, of the student's diagonal, of a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from diffjax.arrays import catalogue, null
from diffjax.objectives.rules import Student, Views
from diffjax.prediction import Sample, Time


@dataclass(frozen=True)
class Conditional:
    """The velocity of the sample's own x0 and eps, which is correct in expectation."""

    anywhere: ClassVar[bool] = False
    guides: ClassVar[bool] = False
    taught: ClassVar[bool] = False

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        return views, views


@dataclass(frozen=True)
class Own:
    """The velocity of the sample as target, with derivatives along the student's own diagonal.

    This has less variance than `Conditional` (arXiv:2512.02012).
    """

    anywhere: ClassVar[bool] = True
    guides: ClassVar[bool] = False
    taught: ClassVar[bool] = False

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        return views, student.denoised(x, t)


@dataclass(frozen=True)
class Guided:
    """The velocity of the sample, guided by the student's own diagonal (arXiv:2505.13447).

    The views are omega views + kappa D(x, c) + (1 - omega - kappa) D(x, no c), so that the optimum
    is classifier-free guidance of weight omega / (1 - kappa), which then takes one pass per step in
    sampling. Raises ValueError for kappa outside [0, 1), where the optimum is no fixed point.

    >>> Guided(omega=1.0, kappa=0.5)  # the weight 2 of classifier-free guidance
    Guided(omega=1.0, kappa=0.5)
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
    """The velocity of a fixed teacher.

    guidance: the weight of classifier-free guidance of the teacher (arXiv:2210.03142), 1 for none.

    >>> Teacher(guidance=2.0).taught
    True
    """

    anywhere: ClassVar[bool] = True
    guides: ClassVar[bool] = False
    taught: ClassVar[bool] = True

    guidance: float = 1.0

    def __call__(self, student: Student, x: Sample, t: Time, views: Views) -> tuple[Views, Views]:
        if student.teacher is None:
            raise ValueError(
                "velocity='teacher': the objective has no teacher; allowed: conditional"
            )
        p = student.teacher(x, t, student.cond)
        seen = p.x0, p.eps
        if self.guidance != 1:
            q = student.teacher(x, t, null(student.cond))
            lead = lambda free, conditional: free + self.guidance * (conditional - free)
            seen = lead(q.x0, p.x0), lead(q.eps, p.eps)
        seen = jax.lax.stop_gradient(seen)
        return seen, seen


VELOCITIES = catalogue(Conditional, Own, Guided, Teacher)
