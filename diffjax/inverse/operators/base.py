"""The protocols of measurement operators, and the adjoint that automatic differentiation gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
from jaxtyping import Array

from diffjax import checks
from diffjax.prediction import Sample

Shape = tuple[int, ...]
"""The shape of one item: (H, W, C) for images."""
Spectrum = Callable[[Array], Array]
"""A function of eigenvalues, element by element."""


@runtime_checkable
class Operator(Protocol):
    """The interface of a measurement operator A: a frozen pytree that maps x0 (B, ...) to y.

    Item b of the result depends on item b of x0 only. Arrays within an operator, such as masks,
    have a leading axis of 1 or B, so that each item may have its own. `linear` says whether A is
    linear; the adjoint of a linear operator and the Jacobian of any other come from automatic
    differentiation.
    """

    linear: ClassVar[bool]

    def __call__(self, x0: Sample) -> Sample: ...


@runtime_checkable
class Spectral(Operator, Protocol):
    """A linear operator A = U S V^T whose singular value decomposition is known."""

    def gram(self, y: Sample, function: Spectrum) -> Sample:
        """Return f(A A^T) y = U f(S S^T) U^T y, for y (B, ...).

        function: f receives the eigenvalues of A A^T, the squared singular values, as an array of
        the rank of y that broadcasts against the coordinates U^T y, and returns such an array.
        """
        ...


def adjoint(operator: Operator, x0: Sample) -> Callable[[Sample], Sample]:
    """Return y -> A^T y for a linear operator and x0 of the shape (B, ...).

    Raises ValueError for an operator that is not linear.

    >>> import jax.numpy as jnp
    >>> from diffjax.inverse.operators.simple import Scale
    >>> adjoint(Scale(3.0), jnp.ones((1, 2)))(jnp.ones((1, 2))).tolist()
    [[3.0, 3.0]]
    """
    if not operator.linear:
        raise ValueError(f"{type(operator).__name__} is not linear: it has no adjoint")
    transposed = jax.linear_transpose(operator, x0)
    return lambda y: transposed(y)[0]


def image(name: str, shape: Shape, channels: int | None = None) -> tuple[int, int, int]:
    """Return (H, W, C); raise ValueError for another rank, or another number of channels."""
    wanted = "(H, W, C)" if channels is None else f"(H, W, {channels})"
    if len(shape) != 3 or channels not in (None, shape[2]):
        raise ValueError(f"{name} of items {shape}: needs images {wanted}")
    return shape


def whole_blocks(name: str, shape: Shape, factor: int) -> tuple[int, int, int]:
    """Return (H, W, C); raise ValueError unless `factor` divides the height and the width."""
    checks.whole(1, factor=factor)
    h, w, c = image(name, shape)
    if h % factor or w % factor:
        allowed = [k for k in range(1, min(h, w) + 1) if not math.gcd(h, w) % k]
        raise ValueError(f"factor={factor}: does not divide items {shape}; allowed: {allowed}")
    return h, w, c


def check_batch(name: str, array: Any, items: int) -> None:
    """Raise ValueError unless an operator's array has a leading axis of 1 or of the batch."""
    if array.shape[0] not in (1, items):
        raise ValueError(
            f"{name} of {array.shape[0]} items beside {items} samples: needs 1 or {items}"
        )
