"""Training of autoencoders: reconstruction, the KL divergence of the latents, a discriminator.

With error e(d) of the difference d = x_hat - x, perceptual distance P of the item with its weight
w, learned log-scale s, and sums over the values of an item (arXiv:2112.10752, app. G, and its
code),

    loss = mean over items of [ sum((e(d) + w P) exp(-s) + s) + kl_weight KL ],
    KL = sum(mu^2 + sigma^2 - 1 - log sigma^2) / 2.

With squared errors, and with kl_weight = 2, the loss is twice the negative evidence lower bound of
a Gaussian decoder of variance exp(s), up to a constant. The module `adversarial` has the terms of
the discriminator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffjax import checks
from diffjax.arrays import Params, dims
from diffjax.checks import at_least, within
from diffjax.denoiser import Model
from diffjax.features.lpips import DISTANCES, Distance, edges
from diffjax.features.similarity import psnr, ssim
from diffjax.nets.autoencoder import Autoencoder, divergence
from diffjax.nets.discriminator import DISCRIMINATORS, PatchGAN
from diffjax.objectives.adversarial import Terms, decoded, linear, terms
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

PATCH_GAN = PatchGAN()
EMPTY, RUNAWAY = 0.01, 100.0
"""Divergence in nats per value below which a channel of the latents counts as empty, and above
which it runs away."""
BEGUN = 500
"""Number of steps after which empty channels are reported."""


def halved(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """Return the means of squares of 2 x 2 values; both sides are even.

    >>> halved(jnp.arange(4.0).reshape(1, 2, 2, 1)).tolist()
    [[[[1.5]]]]
    """
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def turned(x: Float[Array, "b h w c"], turns: Int[Array, " b"]) -> Float[Array, "b h w c"]:
    """Turn each image by its number of quarter turns; images with unequal sides by half turns.

    >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> turned(x, jnp.array([1]))[0, :, :, 0].tolist()
    [[1.0, 3.0], [0.0, 2.0]]
    """
    step, whole = 1 if x.shape[1] == x.shape[2] else 2, x
    chosen = lambda k: (turns // step * step % 4 == k)[:, None, None, None]
    for k in range(step, 4, step):
        x = jnp.where(chosen(k), jnp.rot90(whole, k, (1, 2)), x)
    return x


@dataclass(frozen=True)
class Autoencoding(Objective):
    """The loss of an autoencoder: reconstruction, KL divergence and discriminator (see the module).

    error: the error of a value, such as l1 or l2. kl_weight: the factor of the KL divergence, >= 0.
    learned_scale: learn the log-scale s; otherwise it is 0. perceptual_weight: the factor w of the
    perceptual distance P, which is added to the error of every value. perceptual: an entry of
    `features.DISTANCES`; lpips needs weights, edges none. noise: the largest deviation of noise
    that is added to the latent before it is decoded; each item has its own, |N(0, noise^2)|, so
    that the decoder tolerates the errors of generated latents (arXiv:2510.11690). equivariance: the
    share of each batch whose latents are halved in size and turned by quarter turns, at random,
    before they are decoded, to be compared with the images halved and turned (arXiv:2502.09509,
    eq. 4). The published code differs: a batch as a whole draws one factor from 8/32, ..., 31/32
    and one turn, never none; a smaller image counts by its number of values, here as much as any
    other; and an eighth of the batches are images made smaller before they are encoded.

    adversarial_weight: the factor of the adaptive weight lambda, 0 for no discriminator.
    adversarial_start: the number of steps without it. discriminator: an entry of
    `nets.DISCRIMINATORS`. It sees images that are neither halved nor turned.

    Metrics: `loss`, without adversarial terms; `error`, its mean per value; `perceptual`, the mean
    of P; `psnr` in dB; `kl` in nats per item, and `kl/c` in nats per value of channel c;
    `latent_std`, the deviation of all latents of the batch; `scale`, the learned exp(s);
    `generator`, `adaptive_weight`, `discriminator`, and the mean logits `real` and `fake`. Held-out
    items have `ssim` in place of `latent_std`, and no adversarial terms. Raises ValueError for
    settings out of range.

    >>> Autoencoding(kl_weight=1e-4).denoises
    False
    """

    denoises: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, Part]] = {
        "error": Part(ERRORS, partial=True),
        "discriminator": Part(DISCRIMINATORS),
        "perceptual": Part(DISTANCES, partial=True),
    }

    error: Callable[..., Any] = l1
    kl_weight: float = 1e-6
    learned_scale: bool = True
    perceptual_weight: float = 0.0
    perceptual: Callable[..., Distance] = edges
    noise: float = 0.0
    equivariance: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_start: int = 0
    discriminator: PatchGAN = PATCH_GAN

    def __post_init__(self):
        checks.function("those of diffjax.objectives.ERRORS", error=self.error)
        at_least(0, kl_weight=self.kl_weight, noise=self.noise)
        weights = ("perceptual_weight", "adversarial_weight")
        at_least(0, **{name: getattr(self, name) for name in weights})
        at_least(0, adversarial_start=self.adversarial_start)
        within(0, 1, "[)", equivariance=self.equivariance)

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError for data that network, discriminator or transforms cannot take."""
        if task.form is None:
            return
        shape, network = task.form.shape, cast(Autoencoder, model.network)
        network.check(jax.ShapeDtypeStruct((1, *shape), jnp.float32), None)
        if self.adversarial_weight:
            self.discriminator.check(shape)
        if self.equivariance and any(side % (2 * network.factor) for side in shape[:2]):
            raise ValueError(
                f"equivariance={self.equivariance:g}: halves latents, so images need sides that "
                f"are multiples of {2 * network.factor}; the items have the shape {shape}"
            )

        if self.perceptual_weight:
            sides = (side // (2 if self.equivariance else 1) for side in shape[:2])
            x = jax.ShapeDtypeStruct((1, *sides, shape[-1]), jnp.float32)
            jax.eval_shape(self.distance.apply, self.distance.params, x, x)

    @functools.cached_property
    def distance(self) -> Distance:
        """The perceptual distance with its weights, which are read once."""
        return self.perceptual()

    def hold(self, model: Model, params: Params) -> Mapping[str, Params]:
        """Return the weights of the perceptual distance, if it has any."""
        fixed = self.distance.params if self.perceptual_weight else {}
        return {"perceptual": fixed} if fixed else {}

    def init(self, model: Model, key: Key[Array, ""], x: Float[Array, "b *d"]) -> Params:
        scale = {"log_scale": jnp.zeros(())} if self.learned_scale else {}
        if not self.adversarial_weight:
            return scale
        return scale | {"discriminator": self.discriminator.init(key, x)}

    def shown(self, context: Context) -> tuple[Float[Array, "b *d"], ...]:
        """Return the items, the reconstructions of the means, and half of their difference."""
        network, x = cast(Autoencoder, context.model.network), context.batch["x"]
        params = context.params["network"]
        x_hat = network.decode(params, network.encode(params, x)[0])
        return x, x_hat, (x_hat - x) / 2

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        check_batch(context.batch)
        network, x = cast(Autoencoder, context.model.network), context.batch["x"]
        params, counted = context.params, context.batch.get("weight", jnp.ones(len(x)))
        key_z, key_noise, key_turns = jax.random.split(context.key, 3)
        mean, logvar = network.encode(params["network"], x)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key_z, mean.shape, mean.dtype)
        seen = z if context.evaluating else self._noised(z, key_noise)
        s = params["loss"]["log_scale"] if self.learned_scale else jnp.zeros(())
        num = 0 if context.evaluating else min(int(self.equivariance * len(x)), len(x) - 1)

        def distance(x: Array, x_hat: Array, counted: Array) -> tuple[Array, Metrics]:
            """Return the sum over the items of the mean error of each, and metrics."""
            each = self.error(x_hat - x).mean(dims(x))
            metrics = {"error": each.mean()}
            if self.perceptual_weight:
                fixed = context.held.get("perceptual", {})
                apart = self.distance.apply(fixed, x, x_hat)
                metrics["perceptual"] = apart.mean()
                each += self.perceptual_weight * apart
            return x_size / len(mean) * (counted * each).sum(), metrics

        decode, x_size = network.decode, x[0].size
        if self.adversarial_weight and not context.evaluating:
            x_hat, pull = decoded(decode, params["network"], network.last, seen[num:])
        else:
            x_hat, pull = decode(params["network"], seen[num:]), None
        apart, slope, metrics = linear(lambda y: distance(x[num:], y, counted[num:]), x_hat)
        if num:
            turns = jax.random.randint(key_turns, (num,), 0, 4)
            changed = [halved(turned(a[:num], turns)) for a in (x, seen)]
            x_turned = decode(params["network"], changed[1])
            apart += distance(changed[0], x_turned, counted[:num])[0]
        kl = divergence(mean, logvar)
        likelihood = apart * jnp.exp(-s) + s * x_size * counted.mean()
        loss = likelihood + self.kl_weight * (counted * kl.sum(dims(z))).mean()

        metrics |= {"loss": loss, "scale": jnp.exp(s), "psnr": psnr(x[num:], x_hat).mean()}
        metrics |= _of_latents(z, kl, context.evaluating)
        if context.evaluating and x.ndim == 4:
            metrics["ssim"] = ssim(x, x_hat).mean()
        if pull is None:
            return loss, metrics, context.state
        added = jax.lax.cond(
            context.step >= self.adversarial_start,
            lambda: terms(
                self.discriminator,
                params["loss"]["discriminator"],
                x=x[num:],
                x_hat=x_hat,
                slope=slope * jnp.exp(-s),
                pull=pull,
                weight=self.adversarial_weight,
                counted=counted[num:],
            ),
            Terms.none,
        )
        names = ("generator", "adaptive_weight", "discriminator", "real", "fake")
        return loss + added.loss, metrics | dict(zip(names, added, strict=True)), context.state

    def doubts(self, step: int, metrics: Mapping[str, float]) -> Mapping[str, str]:
        """Warn of channels without information, and of latents far from N(0, 1)."""
        by_channel = {int(k[3:]): v for k, v in metrics.items() if k.startswith("kl/")}
        empty = ", ".join(str(c) for c, kl in by_channel.items() if kl < EMPTY)
        lines = {}
        if empty and step >= BEGUN:
            lines["empty"] = (
                f"posterior collapse: the KL divergence of channels {empty} of the latents is "
                f"below {EMPTY:g} nats per value, so they say next to nothing of an item: lower "
                f"config.loss.kl_weight={self.kl_weight:g}"
            )
        if by_channel and not max(by_channel.values()) <= RUNAWAY:
            lines["runaway"] = (
                f"KL runaway: {max(by_channel.values()):.3g} nats per value of the latents, whose "
                f"deviation is {metrics['latent_std']:.3g}: raise config.loss.kl_weight="
                f"{self.kl_weight:g} or lower config.optimizer.learning_rate"
            )
        return lines

    def _noised(self, z: Array, key: Key[Array, ""]) -> Array:
        """Return latents with noise, whose deviation each item draws."""
        if not self.noise:
            return z
        key_size, key_noise = jax.random.split(key)
        size = self.noise * jax.random.normal(key_size, (len(z), *(1,) * (z.ndim - 1)))
        return z + size * jax.random.normal(key_noise, z.shape, z.dtype)


def _of_latents(z: Array, kl: Array, evaluating: bool) -> Metrics:
    """Return the divergence of all latents and by channel, and in training their deviation."""
    by_channel = kl.mean(tuple(range(kl.ndim - 1)))
    named = {f"kl/{c}": value for c, value in enumerate(by_channel)}
    return {"kl": kl.sum(dims(kl)).mean()} | named | ({} if evaluating else {"latent_std": z.std()})
