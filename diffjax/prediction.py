"""What a denoiser is to everything that uses one: a call, and the two views that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Cond, expand
from diffjax.sde import SDE

Sample = Float[Array, "b *d"]
Time = Float[Array, " b"]


class Prediction(NamedTuple):
    """What a denoiser says of x_t: the raw network output and both views of it, each (B, ...).

    log_var: where the network has a second output, which is trained to say how large the noise of
    a step should be: -1 the posterior variance, 1 that of the forward step (arXiv:2102.09672).
    """

    output: Sample
    x0: Sample
    eps: Sample
    log_var: Sample | None = None


def predict(sde: SDE, x: Sample, t: Time, x0: Sample) -> Prediction:
    """The prediction that a denoiser with E[x0 | x_t] = `x0` makes."""
    eps = (x - expand(sde.alpha(t), x) * x0) / expand(sde.sigma(t), x)
    return Prediction(x0, x0, eps)


@runtime_checkable
class Denoise(Protocol):
    """All that losses, samplers, guidance and likelihoods see of a model."""

    @property
    def sde(self) -> SDE: ...

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction: ...


@runtime_checkable
class Checks(Protocol):
    """A denoiser that knows which inputs it was built for."""

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for others; not called with traced values."""
        ...


def check_inputs(denoise: Denoise, x: Any, cond: Mapping[str, Any] | None) -> None:
    """Raise ValueError for what is no denoiser, and for inputs that it was not built for.

    x: samples, or something of their shape and type.
    """
    checks.function("diffjax.load(run).denoise", denoise=denoise)
    if isinstance(denoise, Checks) and not checks.traced(cond):
        denoise.check(x, cond)


class FlowMap(Denoise, Protocol):
    """A denoiser that takes the time where its prediction leads, a time `to` <= t; None means t."""

    def __call__(
        self,
        x: Sample,
        t: Time,
        cond: Cond | None = None,
        *,
        key: Key[Array, ""] | None = None,
        to: Time | None = None,
    ) -> Prediction: ...
