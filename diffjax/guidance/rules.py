"""Rules, which combine a conditional and a reference prediction, given the weight of each sample.

All rules are defined on x0 or on a velocity, not on the raw output, so they are valid for every
parameterization. Both views of the result belong to one x_t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import dims, expand
from diffjax.checks import at_least, positive, within
from diffjax.guidance.query import Answer, Memory, Pair, Weights, with_x0
from diffjax.prediction import Prediction, Sample


@runtime_checkable
@runtime_checkable
class Rule(Protocol):
    """The interface of a rule: a frozen dataclass of settings, static under `jit`.

    It is called for rows in which some sample is guided. Its results for samples of weight 1 are
    discarded, and their memory is left unchanged.
    """

    def init(self, x: Sample) -> Memory:
        """Return the initial memory: arrays (B, ...), carried from guided row to guided row."""
        ...

    def __call__(self, pair: Pair, weight: Weights, memory: Memory) -> Answer: ...


@dataclass(frozen=True)
class Linear:
    """Linear extrapolation, ref + w (cond - ref) (arXiv:2207.12598, eq. 6).

    >>> from diffjax import schedules, sde
    >>> from diffjax.prediction import predict
    >>> flow, x, t = sde.Flow(schedules.Logit()), jnp.ones((1, 2)), jnp.array([0.5])
    >>> p, q = (predict(flow, x, t, jnp.array([x0])) for x0 in ([2.0, 0.0], [1.0, 1.0]))
    >>> Linear()(Pair(flow, t, p, q), jnp.array([2.0]), ())[0].x0.tolist()
    [[3.0, -1.0]]
    """

    def init(self, x: Sample) -> Memory:
        return ()

    def __call__(self, pair: Pair, weight: Weights, memory: Memory) -> Answer:
        return pair.mixed(weight), memory


@dataclass(frozen=True)
class Rescale:
    """Guidance rescaling: the guided x0 is scaled towards the conditional standard deviation.

    x0 = phi std(cond) / std(guided) guided + (1 - phi) guided, with the standard deviation over all
    values of a sample (arXiv:2305.08891, sec. 3.4; there on the output v, which is -x0 at alpha =
    0). Raises ValueError unless 0 <= phi <= 1.

    >>> from diffjax import schedules, sde
    >>> from diffjax.prediction import predict
    >>> flow, x, t = sde.Flow(schedules.Logit()), jnp.ones((1, 2)), jnp.array([0.5])
    >>> p, q = (predict(flow, x, t, jnp.array([x0])) for x0 in ([2.0, 0.0], [1.0, 1.0]))
    >>> Rescale(phi=1.0)(Pair(flow, t, p, q), jnp.array([2.0]), ())[0].x0.tolist()
    [[1.5, -0.5]]
    """

    phi: float = 0.7

    def __post_init__(self):
        within(0, 1, phi=self.phi)

    def init(self, x: Sample) -> Memory:
        return ()

    def __call__(self, pair: Pair, weight: Weights, memory: Memory) -> Answer:
        guided = pair.mixed(weight)
        std = lambda a: a.std(dims(a))
        ratio = _over(std(pair.conditional.x0), std(guided.x0), 1.0)
        scale = 1 + self.phi * (ratio - 1)
        return with_x0(pair, guided, expand(scale, guided.x0) * guided.x0), memory


@dataclass(frozen=True)
class APG:
    """Adaptive projected guidance (arXiv:2410.02416, Alg. 1), on x0.

    d = cond - ref + momentum d_before, clipped to the norm `norm`. The part of d parallel to cond
    is multiplied by `parallel`: x0 = cond + (w - 1) (d_orthogonal + parallel d_parallel). Norms and
    inner products are over all values of a sample, so a good `norm` depends on its size; by default
    there is no clipping. parallel = 1 and momentum = 0 is `Linear`. Raises ValueError unless norm >
    0 and |momentum| < 1.

    >>> from diffjax import schedules, sde
    >>> from diffjax.prediction import predict
    >>> flow, x, t = sde.Flow(schedules.Logit()), jnp.ones((1, 2)), jnp.array([0.5])
    >>> p, q = (predict(flow, x, t, jnp.array([x0])) for x0 in ([2.0, 0.0], [1.0, 1.0]))
    >>> APG(momentum=0.0)(Pair(flow, t, p, q), jnp.array([2.0]), ())[0].x0.tolist()
    [[2.0, -1.0]]
    """

    parallel: float = 0.0
    norm: float = math.inf
    momentum: float = -0.5

    def __post_init__(self):
        positive(norm=self.norm)
        within(-1, 1, "()", momentum=self.momentum)

    def init(self, x: Sample) -> Memory:
        return jnp.zeros_like(x) if self.momentum else ()

    def __call__(self, pair: Pair, weight: Weights, memory: Memory) -> Answer:
        conditional = pair.conditional
        d = conditional.x0 - pair.reference.x0
        if self.momentum:
            d = memory = d + self.momentum * memory
        if math.isfinite(self.norm):  # an infinite one would have a gradient of NaN
            size = jnp.sqrt(_dot(d, d))
            d = d * expand(jnp.minimum(1, _over(self.norm, size, 1.0)), d)
        share = _over(_dot(d, conditional.x0), _dot(conditional.x0, conditional.x0), 0.0)
        d = d - (1 - self.parallel) * expand(share, d) * conditional.x0
        return with_x0(pair, conditional, conditional.x0 + expand(weight - 1, d) * d), memory


@dataclass(frozen=True)
class CFGZero:
    """CFG-Zero*: an optimally scaled reference, and zero velocity in the first rows.

    The rule acts on the velocity u = alpha' x0 + sigma' eps of the process: s ref + w (cond - s
    ref) with s = <cond, ref> / |ref|^2 of each sample (arXiv:2503.18886, Alg. 1). In the first
    `still` guided rows u = 0, which leaves x unchanged in `Flow`, the frame of the paper. Raises
    ValueError for still < 0.

    >>> from diffjax import schedules, sde
    >>> from diffjax.prediction import predict
    >>> flow, x, t = sde.Flow(schedules.Logit()), jnp.ones((1, 2)), jnp.array([0.5])
    >>> p, q = (predict(flow, x, t, jnp.array([x0])) for x0 in ([3.0, 1.0], [1.0, -1.0]))
    >>> CFGZero()(Pair(flow, t, p, q), jnp.array([2.0]), ())[0].x0.tolist()
    [[5.0, 1.0]]
    """

    still: int = 0

    def __post_init__(self):
        at_least(0, still=self.still)

    def init(self, x: Sample) -> Memory:
        return jnp.zeros(x.shape[0], jnp.int32) if self.still else ()

    def __call__(self, pair: Pair, weight: Weights, memory: Memory) -> Answer:
        sde, t, conditional, reference = pair
        like = lambda a: expand(a, conditional.x0)
        dalpha, dsigma = (like(a) for a in sde.slopes(t))
        whole, alpha, sigma = like(sde.wronskian(t)), like(sde.alpha(t)), like(sde.sigma(t))
        velocity = lambda p: dalpha * p.x0 + dsigma * p.eps

        def scaled(p: Prediction, scale: Any) -> Prediction:
            """Return p with its velocity multiplied by `scale`, at the same x_t."""
            change = (scale - 1) * velocity(p) / whole
            x0 = p.x0 - sigma * change
            return p._replace(output=x0, x0=x0, eps=p.eps + alpha * change)

        u, v = velocity(conditional), velocity(reference)
        fit = expand(_over(_dot(u, v), _dot(v, v), 1.0), v)
        guided = pair._replace(reference=scaled(reference, fit)).mixed(weight)
        if self.still:
            guided = scaled(guided, like(jnp.where(memory < self.still, 0.0, 1.0)))
            memory = memory + 1
        return guided, memory


def _dot(a: Sample, b: Sample) -> Float[Array, " b"]:
    return (a * b).sum(dims(a))


def _over(a: Any, b: Float[Array, " b"], otherwise: float) -> Float[Array, " b"]:
    """Return a / b, or `otherwise` where b = 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), otherwise)
