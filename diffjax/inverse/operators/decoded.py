"""Measurements of decoded images, for networks of latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from jax.tree_util import Partial

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.inverse.operators.base import Operator
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class Decoded:
    """A(D(z)): an operator A on the images that a decoder D makes of latents z (B, ...).

    operator: A, for images. decode: D, a differentiable function of latents (B, ...) that treats
    items alone; a `jax.tree_util.Partial` for one that holds arrays. Covariances linearise D at the
    prediction of z: a product with A costs a forward or backward pass of the decoder as well.

    Raises ValueError for another operator, and for a decoder that is not a function.

    >>> import jax.numpy as jnp
    >>> from diffjax.inverse import Scale
    >>> twice = Decoded(Scale(3.0), lambda z: jnp.repeat(z, 2, axis=1))
    >>> twice(jnp.ones((1, 1))).tolist()
    [[3.0, 3.0]]
    """

    operator: Any
    decode: Any
    linear: ClassVar[bool] = False

    def __post_init__(self):
        if jax.tree.structure(self.decode) != jax.tree.structure(0):
            return  # a pytree already
        if callable(self.decode):
            hint = "diffjax.inverse.OPERATORS['grey']((32, 32, 3))"
            checks.instance(Operator, hint, operator=self.operator)
            object.__setattr__(self, "decode", Partial(self.decode))

    def __call__(self, x0: Sample) -> Sample:
        return self.operator(self.decode(x0))
