"""Training of autoencoders: reconstruction, and the KL divergence of the latents from N(0, 1).

With error e(d) of the difference d = x_hat - x, learned log-scale s, and sums over the values of an
item (arXiv:2112.10752, app. G, and its code),

    loss = mean over items of [ sum(e(d) exp(-s) + s) + kl_weight KL ],
    KL = sum(mu^2 + sigma^2 - 1 - log sigma^2) / 2.

With squared errors, and with kl_weight = 2, the loss is twice the negative evidence lower bound of
a Gaussian decoder of variance exp(s), up to a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Params, dims
from diffjax.checks import at_least
from diffjax.denoiser import Model
from diffjax.features.similarity import psnr, ssim
from diffjax.nets.autoencoder import Autoencoder
from diffjax.objectives.base import (
    Context,
    Metrics,
    Objective,
    Part,
    State,
    Task,
    check_batch,
)
from diffjax.objectives.errors import ERRORS, l1


def divergence(
    mean: Float[Array, "b *d z"], logvar: Float[Array, "b *d z"]
) -> Float[Array, "b *d z"]:
    """Return the KL divergence of N(mean, exp(logvar)) from N(0, 1) per value, in nats.

    >>> divergence(jnp.array([[2.0]]), jnp.array([[0.0]])).tolist()
    [[2.0]]
    """
    return (mean**2 + jnp.exp(logvar) - 1 - logvar) / 2


@dataclass(frozen=True)
class Autoencoding(Objective):
    """The loss of an autoencoder: reconstruction and KL divergence (see the module).

    error: the error of a value, such as l1 or l2. kl_weight: the factor of the KL divergence, >= 0.
    learned_scale: learn the log-scale s; otherwise it is 0. noise: the largest deviation of noise
    that is added to the latent before it is decoded; each item has its own, |N(0, noise^2)|, so
    that the decoder tolerates the errors of generated latents (arXiv:2510.11690).

    Metrics: `loss`; `error`, its mean per value; `psnr` in dB; `kl` in nats per item, and `kl/c` in
    nats per value of channel c; `latent_std`, the deviation of all latents of the batch; `scale`,
    the learned exp(s). Held-out items have `ssim` in place of `latent_std`. Raises ValueError for
    settings out of range.

    >>> Autoencoding(kl_weight=1e-4).denoises
    False
    """

    denoises: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, Part]] = {"error": Part(ERRORS, partial=True)}

    error: Callable[..., Any] = l1
    kl_weight: float = 1e-6
    learned_scale: bool = True
    noise: float = 0.0

    def __post_init__(self):
        checks.function("those of diffjax.objectives.ERRORS", error=self.error)
        at_least(0, kl_weight=self.kl_weight, noise=self.noise)

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError for another network, and for data that it cannot encode."""
        if task.form is not None:
            x = jax.ShapeDtypeStruct((1, *task.form.shape), jnp.float32)
            model.network.check(x, None)

    def init(self, model: Model, key: Key[Array, ""], x: Float[Array, "b *d"]) -> Params:
        return {"log_scale": jnp.zeros(())} if self.learned_scale else {}

    def shown(self, context: Context) -> tuple[Float[Array, "b *d"], ...]:
        """Return the items, the reconstructions of the means, and half of their difference."""
        network, x = cast(Autoencoder, context.model.network), context.batch["x"]
        params = context.params["network"]
        x_hat = network.decode(params, network.encode(params, x)[0])
        return x, x_hat, (x_hat - x) / 2

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        check_batch(context.batch)
        network, x = cast(Autoencoder, context.model.network), context.batch["x"]
        params = context.params["network"]
        key_z, key_noise, key_size = jax.random.split(context.key, 3)
        mean, logvar = network.encode(params, x)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key_z, mean.shape, mean.dtype)
        seen = z
        if self.noise and not context.evaluating:
            size = self.noise * jax.random.normal(key_size, (len(z), *(1,) * (z.ndim - 1)))
            seen = z + size * jax.random.normal(key_noise, z.shape, z.dtype)
        x_hat = network.decode(params, seen)
        s = context.params["loss"]["log_scale"] if self.learned_scale else jnp.zeros(())
        error = self.error(x_hat - x)
        kl = divergence(mean, logvar)
        likelihood = (error * jnp.exp(-s) + s).sum(dims(x))
        weight = context.batch.get("weight", 1.0)
        loss = (weight * (likelihood + self.kl_weight * kl.sum(dims(z)))).mean()
        metrics = {"loss": loss, "error": error.mean(), "scale": jnp.exp(s)}
        metrics |= _of_latents(z, kl, context.evaluating)
        metrics["psnr"] = psnr(x, x_hat).mean()
        if context.evaluating and x.ndim == 4:
            metrics["ssim"] = ssim(x, x_hat).mean()
        return loss, metrics, context.state


def _of_latents(z: Array, kl: Array, evaluating: bool) -> Metrics:
    """Return the divergence of all latents and by channel, and in training their deviation."""
    by_channel = kl.mean(tuple(range(kl.ndim - 1)))
    named = {f"kl/{c}": value for c, value in enumerate(by_channel)}
    return {"kl": kl.sum(dims(kl)).mean()} | named | ({} if evaluating else {"latent_std": z.std()})
