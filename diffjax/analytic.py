"""Gaussian mixtures: data whose denoiser, score, density and samples are known exactly.

Toy data, and the oracle of the tests: for x0 ~ sum_k w_k N(mu_k, S_k) every marginal of every
process is again a mixture, with means alpha mu_k and variances alpha^2 S_k + sigma^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Cond
from diffjax.prediction import Prediction, Sample, Time
from diffjax.sde import SDE


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mixture:
    """sum_k weight_k N(mean_k, diag(var_k)): weights (K,) sum to 1, means and variances (K, *d).

    `cond["label"]` = k selects component k, -1 the whole mixture.
    """

    weight: Any
    mean: Any
    var: Any

    def __repr__(self) -> str:
        return f"Mixture({self.mean.shape[0]} components of {self.mean.shape[1:]})"

    def sample(self, key: Key[Array, ""], n: int) -> tuple[Sample, Array]:
        """Draws (n, *d) and the components (n,) that they came from."""
        pick, noise = jax.random.split(key)
        label = jax.random.choice(pick, self.weight.size, (n,), p=self.weight)
        eps = jax.random.normal(noise, (n, *self.mean.shape[1:]))
        return self.mean[label] + jnp.sqrt(self.var[label]) * eps, label

    def components(
        self, sde: SDE, x: Sample, t: Time, cond: Cond | None = None
    ) -> tuple[Array, Array, Array]:
        """Of the marginal at t: log(w_k p_k(x_t)) in nats (B, K), and the posterior means of x0 and
        eps given component k, each (B, K, *d). -inf where the label excludes k.

        Raises ValueError for arrays of other shapes, and for a label that is no component.
        """
        checks.samples(x)
        checks.per_sample(len(x), t=t)
        checks.conditions(cond, len(x))
        checks.same_shape((len(x), *self.mean.shape[1:]), x=x)

        def one(x: Array, t: Array, label: Array) -> tuple[Array, Array, Array]:
            alpha, sigma = sde.alpha(t), sde.sigma(t)
            var = alpha**2 * self.var + sigma**2
            away = x[None] - alpha * self.mean
            logp = -0.5 * (away**2 / var + jnp.log(2 * jnp.pi * var))
            logp = logp.sum(tuple(range(1, logp.ndim)))
            chosen = jnp.where(jnp.arange(self.weight.size) == label, logp, -jnp.inf)
            logp = jnp.where(label == -1, logp + jnp.log(self.weight), chosen)
            # eps has a formula of its own: no cancellation at small sigma.
            return logp, self.mean + alpha * self.var * away / var, sigma * away / var

        label = cond["label"] if cond else jnp.full(x.shape[:1], -1)
        checks.labels(label, self.weight.size)
        return jax.vmap(one)(x, t, label)

    def logp(self, sde: SDE, x: Sample, t: Time, cond: Cond | None = None) -> Float[Array, " b"]:
        """Log-density of the marginal at t in nats."""
        return jax.nn.logsumexp(self.components(sde, x, t, cond)[0], axis=1)

    def denoiser(self, sde: SDE) -> MixtureDenoiser:
        """The exact denoiser E[x0 | x_t] under `sde`."""
        return MixtureDenoiser(sde, self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MixtureDenoiser:
    """Exact predictions for mixture data; `output` is x0. See `Denoise`."""

    sde: SDE = field(metadata={"static": True})
    data: Mixture

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for samples of another shape, and for a label that is no component."""
        checks.same_shape((len(x), *self.data.mean.shape[1:]), x=x)
        if cond:
            checks.labels(cond["label"], self.data.weight.size)

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction:
        """Both views as posterior means over the components."""
        logp, x0, eps = self.data.components(self.sde, x, t, cond)
        mean = jax.vmap(lambda share, views: jnp.tensordot(share, views, 1))
        share = jax.nn.softmax(logp, axis=1)
        return Prediction(mean(share, x0), mean(share, x0), mean(share, eps))


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

    def one(x: Array, t: Array, s: Array) -> Array:
        alpha_t, alpha_s = sde.alpha(t), sde.alpha(s)
        var_t, var_s = (sde.alpha(r) ** 2 * var + sde.sigma(r) ** 2 for r in (t, s))
        return alpha_s * mean + jnp.sqrt(var_s / var_t) * (x - alpha_t * mean)

    return jax.vmap(one)(x, t, s)
