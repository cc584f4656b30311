"""A denoiser with its guidance built in, for whatever takes a denoiser alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from diffjax.arrays import Cond, pytree
from diffjax.guidance.base import Guidance
from diffjax.guidance.query import Query
from diffjax.prediction import Denoise, Prediction, Sample, Time, check_inputs
from diffjax.sde import SDE
from diffjax.spaces import Space, space_of


@pytree
@dataclass(frozen=True)
class GuidedDenoiser:
    """The prediction of a guidance at a constant weight as a `Denoise`.

    The likelihood by the ODE, which takes no guidance, then runs on a guided model or on a
    posterior. weight: that of all calls, () or one for each sample, (B,). Samples may be evaluated
    one by one, as the ODE does, so a guidance that holds arrays of a batch does not fit there.

    Raises ValueError for a guidance that carries a memory from row to row, or draws random numbers.

    >>> from diffjax import analytic, guidance, schedules, sde
    >>> vp = sde.VP(schedules.Cosine())
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(vp)
    >>> clipped = guidance.Thresholded(guidance.Conditional(), guidance.Static(0.125))
    >>> x0 = GuidedDenoiser(denoise, clipped)(jnp.ones((1, 2)), jnp.full(1, 0.5)).x0
    >>> x0.tolist()
    [[0.125, 0.125]]
    """

    denoise: Denoise
    guidance: Guidance
    weight: Any = 1.0

    @property
    def sde(self) -> SDE:
        return self.denoise.sde

    @property
    def space(self) -> Space:
        return space_of(self.denoise)

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for inputs that the denoiser was not built for."""
        check_inputs(self.denoise, x, cond)

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction:
        memory = self.guidance.init(x)
        if jax.tree.leaves(memory):
            raise ValueError(
                f"guidance={type(self.guidance).__name__} carries a memory from row to row; "
                f"allowed: guidance without a memory"
            )
        query = Query(self.denoise, x, t, cond)
        return self.guidance(query, jnp.asarray(self.weight, x.dtype), memory)[0]
