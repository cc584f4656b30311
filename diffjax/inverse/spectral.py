"""Functions of the singular values of an operator, without its singular vectors."""

from __future__ import annotations

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, Bool

from diffjax.inverse.measurement import Measurement
from diffjax.inverse.operators.base import Operator, Spectral, Spectrum, adjoint
from diffjax.prediction import Sample


def positive(squared: Array) -> Bool[Array, "..."]:
    """Return which squared singular values are not 0 up to rounding of the largest of an item."""
    axes = tuple(range(1, squared.ndim))
    least = 100 * jnp.finfo(squared.dtype).eps * squared.max(axes, keepdims=True)
    return squared > least


class Decomposed:
    """A spectral operator A = U S V^T at items of the shape of x (B, ...).

    For any function f of the squared singular values, `lift` is y -> V S^T f(S S^T) U^T y, and
    `across` is x -> V f(S^T S) V^T x on the singular vectors with a singular value above 0.
    """

    def __init__(self, operator: Operator, x: Sample):
        self.gram = cast(Spectral, operator).gram
        self.forward, self.backward = operator, adjoint(operator, x)

    def lift(self, y: Sample, function: Spectrum = lambda squared: 1 / squared) -> Sample:
        """Return A^T f(A A^T) y, (B, ...) as x; with the default f the pseudo-inverse A^+ y."""

        def inside(squared: Array) -> Array:
            there = positive(squared)
            return jnp.where(there, function(jnp.where(there, squared, 1)), 0)

        return self.backward(self.gram(y, inside))

    def across(self, x: Sample, function: Spectrum = jnp.ones_like) -> Sample:
        """Return V f(S^T S) V^T x; with the default f the projection on what A measures."""
        return self.lift(self.forward(x), lambda squared: function(squared) / squared)


def check_spectral(name: str, measurement: Measurement) -> None:
    """Raise ValueError for an operator without a spectrum."""
    operator = measurement.operator
    # Not while JAX rebuilds a pytree from stand-ins, which are instances of no class here.
    if isinstance(operator, Operator) and not isinstance(operator, Spectral):
        raise ValueError(
            f"{name} of {type(operator).__name__}: needs an operator with a spectrum; allowed: "
            f"identity, masks, grey, average, blurs, hadamard"
        )
