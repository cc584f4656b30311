"""The linear inverse problem that a posterior solves around one prediction of x0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax.arrays import dims, expand
from diffjax.guidance.base import Guidance
from diffjax.guidance.query import Memory, Query, Weight
from diffjax.inverse.measurement import Measurement
from diffjax.inverse.operators.base import Spectral, Spectrum
from diffjax.inverse.solvers import Product, conjugate_gradients, guarded_gradients
from diffjax.inverse.spectral import positive
from diffjax.prediction import Prediction, Sample, Time

Map = Callable[[Sample], Sample]
Gram = Callable[[Sample, Spectrum], Sample]


@dataclass(frozen=True)
class Problem:
    """The measurement y = A x0 + std n, linearised at the prediction x0_hat of x_t.

    residual: y - A(x0_hat), (B, ...) as y. forward, backward: v -> A v and A^T v, with the Jacobian
    of a nonlinear operator. tweedie: v -> (sigma^2 / alpha) J^T v, where J is the Jacobian of
    x0_hat in x_t; this is Cov(x0 | x_t) for an exact denoiser, whose J is symmetric. gram: (v, f)
    -> f(A A^T) v, or None for an operator without a spectrum. alpha, sigma: (B,). std: an array of
    the rank of y. A problem exists within one row only.
    """

    residual: Sample
    forward: Map
    backward: Map
    tweedie: Map | None
    gram: Gram | None
    alpha: Time
    sigma: Time
    std: Array

    def seen(self, residual: Sample) -> Problem:
        """Return the problem with another residual, of which the part in the range of A counts."""
        return replace(self, residual=in_range(self.gram, residual))

    def jacobian(self, v: Sample) -> Sample:
        """Return (sigma^2 / alpha) J^T v."""
        assert self.tweedie is not None, "the covariance does not declare that it needs J"
        return self.tweedie(v)

    def solve(self, covariance: Product, iterations: int) -> Sample:
        """Return (A C A^T + std^2 I)^-1 residual by conjugate gradients.

        covariance: v -> C v. Where it proves to be no covariance (see `guarded_gradients`), the
        squared Mahalanobis norm of the residual is limited to the number of measured values, the
        mean of this chi-square variable under a true covariance.
        """
        product = lambda v: self.forward(covariance(self.backward(v)))
        count = (self.residual != 0).sum(dims(self.residual)).astype(self.residual.dtype)
        return guarded_gradients(product, self.std**2, self.residual, iterations, count)

    def solve_white(self, signal: Time, noise: Time, iterations: int) -> Sample:
        """Return (signal A A^T + noise std^2 I)^+ residual.

        signal, noise: (B,), >= 0. With a spectrum the result is exact, and the pseudo-inverse where
        the matrix is singular.
        """
        signal, noise = expand(signal, self.residual), expand(noise, self.residual)
        if self.gram is None:
            product = lambda v: signal * self.forward(self.backward(v)) + noise * self.std**2 * v
            return conjugate_gradients(product, self.residual, iterations)

        def inverse(squared: Array) -> Array:
            total = signal * jnp.where(positive(squared), squared, 0) + noise * self.std**2
            return jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)

        return self.gram(self.residual, inverse)


def in_range(gram: Gram | None, residual: Sample) -> Sample:
    """Return the projection of a residual on the range of A, where its spectrum is known.

    What lies outside, such as y behind a mask, carries no information, and would make a singular
    system inconsistent.
    """
    if gram is None:
        return residual
    return gram(residual, lambda squared: positive(squared).astype(squared.dtype))


def posed(
    measurement: Measurement,
    inside: Guidance,
    query: Query,
    weight: Weight,
    memory: Memory,
    needs_jacobian: bool,
) -> tuple[Prediction, Problem, Memory]:
    """Evaluate the guidance `inside` and pose the problem at its prediction."""

    def predict(x: Sample) -> tuple[Sample, tuple[Prediction, Memory]]:
        prediction, after = inside(replace(query, x=x), weight, memory)
        return prediction.x0, (prediction, after)

    alpha, sigma = query.sde.alpha(query.t), query.sde.sigma(query.t)
    tweedie = None
    if needs_jacobian:
        x0, pull, (prediction, memory) = jax.vjp(predict, query.x, has_aux=True)
        gamma = expand(sigma**2 / alpha, query.x)
        tweedie = lambda v: gamma * pull(v)[0]
    else:
        x0, (prediction, memory) = predict(query.x)
    operator = measurement.operator
    seen, forward = jax.linearize(operator, x0)
    transposed = jax.linear_transpose(forward, x0)
    gram = operator.gram if isinstance(operator, Spectral) else None
    problem = Problem(
        residual=in_range(gram, measurement.values(x0) - seen),
        forward=forward,
        backward=lambda v: transposed(v)[0],
        tweedie=tweedie,
        gram=gram,
        alpha=alpha,
        sigma=sigma,
        std=measurement.noise_std(seen),
    )
    return prediction, problem, memory
