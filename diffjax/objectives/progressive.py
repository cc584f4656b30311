"""Progressive distillation: a student whose one row leads where two rows of its teacher lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from diffjax.arrays import expand
from diffjax.objectives.rules import Asked, Rule, Student, Velocity
from diffjax.prediction import Sample, Time
from diffjax.sde import SDE


@dataclass(frozen=True)
class Progressive(Rule):
    """The rule of progressive distillation: one row of DDIM leads where two of a teacher lead.

    The residual is F - sg F*, where F* is the output for which DDIM leads from x_t to x_s, the
    result of the teacher's rows t -> r -> s (arXiv:2202.00512, alg. 2):

        x0* = (x_s - (sigma_s / sigma_t) x_t) / (alpha_s - alpha_t sigma_s / sigma_t)

    The network receives no second time, so the student is an ordinary denoiser, which samples by
    `ddim` at the times t alone. The weight `truncated_snr` is that of the paper.

    >>> Progressive.leads
    False
    """

    anywhere: ClassVar[bool] = True
    leads: ClassVar[bool] = False

    def __call__(self, student: Student, asked: Asked, velocity: Velocity) -> Sample:
        x, (t, r, s) = asked.x, asked.times
        sde, goal = student.model.sde, x
        for now, after in ((t, r), (r, s)):
            (x0, eps), _ = velocity(student, goal, now, (asked.x0, asked.eps))
            alpha, sigma = (expand(a, x) for a in _scales(sde, after))
            goal = alpha * x0 + sigma * eps
        alpha, sigma = (expand(a, x) for a in _scales(sde, t))
        alpha_s, sigma_s = (expand(a, x) for a in _scales(sde, s))
        x0 = (goal - sigma_s / sigma * x) / (alpha_s - alpha * sigma_s / sigma)
        a, b = student.model.parameterization.target(sde, t)
        target = expand(a, x) * x0 + expand(b, x) * (x - alpha * x0) / sigma
        return student.output(x, t, None) - jax.lax.stop_gradient(target)


def _scales(sde: SDE, t: Time) -> tuple[Time, Time]:
    """Return (alpha, sigma), each (B,), where t = 0 stands for the data, as in samplers."""
    log_alpha, log_sigma = sde.frame(jnp.where(t == 0, jnp.inf, sde.logsnr(t)))
    return jnp.exp(log_alpha), jnp.exp(log_sigma)
