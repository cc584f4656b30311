"""Gaussian mixtures: data whose denoiser, score, density, flow map and samples are known exactly.

They serve as toy data and as the oracle of the tests: for x0 ~ sum_k w_k N(mu_k, S_k) every
marginal of every process is again a mixture, with means alpha mu_k and variances alpha^2 S_k +
sigma^2. The probability-flow ODE preserves normal scores on Gaussian data, and quantiles in one
dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Cond, expand, pytree
from diffjax.prediction import Prediction, Sample, Time
from diffjax.sde import SDE


@pytree
@dataclass(frozen=True)
class Mixture:
    """The mixture sum_k weight_k N(mean_k, diag(var_k)) of K Gaussians.

    weight: (K,), with sum 1. mean, var: (K, *d). `cond["label"]` = k selects component k, -1 the
    whole mixture.

    >>> data = Mixture(jnp.ones(2) / 2, mean=jnp.array([[-1.0], [1.0]]), var=jnp.ones((2, 1)))
    >>> data.sample(jax.random.key(0), 4)[0].shape
    (4, 1)
    """

    weight: Any
    mean: Any
    var: Any

    def __repr__(self) -> str:
        return f"Mixture({self.mean.shape[0]} components of {self.mean.shape[1:]})"

    def sample(self, key: Key[Array, ""], n: int) -> tuple[Sample, Array]:
        """Draw n samples (n, *d) and return them with their components (n,)."""
        pick, noise = jax.random.split(key)
        label = jax.random.choice(pick, self.weight.size, (n,), p=self.weight)
        eps = jax.random.normal(noise, (n, *self.mean.shape[1:]))
        return self.mean[label] + jnp.sqrt(self.var[label]) * eps, label

    def components(
        self, sde: SDE, x: Sample, t: Time, cond: Cond | None = None
    ) -> tuple[Array, Array, Array]:
        """Return the log-weights and the posterior means of all components at x (B, *d), t (B,).

        Three arrays: log(w_k p_k(x_t)) in nats (B, K), -inf where the label excludes k, and the
        posterior means of x0 and of eps given component k, each (B, K, *d).

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
            # eps has a formula of its own: (x - alpha x0) / sigma would cancel at small sigma.
            return logp, self.mean + alpha * self.var * away / var, sigma * away / var

        label = cond["label"] if cond else jnp.full(x.shape[:1], -1)
        checks.labels(label, self.weight.size)
        return jax.vmap(one)(x, t, label)

    def logp(self, sde: SDE, x: Sample, t: Time, cond: Cond | None = None) -> Float[Array, " b"]:
        """Return the log-density of the marginal at t in nats, (B,)."""
        return jax.nn.logsumexp(self.components(sde, x, t, cond)[0], axis=1)

    def denoiser(self, sde: SDE) -> MixtureDenoiser:
        """Return the exact denoiser E[x0 | x_t] under `sde`."""
        return MixtureDenoiser(sde, self)

    def flow_map(self, sde: SDE) -> MixtureFlowMap:
        """Return the exact flow map under `sde`, for one component or for one dimension.

        Raises ValueError for several components in more than one dimension.
        """
        return MixtureFlowMap(sde, self)


@pytree
@dataclass(frozen=True)
class MixtureDenoiser:
    """The exact denoiser of mixture data, a `Denoise` whose raw output is x0."""

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
        """Return both views as posterior means over the components."""
        logp, x0, eps = self.data.components(self.sde, x, t, cond)
        mean = jax.vmap(lambda share, views: jnp.tensordot(share, views, 1))
        share = jax.nn.softmax(logp, axis=1)
        return Prediction(mean(share, x0), mean(share, x0), mean(share, eps))


@pytree
@dataclass(frozen=True)
class MixtureFlowMap:
    """The exact solution of the probability-flow ODE from t to `to`, written as a prediction.

    The views x0 and eps solve x_t = alpha_t x0 + sigma_t eps and X = alpha_s x0 + sigma_s eps,
    where X is the solution of the ODE at s = `to`; at s = t they are the posterior means of the
    denoiser. For one component let u(r) = (alpha_r sqrt(S), sigma_r) have the angle phi_r, p be the
    mean of phi_t and phi_s, d half their difference, and n = (x - alpha_t mu) / |u(t)|, which is
    constant along the ODE. Then

        x0 = mu + sqrt(S) n cos(p) / cos(d),    eps = n sin(p) / cos(d).

    For several components in one dimension X = F_s^-1(F_t(x)), where F is the distribution function
    of the marginal. It is applied to each value, which is the map of independent values with this
    distribution. `cond["label"]` = k selects component k.
    """

    sde: SDE = field(metadata={"static": True})
    data: Mixture

    def __post_init__(self):
        shape = jnp.shape(self.data.mean)
        if shape and shape[0] > 1 and shape[1:] not in ((), (1,)):
            raise ValueError(
                f"flow map of {shape[0]} components of shape {shape[1:]}: needs one component, or "
                f"one dimension, () or (1,)"
            )

    def __call__(
        self,
        x: Sample,
        t: Time,
        cond: Cond | None = None,
        *,
        key: Key[Array, ""] | None = None,
        to: Time | None = None,
    ) -> Prediction:
        to = t if to is None else to
        if self.data.mean.shape[0] == 1:
            return _gaussian_map(self.sde, self.data.mean[0], self.data.var[0], x, t, to)
        size = x.size // len(x)
        label = cond["label"] if cond else jnp.full(len(x), -1)
        each = [jnp.repeat(a, size) for a in (t, to, label)]
        data = Mixture(self.data.weight, self.data.mean.reshape(-1), self.data.var.reshape(-1))
        leads = jax.vmap(lambda *value: _quantile_map(self.sde, data, *value))
        lead = leads(x.reshape(-1), *each).reshape(x.shape)
        wide = Mixture(data.weight, data.mean[:, None], data.var[:, None])
        flat = x.reshape(-1, 1), each[0], {"label": each[2]}
        stay = wide.denoiser(self.sde)(*flat)
        return _views(self.sde, x, lead, t, to, stay)


def _views(sde: SDE, x: Sample, lead: Sample, t: Time, s: Time, stay: Prediction) -> Prediction:
    """Return the views that lead from x at t to `lead` at s, and those of `stay` where s = t.

    At s = t the 2 x 2 system for (x0, eps) is singular; its limit is the denoiser.
    """
    alpha, sigma = (expand(a(t), x) for a in (sde.alpha, sde.sigma))
    alpha_s, sigma_s = (expand(a(s), x) for a in (sde.alpha, sde.sigma))
    same = expand(t == s, x)
    whole = jnp.where(same, 1.0, alpha * sigma_s - sigma * alpha_s)
    x0 = jnp.where(same, stay.x0.reshape(x.shape), (sigma_s * x - sigma * lead) / whole)
    eps = jnp.where(same, stay.eps.reshape(x.shape), (alpha * lead - alpha_s * x) / whole)
    return Prediction(x0, x0, eps)


def _gaussian_map(sde: SDE, mean: Array, var: Array, x: Sample, t: Time, s: Time) -> Prediction:
    """Return the flow map of one component, by the formula in `MixtureFlowMap`."""

    def one(x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        spread = jnp.sqrt(var)
        angle = lambda r: jnp.arctan2(sde.sigma(r), sde.alpha(r) * spread)
        middle, half = (angle(t) + angle(s)) / 2, (angle(t) - angle(s)) / 2
        score = (x - sde.alpha(t) * mean) / jnp.hypot(sde.alpha(t) * spread, sde.sigma(t))
        score = score / jnp.cos(half)
        return mean + spread * jnp.cos(middle) * score, jnp.sin(middle) * score

    x0, eps = jax.vmap(one)(x, t, s)
    return Prediction(x0, x0, eps)


BISECTIONS = 64
"""Halvings of the bracket, which reduce it to one float64 number."""


def _quantile_map(sde: SDE, data: Mixture, x: Array, t: Array, s: Array, label: Array) -> Array:
    """Return F_s^-1(F_t(x)) for one value by bisection.

    The bracket follows from the normal score of a quantile, which lies between the least and the
    largest of the normal scores under the components.
    """
    parts = jnp.arange(data.weight.size)
    share = jnp.where(label < 0, jnp.log(data.weight), jnp.where(parts == label, 0.0, -jnp.inf))

    def scores(x: Array, r: Array) -> Array:
        return (x - sde.alpha(r) * data.mean) / jnp.hypot(
            sde.alpha(r) * jnp.sqrt(data.var), sde.sigma(r)
        )

    def tail(x: Any, r: Array, side: Any) -> Array:
        """Return the log-probability below x, or above it where side = -1."""
        return jax.nn.logsumexp(share + log_ndtr(side * scores(x, r)))

    # The smaller of the two tails keeps its digits: 1 - F loses them all beyond eight deviations.
    side = jnp.where(tail(x, t, 1.0) < tail(x, t, -1.0), 1.0, -1.0)
    goal = tail(x, t, side)
    std = jnp.hypot(sde.alpha(s) * jnp.sqrt(data.var), sde.sigma(s))
    taken = jnp.isfinite(share)
    ends = scores(x, t)
    low, high = (
        jnp.min(ends, where=taken, initial=jnp.inf),
        jnp.max(ends, where=taken, initial=-jnp.inf),
    )
    low = jnp.min(sde.alpha(s) * data.mean + std * low, where=taken, initial=jnp.inf)
    high = jnp.max(sde.alpha(s) * data.mean + std * high, where=taken, initial=-jnp.inf)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (bracket[0] + bracket[1]) / 2
        below = side * (tail(middle, s, side) - goal) < 0
        return jnp.where(below, middle, bracket[0]), jnp.where(below, bracket[1], middle)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, jax.lax.stop_gradient((low, high)))
    y = jax.lax.stop_gradient((low + high) / 2)
    # Bisection has no derivative. One Newton step leaves the converged value unchanged and has the
    # derivative of the implicit function.
    slope = jax.lax.stop_gradient(jax.grad(tail)(y, s, side))
    return y - (tail(y, s, side) - goal) / slope


def gaussian(mean: Float[Array, "*d"], var: Float[Array, "*d"]) -> Mixture:
    """Return N(mean, diag(var)) as a mixture of one component.

    >>> gaussian(jnp.zeros(2), jnp.ones(2))
    Mixture(1 components of (2,))
    """
    return Mixture(jnp.ones(1), jnp.asarray(mean)[None], jnp.asarray(var)[None])


def gaussian_flow(
    sde: SDE, mean: Array, var: Array, x: Sample, t: Time, s: Time
) -> Float[Array, "b *d"]:
    """Solve the probability-flow ODE from x (B, *d) at t (B,) to s (B,), for Gaussian data.

    For N(mean, diag(var)) data the solution is exact, and the master oracle of the samplers:

        x_s - alpha_s mu = sqrt((alpha_s^2 S + sigma_s^2) / (alpha_t^2 S + sigma_t^2))
                           (x_t - alpha_t mu).

    >>> from diffjax import schedules, sde
    >>> flow, one = sde.Flow(schedules.Logit()), jnp.ones(1)
    >>> print(gaussian_flow(flow, 0 * one, 3 * one, jnp.ones((1, 1)), 0.75 * one, 0.5 * one))
    [[1.1547005]]
    """

    def one(x: Array, t: Array, s: Array) -> Array:
        alpha_t, alpha_s = sde.alpha(t), sde.alpha(s)
        var_t, var_s = (sde.alpha(r) ** 2 * var + sde.sigma(r) ** 2 for r in (t, s))
        return alpha_s * mean + jnp.sqrt(var_s / var_t) * (x - alpha_t * mean)

    return jax.vmap(one)(x, t, s)


@pytree
@dataclass(frozen=True)
class Correlated:
    """A Gaussian N(mean, cov) with a full covariance cov = basis diag(var) basis^T.

    mean: (D,). basis: (D, D), orthogonal. var: (D,). Samples are (B, D). Use `correlated` to
    construct one. In the eigenbasis the values are independent, so the flow map is that of
    `gaussian(mean, var)` there.
    """

    mean: Any
    basis: Any
    var: Any

    def sample(self, key: Key[Array, ""], n: int) -> Sample:
        """Draw n samples (n, D)."""
        eps = jax.random.normal(key, (n, len(self.var)))
        return self.mean[None] + (eps * jnp.sqrt(self.var)[None]) @ self.basis.T

    def denoiser(self, sde: SDE) -> LaneDenoiser:
        """Return the exact denoiser under `sde`, whose values may have times of their own."""
        return LaneDenoiser(sde, self.mean, (self.basis * self.var[None]) @ self.basis.T)

    def flow_map(self, sde: SDE) -> Rotated:
        """Return the exact flow map under `sde`; without `to` it is the exact denoiser."""
        inner = gaussian(self.mean @ self.basis, self.var)
        return Rotated(inner.flow_map(sde), self.basis)


@pytree
@dataclass(frozen=True)
class Rotated:
    """A flow map `inner` of the rotated coordinates x @ basis, applied to x (B, D)."""

    inner: MixtureFlowMap
    basis: Any

    @property
    def sde(self) -> SDE:
        return self.inner.sde

    def __call__(
        self,
        x: Sample,
        t: Time,
        cond: Cond | None = None,
        *,
        key: Key[Array, ""] | None = None,
        to: Time | None = None,
    ) -> Prediction:
        p = self.inner(x @ self.basis, t, cond, key=key, to=to)
        x0, eps = p.x0 @ self.basis.T, p.eps @ self.basis.T
        return Prediction(x0, x0, eps)


def correlated(mean: Float[Array, " d"], cov: Float[Array, "d d"]) -> Correlated:
    """Construct N(mean, cov) from mean (D,) and cov (D, D).

    Raises ValueError unless cov is symmetric with positive eigenvalues.

    >>> print(correlated(np.zeros(2), np.array([[2.0, 1.0], [1.0, 2.0]])).var.round())
    [1. 3.]
    """
    matrix = np.asarray(cov, np.float64)
    var, basis = np.linalg.eigh(matrix)
    if not (np.allclose(matrix, matrix.T) and (var > 0).all()):
        raise ValueError(f"cov={matrix.tolist()}: needs a symmetric matrix with eigenvalues > 0")
    return Correlated(jnp.asarray(mean), jnp.asarray(basis), jnp.asarray(var))


@pytree
@dataclass(frozen=True)
class LaneDenoiser:
    """The exact denoiser of N(mean, cov), whose values may have times of their own.

    `Correlated.denoiser` constructs one. mean: (*d), the shape of an item of D values. cov: (D, D).
    The times of a call are (B,), or (B, L) with one per position of the leading axis. With
    A = diag(alpha(t)), S = diag(sigma(t)) and K = (A cov A + S^2)^-1 (x_t - A mean),

        x0 = mean + cov A K,    eps = S K.

    A value at time 0 is known: x0 of the others is then their mean given it.

    >>> from diffjax import schedules, sde
    >>> cov = jnp.array([[1.0, 0.5], [0.5, 1.0]])
    >>> denoise = LaneDenoiser(sde.VP(schedules.Cosine()), jnp.zeros(2), cov)
    >>> known = denoise(jnp.array([[2.0, 0.3]]), jnp.array([[0.0, 1.0]]))
    >>> print(known.x0.round(2))  # 0.5 * 2 for the second value, which is noise alone
    [[2. 1.]]
    """

    sde: SDE = field(metadata={"static": True})
    mean: Any
    cov: Any

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for samples of another shape."""
        checks.same_shape((len(x), *self.mean.shape), x=x)

    def __call__(
        self, x: Sample, t: Time, cond: Cond | None = None, *, key: Key[Array, ""] | None = None
    ) -> Prediction:
        """Return both views; raise ValueError for times of another shape than (B,) and (B, L)."""
        self.check(x, cond)
        checks.times(x, t=t)
        mean, t = self.mean.reshape(-1), jnp.broadcast_to(expand(t, x), x.shape)

        def one(x: Array, t: Array) -> tuple[Array, Array]:
            alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
            var = jnp.outer(alpha, alpha) * self.cov + jnp.diag(sigma**2)
            score = jnp.linalg.solve(var, x - alpha * mean)
            return mean + self.cov @ (alpha * score), sigma * score

        flat = (a.reshape(len(x), -1) for a in (x, t))
        x0, eps = (a.reshape(x.shape) for a in jax.vmap(one)(*flat))
        return Prediction(x0, x0, eps)
