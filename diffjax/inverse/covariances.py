"""Covariances of x0 given x_t, the one choice in which linear methods for inverse problems differ.

All methods move the prediction of a denoiser by

    x0' = x0_hat + Gamma A^T (A C A^T + std^2 I)^-1 (y - A x0_hat).

J is the Jacobian of x0_hat in x_t, rho = sigma / alpha, and (sigma^2 / alpha) J = Cov(x0 | x_t) is
the Tweedie covariance. A covariance states in its docstring where it is exact. The biases there are
those of samples of one Gaussian value, prior mean 0.7, y = 1.5, as (error of the mean in posterior
standard deviations, ratio of the variance to the exact one), in the limit of many DDIM steps.

Example: alpha = sigma = 1 and data N(0, 1), so that C = 1 / 2, with y - x0_hat = 1, std^2 = 1 / 2.

>>> one = jnp.ones(1)
>>> problem = Problem(
...     residual=jnp.ones((1, 1)),
...     forward=lambda v: v,
...     backward=lambda v: v,
...     tweedie=lambda v: v / 2,
...     gram=lambda v, function: function(jnp.ones_like(v)) * v,
...     alpha=one,
...     sigma=one,
...     std=jnp.full((1, 1), 0.5**0.5),
... )
>>> exact = Tweedie(), Unit(), Rows(), Prior()
>>> [round(covariance(problem).item(), 4) for covariance in exact]
[0.5, 0.5, 0.5, 0.5]
>>> biased = Zero(), Flat(), Infinite()
>>> [round(covariance(problem).item(), 4) for covariance in biased]
[1.0, 0.6667, 1.0]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from diffjax import checks
from diffjax.arrays import catalogue, expand, pytree
from diffjax.inverse.problem import Problem
from diffjax.inverse.solvers import root
from diffjax.prediction import Sample


def _static(default: int) -> Any:
    """Return a field of static metadata with this default."""
    return field(default=default, metadata={"static": True})


ITERATIONS = 50
"""Conjugate-gradient iterations with operators that have no spectrum; each is a product with A."""


@runtime_checkable
class Covariance(Protocol):
    """The interface of a covariance: the move of x0 that it leads to.

    jacobian: whether it needs J. zero_noise: whether it allows std = 0. linear: whether it needs a
    linear operator.
    """

    jacobian: ClassVar[bool]
    zero_noise: ClassVar[bool]
    linear: ClassVar[bool]

    @property
    def products(self) -> int:
        """Vector-Jacobian products of the network per row."""
        ...

    def __call__(self, problem: Problem) -> Sample:
        """Return x0' - x0_hat, (B, ...)."""
        ...


@runtime_checkable
class Drawable(Covariance, Protocol):
    """A covariance with Gamma = C, so that N(x0', C') is a Gaussian posterior that can be drawn."""

    def root(self, problem: Problem, z: Sample) -> Sample:
        """Return C^(1/2) z for z (B, ...)."""
        ...


@pytree
@dataclass(frozen=True)
class Zero:
    """C = 0, Gamma = Tweedie: DPS in its score form (arXiv:2209.14687, eq. 16).

    It is exact in the limit of small rho only, and samples collapse to a point: with data variance
    1 and std 0.5 the bias is (0.86, 0.09), with 0.25 and 0.1 (0.69, 0.00). The published method
    divides its gradient by |y - A x0_hat| over the whole batch and adds it once per step; it has no
    limit for many steps and is not offered. Needs std > 0.
    """

    jacobian: ClassVar[bool] = True
    zero_noise: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    @property
    def products(self) -> int:
        return 1

    def __call__(self, problem: Problem) -> Sample:
        return problem.jacobian(problem.backward(problem.residual / problem.std**2))


@pytree
@dataclass(frozen=True)
class Unit:
    """C = r^2 I with r^2 = rho^2 / (1 + rho^2), Gamma = Tweedie: PiGDM (its noisy form).

    It is exact for independent data of variance 1, where C is the Tweedie covariance. Elsewhere the
    variance is off: with std 0.5 the bias is (-0.29, 1.13) for data variance 0.25 and (0.36, 0.16)
    for 4; with std 0.1 it is (-1.08, 1.82) and (0.34, 0.05). Source: Song et al., "Pseudoinverse-
    guided diffusion models for inverse problems", ICLR 2023.

    iterations: of conjugate gradients, for operators without a spectrum.
    """

    iterations: int = _static(ITERATIONS)
    jacobian: ClassVar[bool] = True
    zero_noise: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def __post_init__(self):
        checks.whole(1, iterations=self.iterations)

    @property
    def products(self) -> int:
        return 1

    def __call__(self, problem: Problem) -> Sample:
        signal = problem.sigma**2 / (problem.alpha**2 + problem.sigma**2)
        solved = problem.solve_white(signal, jnp.ones_like(signal), self.iterations)
        return problem.jacobian(problem.backward(solved))


@pytree
@dataclass(frozen=True)
class Rows:
    """A C A^T = the diagonal of row sums of (sigma^2 / alpha) A J A^T, Gamma = Tweedie: TMPD.

    It is exact where that matrix is diagonal, as for masks of independent data, and takes one more
    vector-Jacobian product than `Unit` (arXiv:2310.06721). Row sums may be negative for correlated
    data; nothing is clipped. Needs std > 0.
    """

    jacobian: ClassVar[bool] = True
    zero_noise: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    @property
    def products(self) -> int:
        return 2

    def __call__(self, problem: Problem) -> Sample:
        through = lambda v: problem.jacobian(problem.backward(v))
        sums = problem.forward(through(jnp.ones_like(problem.residual)))
        return through(problem.residual / (sums + problem.std**2))


@pytree
@dataclass(frozen=True)
class Tweedie:
    """C = Gamma = Tweedie, by conjugate gradients: MMPS (arXiv:2405.13712).

    It is exact for every Gaussian prior once `iterations` reaches the number of different
    eigenvalues of A C A^T, and the best of these covariances elsewhere: no other one is exact on
    Gaussians without knowing the prior. Each iteration is a vector-Jacobian product, and one more
    follows. J^T stands for J throughout.

    The Jacobian of a network is symmetric and positive semidefinite only approximately. Iterations
    stop at a direction of negative curvature p^T A C A^T p. Where the products show that C is no
    covariance, the squared Mahalanobis norm of y - A x0_hat is limited to the number of measured
    values, its mean under a true covariance (see `guarded_gradients`). Without this limit one in
    five samples of digits, of which one half was known exactly, diverged. A true covariance gives
    the exact result, however far y is.
    """

    iterations: int = _static(2)
    jacobian: ClassVar[bool] = True
    zero_noise: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def __post_init__(self):
        checks.whole(1, iterations=self.iterations)

    @property
    def products(self) -> int:
        return 1 + self.iterations

    def __call__(self, problem: Problem) -> Sample:
        solved = problem.solve(problem.jacobian, self.iterations)
        return problem.jacobian(problem.backward(solved))

    def root(self, problem: Problem, z: Sample) -> Sample:
        return root(problem.jacobian, z, self.iterations)


@pytree
@dataclass(frozen=True)
class Prior:
    """C = Gamma = (1 / var + 1 / rho^2)^-1, for a Gaussian prior of variance `var`: JFPS.

    It is exact if the data are Gaussian with this variance; no vector-Jacobian product is needed.
    With var = 1 the bias is (0.33, 0.82) for data variance 0.25 and std 0.5, (-0.08, 1.36) for 4
    and 0.5, and (0.06, 0.93) and (0.00, 1.04) with std 0.1.

    var: > 0, a number, or an array that broadcasts against an item from the right, whose equations
    are solved by conjugate gradients.
    """

    var: Any = 1.0
    iterations: int = _static(ITERATIONS)
    jacobian: ClassVar[bool] = False
    zero_noise: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def __post_init__(self):
        checks.whole(1, iterations=self.iterations)
        if isinstance(self.var, int | float | np.ndarray | jax.Array) and not checks.traced(
            self.var
        ):
            checks.positive(var=float(np.min(self.var)))

    @property
    def products(self) -> int:
        return 0

    def __call__(self, problem: Problem) -> Sample:
        if jnp.ndim(self.var) == 0:
            return _white(problem, problem.sigma**2, self._precision(problem), self.iterations)
        times = lambda v: self._variance(problem, v) * v
        return times(problem.backward(problem.solve(times, self.iterations)))

    def root(self, problem: Problem, z: Sample) -> Sample:
        return jnp.sqrt(self._variance(problem, z)) * z

    def _precision(self, problem: Problem) -> Array:
        """Return sigma^2 / C, which is finite where alpha = 0."""
        return problem.sigma**2 / self.var + problem.alpha**2

    def _variance(self, problem: Problem, x: Sample) -> Array:
        var = jnp.asarray(self.var, x.dtype)
        var = var.reshape((1,) * (x.ndim - var.ndim) + var.shape)
        alpha, sigma = expand(problem.alpha, x), expand(problem.sigma, x)
        return sigma**2 / (sigma**2 / var + alpha**2)


@pytree
@dataclass(frozen=True)
class Flat:
    """C = Gamma = rho^2 / strength I, as for a flat prior: DiffPIR (arXiv:2305.08995).

    It is exact in the limit of small rho for strength = 1, and biased at every variance of the
    data: (0.14, 0.79) for variance 1 and std 0.5, (0.51, 0.73) for 0.25 and 0.5, (0.03, 0.88) for 4
    and 0.5. No vector-Jacobian product is needed.

    strength: lambda of the paper, > 0; larger values trust the denoiser more.
    """

    strength: Any = 1.0
    iterations: int = _static(ITERATIONS)
    jacobian: ClassVar[bool] = False
    zero_noise: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def __post_init__(self):
        checks.whole(1, iterations=self.iterations)
        if isinstance(self.strength, int | float):
            checks.positive(strength=self.strength)

    @property
    def products(self) -> int:
        return 0

    def __call__(self, problem: Problem) -> Sample:
        scaled = self.strength * problem.alpha**2
        return _white(problem, problem.sigma**2, scaled, self.iterations)

    def root(self, problem: Problem, z: Sample) -> Sample:
        var = problem.sigma**2 / (self.strength * problem.alpha**2)
        return expand(jnp.sqrt(var), z) * z


@pytree
@dataclass(frozen=True)
class Infinite:
    """x0' = x0_hat + A^+ (y - A x0_hat): DDNM, and replacement of x0 (arXiv:2212.00490).

    The prediction satisfies A x0' = y whatever std is. It is exact for no data: what is measured is
    a point, (0.36, 0) for variance 1 and std 0.5, and what is not measured is drawn as if y had
    been known from the start of sampling. Needs a linear operator.
    """

    iterations: int = _static(ITERATIONS)
    jacobian: ClassVar[bool] = False
    zero_noise: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def __post_init__(self):
        checks.whole(1, iterations=self.iterations)

    @property
    def products(self) -> int:
        return 0

    def __call__(self, problem: Problem) -> Sample:
        one = jnp.ones_like(problem.sigma)
        return problem.backward(problem.solve_white(one, 0 * one, self.iterations))


def _white(problem: Problem, signal: Array, noise: Array, iterations: int) -> Sample:
    """Return the move for C = Gamma = (signal / noise) I."""
    solved = problem.solve_white(signal, noise, iterations)
    return problem.backward(expand(signal, solved) * solved)


COVARIANCES = catalogue(Zero, Unit, Rows, Tweedie, Prior, Flat, Infinite)
