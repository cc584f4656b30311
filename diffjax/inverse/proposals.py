"""Proposals of particles: from which distribution the next state of a particle is drawn.

Under the model x_s = mean + std z with z ~ N(0, I). A proposal draws x_s = mean + std (shift +
scale z) instead, and the weight of the particle corrects for the difference. Shift and scale are in
units of std, so rows without noise, whose x_s no proposal can change, need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffjax.arrays import pytree
from diffjax.guidance import Guidance, Query
from diffjax.guidance.query import Memory, Weight
from diffjax.prediction import Sample
from diffjax.samplers.table import Read

Moved = tuple[tuple[Any, Any], Memory]
"""(shift, scale), arrays that broadcast against x, and the memory for the next row."""


class Step(NamedTuple):
    """One row of the model for particles (B, ...), from which a proposal is computed.

    row: its index. query: the denoiser at (x_t, t). weight: the guidance weight of the row. mean,
    std: those of p(x_s | x_t). slope: the gradient of log psi(x0_hat(x_t)) in x_t where the
    proposal asks for it, otherwise zeros. y: the prediction that the row reads by `read`. output:
    the coefficient of y in x_s.

    >>> from diffjax import analytic, schedules, sde
    >>> from diffjax.samplers.table import x0
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> query = Query(denoise, jnp.ones((1, 1)), jnp.full(1, 0.5))
    >>> one, slope = jnp.ones((1, 1)), jnp.full((1, 1), 3.0)
    >>> step = Step(jnp.array(0), query, jnp.ones(()), one, 0.5, slope, one, jnp.ones(()), x0)
    >>> step.read(denoise(query.x, query.t)).round(4).tolist()  # y: x0_hat, here that of x_t = 1
    [[1.0]]
    """

    row: Int[Array, ""]
    query: Query
    weight: Weight
    mean: Sample
    std: Any
    slope: Sample
    y: Sample
    output: Float[Array, ""]
    read: Read


@runtime_checkable
class Proposal(Protocol):
    """The interface of a proposal, a pytree.

    sloped: whether `Step.slope` is computed, at the cost of a backward pass of the network.
    """

    @property
    def sloped(self) -> bool: ...

    def init(self, x: Sample) -> Memory:
        """Return the initial memory: arrays (B, ...) that particles carry from row to row."""
        ...

    def __call__(self, step: Step, memory: Memory, /) -> Moved: ...


@pytree
@dataclass(frozen=True)
class Plain:
    """The model itself: weights come from the potential alone, which needs no gradient.

    >>> from diffjax import analytic, schedules, sde
    >>> from diffjax.samplers.table import x0
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> query = Query(denoise, jnp.ones((1, 1)), jnp.full(1, 0.5))
    >>> one, slope = jnp.ones((1, 1)), jnp.full((1, 1), 3.0)
    >>> step = Step(jnp.array(0), query, jnp.ones(()), one, 0.5, slope, one, jnp.ones(()), x0)
    >>> Plain()(step, ())[0]
    (0.0, 1.0)
    """

    @property
    def sloped(self) -> bool:
        return False

    def init(self, x: Sample) -> Memory:
        return ()

    def __call__(self, step: Step, memory: Memory, /) -> Moved:
        return (0.0, 1.0), memory


@pytree
@dataclass(frozen=True)
class Twisted:
    """The model with its mean moved by std^2 grad log psi(x0_hat(x_t)) (arXiv:2306.17775, eq. 11).

    The gradient is taken through the network.

    >>> from diffjax import analytic, schedules, sde
    >>> from diffjax.samplers.table import x0
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> query = Query(denoise, jnp.ones((1, 1)), jnp.full(1, 0.5))
    >>> one, slope = jnp.ones((1, 1)), jnp.full((1, 1), 3.0)
    >>> step = Step(jnp.array(0), query, jnp.ones(()), one, 0.5, slope, one, jnp.ones(()), x0)
    >>> shift, scale = Twisted()(step, ())[0]
    >>> shift.tolist(), scale  # std slope, in units of std
    ([[1.5]], 1.0)
    """

    @property
    def sloped(self) -> bool:
        return True

    def init(self, x: Sample) -> Memory:
        return ()

    def __call__(self, step: Step, memory: Memory, /) -> Moved:
        return (step.std * step.slope, 1.0), memory


@pytree
@dataclass(frozen=True)
class AsGuided:
    """The row as `guidance` would take it, with the noise of the model.

    One particle without resampling is then plain guidance, up to rows without noise; more particles
    correct the guidance. A row costs the passes of the guidance on top of those of the model.

    >>> from diffjax import analytic, schedules, sde
    >>> from diffjax.samplers.table import x0
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> query = Query(denoise, jnp.ones((1, 1)), jnp.full(1, 0.5))
    >>> one, slope = jnp.ones((1, 1)), jnp.full((1, 1), 3.0)
    >>> step = Step(jnp.array(0), query, jnp.ones(()), one, 0.5, slope, one, jnp.ones(()), x0)
    >>> from diffjax.guidance import Conditional
    >>> shift, _ = AsGuided(Conditional())(step, ())[0]
    >>> (0 + shift.round(4)).tolist()  # the guidance of the model itself moves nothing
    [[0.0]]
    """

    guidance: Guidance

    @property
    def sloped(self) -> bool:
        return False

    def init(self, x: Sample) -> Memory:
        return self.guidance.init(x)

    def __call__(self, step: Step, memory: Memory, /) -> Moved:
        guided, memory = self.guidance(step.query, step.weight, memory)
        moved = step.output * (step.read(guided) - step.y)
        noisy = step.std != 0
        return (jnp.where(noisy, moved / jnp.where(noisy, step.std, 1), 0), 1.0), memory
