"""The denoiser protocol: a callable that returns the two views x0 and eps of a noisy sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Cond, expand
from diffjax.sde import SDE

Sample = Float[Array, "b *d"]
Time = Float[Array, "b ..."]


class Prediction(NamedTuple):
    """The prediction of a denoiser at x_t: raw output and both views of it, each (B, ...).

    output: the network output F. x0, eps: the views, with x_t = alpha x0 + sigma eps. log_var: the
    second output of a network that learns the variance of a step, None otherwise; -1 stands for
    the variance of the posterior and 1 for that of the forward step (arXiv:2102.09672).

    >>> import jax.numpy as jnp
    >>> one = jnp.ones((3, 2))
    >>> p = Prediction(output=one, x0=one, eps=-one)
    >>> p.x0.shape, p.log_var
    ((3, 2), None)
    """

    output: Sample
    x0: Sample
    eps: Sample
    log_var: Sample | None = None


def predict(sde: SDE, x: Sample, t: Time, x0: Sample) -> Prediction:
    """Return the prediction of a denoiser with E[x0 | x_t] = `x0`; its raw output is x0.

    x, x0: (B, ...). t: (B,), with sigma > 0.

    >>> import jax.numpy as jnp
    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> p = predict(flow, jnp.array([[1.0]]), jnp.array([0.5]), x0=jnp.array([[3.0]]))
    >>> float(p.eps[0, 0])  # 1 = 0.5 * 3 + 0.5 * eps
    -1.0
    """
    eps = (x - expand(sde.alpha(t), x) * x0) / expand(sde.sigma(t), x)
    return Prediction(x0, x0, eps)


@runtime_checkable
class Denoise(Protocol):
    """The interface of a model to losses, samplers, guidance and likelihoods.

    sde: the process of x_t. A call takes x (B, ...), times t (B,) or, with lanes, (B, L),
    conditions by name, each (B, ...), and a key where the network is random.

    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> isinstance(analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(flow), Denoise)
    True
    """

    @property
    def sde(self) -> SDE: ...

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction: ...


@runtime_checkable
class Checks(Protocol):
    """A denoiser that can check inputs against those that it was built for."""

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for inputs it was not built for; never called with traced values."""
        ...


def check_inputs(denoise: Denoise, x: Any, cond: Mapping[str, Any] | None) -> None:
    """Raise ValueError unless `denoise` is a denoiser that was built for these inputs.

    x: samples (B, ...), or a stand-in of their shape and type. cond: conditions by name or None;
    traced conditions are not checked.

    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, schedules, sde
    >>> data, flow = analytic.gaussian(jnp.zeros(2), jnp.ones(2)), sde.Flow(schedules.Logit())
    >>> denoise = data.denoiser(flow)
    >>> check_inputs(denoise, jnp.ones((3, 4)), None)
    Traceback (most recent call last):
    ValueError: x has the shape (3, 4); needs (3, 2)
    """
    checks.function("diffjax.load(run).denoise", denoise=denoise)
    if isinstance(denoise, Checks) and not checks.traced(cond):
        denoise.check(x, cond)


class FlowMap(Denoise, Protocol):
    """A denoiser with a second time `to` (B,), 0 <= to <= t, to which its prediction leads.

    None stands for to = t, where it is an ordinary denoiser.
    """

    def __call__(
        self,
        x: Sample,
        t: Time,
        cond: Cond | None = None,
        *,
        key: Key[Array, ""] | None = None,
        to: Time | None = None,
    ) -> Prediction: ...
