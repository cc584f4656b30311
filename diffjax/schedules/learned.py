"""A schedule whose form is trained with the network (arXiv:2107.00630, sec. 3.2 and app. H)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from diffjax.schedules.base import LogSNR, Schedule, Times

NAMES = ("ends", "slope", "scale", "bend", "centre")


@dataclass(frozen=True)
class Learned(Schedule):
    """A learned schedule l = logsnr_max - exp(d) g(t), with a monotone network g from 0 to 1.

    Both ends are trained, and so is g = (u(t) - u(0)) / (u(1) - u(0)), where u = exp(slope) t +
    sum_k exp(scale_k) sigmoid(exp(bend_k) (t - centre_k)) over `width` units. At initialisation l
    is nearly linear, from logsnr_max to logsnr_min. `values` holds the parameters, set by `bind`:
    numbers outside a traced function, so that the schedule is hashable and samplers can be planned
    with it; tracers inside.

    `__call__` holds g fixed: the variational bound in continuous time depends on the ends alone
    (arXiv:2107.00630, eq. 18), so its gradient in g is noise. `variance` trains g.

    Raises ValueError unless logsnr_min < logsnr_max, both finite, and width >= 1.

    >>> schedule = Learned(logsnr_max=10.0, logsnr_min=-10.0, width=4)
    >>> print(schedule(jnp.array([0.0, 0.5, 1.0])).round(2))
    [ 10.   0. -10.]
    >>> sorted(schedule.init())
    ['bend', 'centre', 'ends', 'scale', 'slope']
    """

    logsnr_max: float = 13.3
    logsnr_min: float = -5.0
    width: int = 32
    values: tuple[Any, ...] = field(default=(), repr=False)

    def __post_init__(self):
        if not -math.inf < self.logsnr_min < self.logsnr_max < math.inf:
            raise ValueError(f"{self}: needs logsnr_min < logsnr_max, both finite")
        if self.width < 1:
            raise ValueError(f"width={self.width}: needs width >= 1")

    def init(self) -> dict[str, Any]:
        k = np.arange(self.width)
        return {
            "ends": jnp.array([self.logsnr_max, math.log(self.logsnr_max - self.logsnr_min)]),
            "slope": jnp.zeros(1),
            "scale": jnp.full(self.width, -8.0),
            "bend": jnp.full(self.width, math.log(8.0)),
            "centre": jnp.asarray((k + 0.5) / self.width, jnp.float32),
        }

    def bind(self, params: Mapping[str, Any]) -> Learned:
        values = tuple(params[name] for name in NAMES)
        if not any(isinstance(v, Tracer) for v in values):
            values = tuple(tuple(np.asarray(v).tolist()) for v in values)
        return Learned(self.logsnr_max, self.logsnr_min, self.width, values)

    def __call__(self, t: Times) -> LogSNR:
        return self._at(t, jax.lax.stop_gradient)

    def inverse(self, l: LogSNR) -> Times:
        """Return the time at log-SNR l by bisection, with the derivative of the inverse."""
        low, high = jnp.zeros_like(l), jnp.ones_like(l)

        def halve(_: Any, ends: tuple[Times, Times]) -> tuple[Times, Times]:
            low, high = ends
            middle = (low + high) / 2
            later = self(middle) > l
            return jnp.where(later, middle, low), jnp.where(later, high, middle)

        low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
        t = jax.lax.stop_gradient((low + high) / 2)
        slope = jax.jvp(self, (t,), (jnp.ones_like(t),))[1]
        return t - (self(t) - l) / jax.lax.stop_gradient(slope)

    def variance(
        self, t: Times, loss: Float[Array, " b"], factor: Float[Array, " b"]
    ) -> Float[Array, ""]:
        """Return a term of value 0 whose gradient in g is that of E[loss^2], relative to its value.

        With p(l) = 1 / |l'| the density of l, loss = e(l) / (2 p(l)): E[loss^2] = int e^2 / (4 p)
        dl has the gradient -E[loss^2 d log p(l)] at fixed l. Unlike arXiv:2107.00630, app. I, this
        needs no gradient through the network.
        """
        free = lambda t: self._at(t, lambda a: a, jax.lax.stop_gradient)
        one = jnp.ones_like(t)
        l, slope = jax.jvp(free, (t,), (one,))
        # The gradient is wanted at fixed l, so t must move with g: this t has the value of t and
        # the gradient of the inverse function at l.
        t = t - (l - jax.lax.stop_gradient(l)) / jax.lax.stop_gradient(slope)
        log_density = -jnp.log(-jax.jvp(free, (t,), (one,))[1])
        square = jax.lax.stop_gradient(factor * loss**2)
        tiny = jnp.finfo(square.dtype).tiny
        term = -jnp.mean(square / jnp.maximum(square.mean(), tiny) * log_density)
        return term - jax.lax.stop_gradient(term)

    def _at(self, t: Times, hold: Any, hold_ends: Any = lambda a: a) -> LogSNR:
        params = dict(zip(NAMES, self.values, strict=True)) if self.values else self.init()
        ends, *form = (jnp.asarray(params[name], t.dtype) for name in NAMES)
        slope, scale, bend, centre = hold(form)
        ends = hold_ends(ends)

        def unit(t: Times) -> Times:
            row = lambda a: a.reshape((1,) * t.ndim + (-1,))
            bent = jax.nn.sigmoid(row(jnp.exp(bend)) * (t[..., None] - row(centre)))
            return jnp.exp(slope[0]) * t + bent @ jnp.exp(scale)

        first, last = unit(jnp.zeros_like(t)), unit(jnp.ones_like(t))
        return ends[0] - jnp.exp(ends[1]) * (unit(t) - first) / (last - first)
