"""Measurements y = A x0 + std n, with n ~ N(0, I)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import expand, normal, pytree
from diffjax.guidance.base import Around
from diffjax.guidance.query import Memory
from diffjax.inverse.operators.base import Operator
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class Measurement:
    """Measurements y = A x0 + std n of all samples of a batch, or one measurement for all of them.

    y: (B, ...), or (1, ...) for all samples. operator: A, an `Operator`. std: the standard
    deviation of the noise, >= 0, () or (B,). A pytree: other values of y, of std and of the
    operator's arrays do not cause recompilation.

    Raises ValueError for y that is no float array, for an operator that is none, and for a std that
    is negative, is not finite or has another shape. Traced values are not checked.

    >>> from diffjax.inverse import Scale
    >>> measurement = Measurement(jnp.ones((1, 2)), Scale(1.0), std=0.5)
    >>> measurement.values(jnp.zeros((3, 2))).shape  # one measurement for all samples
    (3, 2)
    """

    y: Any
    operator: Operator
    std: Any = 0.0

    def __post_init__(self):
        # JAX rebuilds pytrees from tracers and from stand-ins that are no arrays.
        if not isinstance(self.y, jax.Array | np.ndarray) or checks.traced(self.y, self.std):
            return
        checks.samples(self.y, "y")
        hint = "diffjax.inverse.OPERATORS['grey']((32, 32, 3))"
        checks.instance(Operator, hint, operator=self.operator)
        std = np.asarray(self.std)
        if std.ndim and std.shape != self.y.shape[:1]:
            raise ValueError(
                f"std {std.shape}: needs () or one per measurement, {self.y.shape[:1]}"
            )
        if (bad := std[~(np.isfinite(std) & (std >= 0))]).size:
            raise ValueError(f"std={bad.flat[0]}: needs std >= 0, and finite")

    def check(self, x0: Sample) -> None:
        """Raise ValueError unless y is a measurement of samples of the shape of x0 (B, ...)."""
        needed = jax.eval_shape(self.operator, jax.ShapeDtypeStruct(x0.shape, x0.dtype)).shape
        if jnp.shape(self.y) not in (needed, (1, *needed[1:])):
            raise ValueError(
                f"y {jnp.shape(self.y)}: {type(self.operator).__name__} maps samples {x0.shape} to "
                f"{needed}; allowed: {needed}, {(1, *needed[1:])}"
            )

    def values(self, x0: Sample) -> Sample:
        """Return y as (B, ...) in the type of x0 (B, ...)."""
        return jnp.broadcast_to(self.y, (len(x0), *self.y.shape[1:])).astype(x0.dtype)

    def noise_std(self, y: Sample) -> Array:
        """Return std with as many axes as y: (1 or B, 1, ...)."""
        std = jnp.asarray(self.std, y.dtype)
        return expand(std, y) if std.ndim else std.reshape((1,) * y.ndim)


class MeasuredGuidance(Around):
    """The base class of guidance around `inside` by a measurement, whose shape `init` checks."""

    measurement: Measurement

    def init(self, x: Sample) -> Memory:
        self.measurement.check(x)
        return super().init(x)


def measured(
    x0: Sample, operator: Operator, std: Float[Array, "..."] | float, keys: Key[Array, " b"]
) -> Measurement:
    """Simulate the measurements of x0 (B, ...), with the noise of item b from keys[b].

    std: () or (B,).

    >>> from diffjax.inverse import Scale
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> measured(jnp.ones((2, 3)), Scale(2.0), 0.0, keys).y.tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """
    clean = operator(x0)
    measurement = Measurement(clean, operator, std)
    noise = normal(keys, clean.shape[1:]).astype(clean.dtype)
    return Measurement(clean + measurement.noise_std(clean) * noise, operator, std)
