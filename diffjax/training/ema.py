"""Averages of the parameters, each a function `(step, batch_size) -> share of the new parameters`.

The share is 1 - decay. The functions compute the share and not the decay, since a decay near 1
loses its digits in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffjax.arrays import Params, catalogue
from diffjax.checks import positive, within

Average = Callable[[Int[Array, ""], int], Float[Array, ""]]
Averages = Mapping[str, Average]
"""The averages that a run keeps, by name."""
RAW = "raw"
"""The name that stands for the parameters themselves among their averages."""


@dataclass(frozen=True)
class Constant:
    """A constant decay after the warm-up (1 + t) / (10 + t), which forgets the first steps.

    decay: in [0, 1). Raises ValueError for other values.

    >>> round(float(Constant(decay=0.999)(jnp.asarray(10_000), 256)), 4)
    0.001
    """

    decay: float = 0.9999

    def __post_init__(self):
        within(0, 1, "[)", decay=self.decay)

    def __call__(self, step: Int[Array, ""], batch_size: int) -> Float[Array, ""]:
        return jnp.maximum(1 - self.decay, 9.0 / (10.0 + step))


@dataclass(frozen=True)
class HalfLife:
    """A decay with a half-life of n = min(images, ramp * images so far) images.

    decay^(n / batch_size) = 1/2 (arXiv:2206.00364, app. F). images: the largest half-life, > 0.
    ramp: > 0, or None for the half-life `images` from the start. Raises ValueError for other
    values.

    >>> share = HalfLife(images=1000.0, ramp=None)(jnp.asarray(0), 100)
    >>> round(float((1 - share) ** 10), 4)  # 10 steps of 100 images
    0.5
    """

    images: float = 500_000.0
    ramp: float | None = 0.05

    def __post_init__(self):
        positive(images=self.images, ramp=self.ramp)

    def __call__(self, step: Int[Array, ""], batch_size: int) -> Float[Array, ""]:
        seen = 1.0 * step * batch_size
        life = jnp.minimum(self.images, seen * self.ramp if self.ramp else jnp.inf)
        return -jnp.expm1(-jnp.log(2.0) * batch_size / jnp.maximum(life, 1e-8))


@dataclass(frozen=True)
class Warmup:
    """The decay 1 - (1 + t)^(-power), up to `decay`, which lengthens the average during training.

    decay: in [0, 1). power: in (0, 1]. Raises ValueError for other values.

    >>> round(float(Warmup(power=1.0)(jnp.asarray(9), 256)), 4)
    0.1
    """

    decay: float = 0.9999
    power: float = 2 / 3

    def __post_init__(self):
        within(0, 1, "[)", decay=self.decay)
        within(0, 1, "(]", power=self.power)

    def __call__(self, step: Int[Array, ""], batch_size: int) -> Float[Array, ""]:
        return jnp.maximum(1 - self.decay, (1.0 + step) ** -self.power)


@dataclass(frozen=True)
class Power:
    """The decay (1 - 1/t)^(gamma + 1): a profile whose width is `std` times the training so far.

    After t steps the parameters of step k have the weight (k^(gamma + 1) - (k - 1)^(gamma + 1)) /
    t^(gamma + 1), where std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) (arXiv:2312.02696, eq. 3
    and 123). std: in (0, 0.2887). Raises ValueError for other values.

    >>> round(Power(std=0.1).gamma, 2), round(float(Power()(jnp.asarray(99), 256)), 4)
    (6.94, 0.0767)
    """

    std: float = 0.1

    def __post_init__(self):
        if not 0 < self.std < 12**-0.5:
            raise ValueError(f"std={self.std}: needs 0 < std < 0.2887 (that of a flat average)")

    @property
    def gamma(self) -> float:
        """The exponent of the profile, the largest real root of the equation for `std`."""
        inverse = self.std**-2
        roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
        return float(roots[np.isreal(roots)].real.max())

    def __call__(self, step: Int[Array, ""], batch_size: int) -> Float[Array, ""]:
        return -jnp.expm1((self.gamma + 1) * jnp.log1p(-1 / (1.0 + step)))


def update(ema: Params, params: Params, share: Float[Array, ""]) -> Params:
    """Return (1 - share) ema + share params, in a form whose weights add up to 1 in float32.

    >>> update({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, jnp.asarray(0.25))["w"].tolist()
    [0.25, 0.25]
    """
    return jax.tree.map(lambda a, p: a + share * (p - a), ema, params)


def length(ema: str | float) -> str:
    """Return the stored name of an average: `std_0.100` for 0.1 and "0.10"; names are unchanged.

    >>> length(0.1), length("raw")
    ('std_0.100', 'raw')
    """
    try:
        std = float(ema)
    except ValueError:
        return str(ema)
    return f"std_{std:.3f}" if std == round(std, 3) else f"std_{std}"


EMAS = catalogue(Constant, HalfLife, Warmup, Power)
