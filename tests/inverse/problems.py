"""Small inverse problems for the tests: operators, data and measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from diffjax import analytic, schedules
from diffjax.arrays import pytree
from diffjax.guidance import Query
from diffjax.inverse import OPERATORS
from diffjax.sde import VE, VP

COSINE = VP(schedules.Cosine(), t_max=0.999)
EXPLODING = VE(schedules.Logit(), t_max=1 - 1 / 81)
SHAPE = (8, 8, 3)
NEEDS = {"hadamard": (8, 8, 1)}
"""Shapes of items for operators that do not take `SHAPE`."""
SETTINGS = {"pixels": {"seed": 3}, "motion_blur": {"length": 3.5, "angle": 30.0}}


def catalogue() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """All operators by name, each with the shape of its items."""
    shapes = {name: NEEDS.get(name, SHAPE) for name in OPERATORS}
    return {
        name: (OPERATORS[name](shape, **SETTINGS.get(name, {})), shape)
        for name, shape in shapes.items()
    }


@pytree
@dataclass(frozen=True)
class Hidden:
    """A linear operator that does not reveal its spectrum."""

    operator: Any
    linear: ClassVar[bool] = True

    def __call__(self, x0):
        return self.operator(x0)


def correlated(size: int, seed: int = 0) -> analytic.Correlated:
    """A Gaussian of `size` values with a full covariance."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size)) / np.sqrt(size)
    return analytic.correlated(jnp.asarray(rng.standard_normal(size)), root @ root.T + np.eye(size))


def ask(guidance, denoise, x, t, **given):
    """Return the prediction of a guidance without a memory."""
    query = Query(denoise, x, t, **given)
    return guidance(query, jnp.ones((), x.dtype), guidance.init(x))[0]
