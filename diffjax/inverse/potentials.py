"""Potentials: positive functions of the predicted x0 that say which samples are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from diffjax import checks
from diffjax.arrays import dims, expand, pytree
from diffjax.guidance import Conditional, Guidance, Query
from diffjax.guidance.base import Around
from diffjax.guidance.query import Answer, Memory, Weight
from diffjax.inverse.measurement import Measurement
from diffjax.inverse.operators.base import Spectral
from diffjax.prediction import Prediction, Sample
from diffjax.sde import SDE


@runtime_checkable
class Potential(Protocol):
    """The interface of a potential: log psi, (B,), of x0 (B, ...) at rho = sigma / alpha, (B,).

    rho > 0: x0 is the prediction E[x0 | x_t]. rho = 0: x0 is a sample, and psi the factor by which
    samples are wanted more than under the model, p(y | x0) for a measurement y. Sample b depends on
    x0[b] only. A pytree, such as `jax.tree_util.Partial(apply, params)`; `traceable` makes one of a
    function.
    """

    def __call__(self, x0: Sample, rho: Float[Array, " b"], /) -> Float[Array, " b"]: ...


def traceable(function: Any) -> Any:
    """Return a pytree that calls `function`; a pytree is returned as it is."""
    leaf = jax.tree.structure(function) == jax.tree.structure(0)
    return Partial(function) if leaf and callable(function) else function


@pytree
@dataclass(frozen=True)
class Observation:
    """The likelihood of a measurement: psi = N(y; A x0, std^2 I + C A A^T) up to a constant.

    C = data_var rho^2 / (data_var + rho^2) is the variance of x0 given x_t for independent values
    of variance `data_var`; for Gaussian data psi is then p(y | x_t). Elsewhere psi is an
    approximation on the way, which particles correct. A A^T is that of operators with a known
    spectrum, and the identity for others. At rho = 0 psi is p(y | x0), with its constant. Raises
    ValueError for std = 0, where no density exists, and unless data_var > 0.

    >>> from diffjax.inverse import Scale
    >>> psi = Observation(Measurement(jnp.ones((1, 1)), Scale(1.0), std=1.0))
    >>> round(float(psi(jnp.ones((1, 1)), jnp.zeros(1))[0]), 4)  # log N(0; 0, 1)
    -0.9189
    """

    measurement: Measurement
    data_var: Any = 1.0

    def __post_init__(self):
        hint = "diffjax.inverse.Measurement(y, operator, std)"
        checks.instance(Measurement, hint, measurement=self.measurement)
        std = self.measurement.std
        if not checks.traced(std) and not (np.asarray(std) > 0).all():
            raise ValueError(
                f"std={np.min(std)}: an exact measurement has no density; needs std > 0"
            )
        if not checks.traced(self.data_var):
            checks.positive(data_var=self.data_var)

    def __call__(self, x0: Sample, rho: Float[Array, " b"], /) -> Float[Array, " b"]:
        self.measurement.check(x0)
        operator = self.measurement.operator
        away = self.measurement.values(x0) - operator(x0)
        noise = self.measurement.noise_std(away) ** 2
        # Written so that rho = inf, at alpha = 0, is allowed.
        spread = expand(self.data_var / (1 + self.data_var / rho**2), away)
        by = lambda squared: 1 / (noise + spread * squared)
        scaled = operator.gram(away, by) if isinstance(operator, Spectral) else by(1.0) * away
        # Of the constants only that at rho = 0 counts: those on the way cancel in all weights.
        constant = jnp.broadcast_to(jnp.log(2 * jnp.pi * noise), away.shape)
        return -0.5 * (away * scaled + constant).sum(dims(away))


@pytree
@dataclass(frozen=True)
class Reward:
    """The tilt psi = exp(scale r(x0)) by a reward, at all noise levels.

    reward: x0 (B, ...) -> r (B,), any function. Samples then have the density p(x0) exp(scale
    r(x0)) up to a constant.

    >>> Reward(lambda x0: -x0[:, 0], scale=2.0)(jnp.array([[3.0]]), jnp.zeros(1)).tolist()
    [-6.0]
    """

    reward: Any
    scale: Any = 1.0

    def __post_init__(self):
        object.__setattr__(self, "reward", traceable(self.reward))
        if not checks.traced(self.scale):
            checks.finite(scale=self.scale)

    def __call__(self, x0: Sample, rho: Float[Array, " b"], /) -> Float[Array, " b"]:
        return self.scale * self.reward(x0)


def log_psi(potential: Potential, x0: Sample, rho: Float[Array, " b"]) -> Float[Array, " b"]:
    """Return the log-potential (B,); raise ValueError where it is not one number per sample."""
    value = potential(x0, rho)
    if jnp.shape(value) != x0.shape[:1]:
        raise ValueError(
            f"potential: returns the shape {jnp.shape(value)}; needs one number per sample, "
            f"{x0.shape[:1]}"
        )
    return value


def noise_to_signal(sde: SDE, t: Float[Array, " b"]) -> Float[Array, " b"]:
    """Return rho = sigma / alpha at t."""
    return jnp.exp(-sde.logsnr(t) / 2)


@pytree
@dataclass(frozen=True)
class Tilted(Around):
    """Guidance by the gradient of a potential: eps - sigma grad log psi(x0_hat(x_t)).

    x0 moves by sigma^2 / alpha times the gradient, which is taken with respect to x_t, through the
    network. With a `Reward` it is guidance by a reward, with an `Observation` that by a
    measurement. inside: predicts x0_hat; the weights of rows are those of `inside`. A row costs its
    passes and their backward pass. The guidance is an approximation where x0 has a variance
    given x_t that the potential does not take into account; as a proposal of `steer` it is
    corrected. The result is not finite at alpha = 0: use a process with t_max < 1.

    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, schedules, sde
    >>> from diffjax.guidance import GuidedDenoiser
    >>> from diffjax.inverse import Measurement, Scale
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)  # alpha = sigma = 1 / 2 at t = 1 / 2
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> measurement = Measurement(jnp.ones((1, 1)), Scale(1.0), std=0.5**0.5)
    >>> tilted = GuidedDenoiser(denoise, Tilted(Observation(measurement)))
    >>> round(tilted(jnp.zeros((1, 1)), jnp.full(1, 0.5)).x0.item(), 4)  # C = 1 / 2 = std^2
    0.5
    """

    potential: Any
    inside: Guidance = field(default=Conditional())

    def __post_init__(self):
        object.__setattr__(self, "potential", traceable(self.potential))

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        sde, t = query.sde, query.t

        def value(x: Sample) -> tuple[Array, Answer]:
            prediction, after = self.inside(replace(query, x=x), weight, memory)
            return log_psi(self.potential, prediction.x0, noise_to_signal(sde, t)).sum(), (
                prediction,
                after,
            )

        slope, (prediction, memory) = jax.grad(value, has_aux=True)(query.x)
        alpha, sigma = (expand(a, query.x) for a in (sde.alpha(t), sde.sigma(t)))
        x0 = prediction.x0 + sigma**2 / alpha * slope
        return Prediction(x0, x0, prediction.eps - sigma * slope, prediction.log_var), memory
