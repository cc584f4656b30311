"""Exact posteriors of data whose distribution is known, under linear measurements."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffjax.analytic import Correlated, Mixture, correlated
from diffjax.inverse.measurement import Measurement


def matrix(measurement: Measurement, shape: tuple[int, ...]) -> Float[np.ndarray, "m d"]:
    """Return A as a matrix on flattened items of this shape, (M, D).

    Raises ValueError for a nonlinear operator.
    """
    if not measurement.operator.linear:
        raise ValueError(f"{type(measurement.operator).__name__} is not linear: it is no matrix")
    units = jnp.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.asarray(jax.vmap(lambda unit: measurement.operator(unit[None])[0].ravel())(units)).T


def mixture_posterior(data: Mixture, measurement: Measurement) -> Mixture:
    """Return the posterior of mixture data under one measurement, which is again a mixture.

    A^T A must be diagonal, as for masks and `Scale`, for the components to keep diagonal
    covariances. Component k then has the precision 1 / S_k + A^T A / std^2, and the weight w_k
    N(y; A mu_k, A S_k A^T + std^2 I). Raises ValueError for an operator that mixes values, for more
    than one measurement, and for std = 0.

    >>> from diffjax.inverse import Scale
    >>> two = Mixture(jnp.array([0.5, 0.5]), jnp.array([[-1.0], [1.0]]), jnp.ones((2, 1)))
    >>> posterior = mixture_posterior(two, Measurement(jnp.zeros((1, 1)), Scale(1.0), std=1.0))
    >>> posterior.weight.tolist(), posterior.mean.ravel().tolist(), posterior.var.ravel().tolist()
    ([0.5, 0.5], [-0.5, 0.5], [0.5, 0.5])
    """
    shape = data.mean.shape[1:]
    a, y, std = _single(measurement, shape)
    gains = a.T @ a
    if np.abs(gains - np.diag(np.diag(gains))).max() > 1e-6 * np.abs(gains).max():
        raise ValueError(
            f"{type(measurement.operator).__name__} mixes values of an item: the posterior of a "
            f"mixture keeps diagonal covariances only where A^T A is diagonal; allowed: masks, "
            f"identity, or `correlated_posterior`"
        )
    mean, var = (
        np.asarray(v, np.float64).reshape(len(data.weight), -1) for v in (data.mean, data.var)
    )
    precision, pulled = np.diag(gains) / std**2, a.T @ y / std**2
    new = 1 / (1 / var + precision)
    centre = new * (mean / var + pulled)
    # log N(y; A mu, A S A^T + std^2 I), by the ratio of prior and likelihood to the posterior.
    fit = -((y - mean @ a.T) ** 2).sum(1) / std**2 + ((centre - mean) ** 2 * (1 / new)).sum(1)
    logs = np.log(np.asarray(data.weight, np.float64)) + 0.5 * (fit + np.log(new / var).sum(1))
    weight = np.exp(logs - logs.max())
    parts = weight / weight.sum(), centre.reshape(-1, *shape), new.reshape(-1, *shape)
    return Mixture(*map(jnp.asarray, parts))


def correlated_posterior(data: Correlated, measurement: Measurement) -> Correlated:
    """Return the posterior of Gaussian data under one measurement by any linear operator.

    Its covariance is (C^-1 + A^T A / std^2)^-1. Raises ValueError for a nonlinear operator, for
    more than one measurement, and for std = 0, where the covariance is singular.

    >>> from diffjax.inverse import Mask
    >>> data = correlated(jnp.zeros(2), jnp.array([[1.0, 0.8], [0.8, 1.0]]))
    >>> first = Mask(jnp.array([[True, False]]))
    >>> posterior = correlated_posterior(data, Measurement(jnp.array([[2.0, 0.0]]), first, std=1.0))
    >>> posterior.mean.round(3).tolist()  # 2 / (1 + std^2), and 0.8 times that
    [1.0, 0.8...]
    """
    a, y, std = _single(measurement, data.mean.shape)
    mean, var, basis = (np.asarray(v, np.float64) for v in (data.mean, data.var, data.basis))
    prior = basis * var @ basis.T
    gain = prior @ a.T @ np.linalg.inv(a @ prior @ a.T + std**2 * np.eye(len(a)))
    cov = prior - gain @ a @ prior
    return correlated(jnp.asarray(mean + gain @ (y - a @ mean)), jnp.asarray((cov + cov.T) / 2))


def _single(
    measurement: Measurement, shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, " m"], float]:
    """Return A, y and std of the only measurement."""
    y, std = np.asarray(measurement.y, np.float64), np.asarray(measurement.std, np.float64)
    if len(y) != 1 or std.size != 1 or not std.item() > 0:
        raise ValueError(
            f"y {y.shape}, std={std.tolist()}: needs one measurement (1, ...), std > 0"
        )
    return np.asarray(matrix(measurement, shape), np.float64), y.ravel(), std.item()
