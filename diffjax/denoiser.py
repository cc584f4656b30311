"""Predictions, denoisers, and the same denoiser seen under another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax.arrays import Cond, Params, expand
from diffjax.nets.network import Network
from diffjax.parameterization import Parameterization
from diffjax.sde import SDE, ends

Sample = Float[Array, "b *d"]
Time = Float[Array, " b"]


class Prediction(NamedTuple):
    """What a denoiser says of x_t: the raw network output and both views of it, each (B, ...)."""

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


@dataclass(frozen=True)
class Model:
    """A recipe: process, parameterization, network. Hashable; the parameters travel apart.

    Raises ValueError where the parameterization does not suit the process.
    """

    sde: SDE
    parameterization: Parameterization
    network: Network

    def __post_init__(self):
        self.parameterization.check(self.sde)

    def init(self, key: Key[Array, ""], x: Sample, cond: Cond | None = None) -> Params:
        """Parameters for inputs like `x` and `cond`."""
        return {"network": self.network.init(key, x, jnp.zeros(x.shape[:1], x.dtype), cond)}

    def output(
        self, params: Params, x: Sample, t: Time, cond: Cond | None, key: Key[Array, ""] | None
    ) -> Sample:
        """The raw network output F."""
        c_in = self.parameterization.c_in(self.sde, t)
        c_noise = self.parameterization.c_noise(self.sde, t)
        return self.network.apply(params["network"], expand(c_in, x) * x, c_noise, cond, key=key)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Denoiser:
    """A model with its parameters: a pytree whose only leaves are the parameters."""

    model: Model = field(metadata={"static": True})
    params: Params

    @property
    def sde(self) -> SDE:
        return self.model.sde

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction:
        """Both views from F = a x0 + b eps; neither is computed from the other."""
        sde = self.model.sde
        a, b = self.model.parameterization.target(sde, t)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        det = a * sigma - b * alpha
        output = self.model.output(self.params, x, t, cond, key)
        x0 = expand(sigma / det, x) * output - expand(b / det, x) * x
        eps = expand(a / det, x) * x - expand(alpha / det, x) * output
        return Prediction(output, x0, eps)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reframed:
    """`denoise`, trained under its own process, seen under `sde`: see `reframe`."""

    denoise: Denoise
    sde: SDE = field(metadata={"static": True})

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction:
        l = self.sde.logsnr(t)
        (log_alpha, log_sigma), trained = self.sde.frame(l), self.denoise.sde.frame(l)
        # The two ratios are equal; each is finite where it is used, at alpha = 0 and sigma = 0 too.
        log_scale = jnp.where(l > 0, trained[0] - log_alpha, trained[1] - log_sigma)
        lo, hi = self.denoise.sde.t_min, self.denoise.sde.t_max
        return self.denoise(
            expand(jnp.exp(log_scale), x) * x,
            jnp.clip(self.denoise.sde.inverse(l), lo, hi),  # rounding only: `reframe` checks ends
            cond,
            key=key,
        )


def reframe(denoise: Denoise, sde: SDE) -> Reframed:
    """The same trained network under another process, without retraining.

    At equal log-SNR l the two processes differ by the scale of x only, so the network is asked at
    t' = trained inverse(l) and x' = (alpha' / alpha) x; its views x0 and eps hold in both frames,
    while `output` stays what it was trained to be (arXiv:2206.00364, app. C).
    Raises ValueError where `sde` has noise levels that the network was not trained for.
    """
    new, old = ends(sde).lam, ends(denoise.sde).lam
    if new[0] > old[0] + 1e-6 * abs(old[0]) or new[1] < old[1] - 1e-6 * abs(old[1]):
        raise ValueError(
            f"reframe to {sde}: its log-SNR range [{2 * new[1]:.4g}, {2 * new[0]:.4g}] exceeds "
            f"the trained one [{2 * old[1]:.4g}, {2 * old[0]:.4g}]; allowed: t_min, t_max inside it"
        )
    return Reframed(denoise, sde)
