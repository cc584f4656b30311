"""Gaussian mixtures: data whose denoiser, score, density and samples are known exactly.

Toy data, and the oracle of the tests: for x0 ~ sum_k w_k N(mu_k, S_k) every marginal of every
process is again a mixture, with means alpha mu_k and variances alpha^2 S_k + sigma^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax.arrays import Cond, expand
from diffjax.denoiser import Prediction, Sample, Time
from diffjax.sde import SDE


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mixture:
    """sum_k weight_k N(mean_k, diag(var_k)): weights (K,) sum to 1, means and variances (K, *d).

    `cond["label"]` = k selects component k, -1 the whole mixture.
    """

    weight: Float[Array, " k"]
    mean: Float[Array, "k *d"]
    var: Float[Array, "k *d"]

    def sample(self, key: Key[Array, ""], n: int) -> tuple[Sample, Array]:
        """Draws (n, *d) and the components (n,) that they came from."""
        pick, noise = jax.random.split(key)
        label = jax.random.choice(pick, self.weight.size, (n,), p=self.weight)
        eps = jax.random.normal(noise, (n, *self.mean.shape[1:]))
        return self.mean[label] + jnp.sqrt(self.var[label]) * eps, label

    def at(self, sde: SDE, t: Time) -> tuple[Array, Array]:
        """Means and variances of the components of the marginal at t, each (B, K, *d)."""
        alpha, sigma = expand(sde.alpha(t), self.mean), expand(sde.sigma(t), self.mean)
        alpha, sigma = alpha[:, None], sigma[:, None]
        return alpha * self.mean[None], alpha**2 * self.var + sigma**2

    def logps(self, sde: SDE, x: Sample, t: Time, cond: Cond | None = None) -> Array:
        """log(w_k N(x_t; component k at t)) in nats, (B, K); -inf where the label excludes k."""
        mean, var = self.at(sde, t)
        logp = -0.5 * ((x[:, None] - mean) ** 2 / var + jnp.log(2 * jnp.pi * var))
        logp = logp.sum(tuple(range(2, logp.ndim))) + jnp.log(self.weight)[None]
        if cond is None:
            return logp
        k = jnp.arange(self.weight.size)[None]
        label = cond["label"][:, None]
        chosen = jnp.where(k == label, logp - jnp.log(self.weight)[None], -jnp.inf)
        return jnp.where(label < 0, logp, chosen)

    def logp(self, sde: SDE, x: Sample, t: Time, cond: Cond | None = None) -> Array:
        """Log-density of the marginal at t in nats, (B,)."""
        return jax.nn.logsumexp(self.logps(sde, x, t, cond), axis=1)

    def denoiser(self, sde: SDE) -> MixtureDenoiser:
        """The exact denoiser E[x0 | x_t] under `sde`."""
        return MixtureDenoiser(sde, self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MixtureDenoiser:
    """Exact predictions for mixture data; `output` is x0. See `Denoise`."""

    sde: SDE = field(metadata={"static": True})
    data: Mixture

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction:
        """Both views as posterior means; eps has no cancellation at small sigma."""
        mean, var = self.data.at(self.sde, t)
        gain = (x[:, None] - mean) / var
        alpha, sigma = (expand(a, mean) for a in (self.sde.alpha(t), self.sde.sigma(t)))
        share = expand_components(jax.nn.softmax(self.data.logps(self.sde, x, t, cond), 1), mean)
        x0 = (share * (self.data.mean + alpha * self.data.var * gain)).sum(1)
        eps = (share * (sigma * gain)).sum(1)
        return Prediction(x0, x0, eps)


def expand_components(a: Float[Array, "b k"], x: Float[Array, "b k *d"]) -> Array:
    return a.reshape(a.shape + (1,) * (x.ndim - 2))


def gaussian(mean: Float[Array, "*d"], var: Float[Array, "*d"]) -> Mixture:
    """N(mean, diag(var)) as a mixture of one."""
    return Mixture(jnp.ones(1), jnp.asarray(mean)[None], jnp.asarray(var)[None])


def gaussian_flow(
    sde: SDE, mean: Array, var: Array, x: Sample, t: Time, s: Time
) -> Float[Array, "b *d"]:
    """The probability-flow ODE from x at t to s, exactly, for N(mean, diag(var)) data.

    x_s - alpha_s mu = sqrt((alpha_s^2 S + sigma_s^2) / (alpha_t^2 S + sigma_t^2))
    (x_t - alpha_t mu), the master oracle of the samplers.
    """
    at = lambda r: (expand(sde.alpha(r), x), expand(sde.sigma(r), x))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = at(t), at(s)
    scale = jnp.sqrt((alpha_s**2 * var + sigma_s**2) / (alpha_t**2 * var + sigma_t**2))
    return alpha_s * mean + scale * (x - alpha_t * mean)
