"""How noise levels count in the loss: `(model, t) -> w`, a factor on the squared error of F.

An error of F is one of x0 and of eps at once: with F = a x0 + b eps and d = a sigma - b alpha,
squared errors of x0 are (sigma / d)^2 times those of F, of eps (alpha / d)^2, and so on. A weight
given for one of them is therefore right for every parameterization, and finite at alpha = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import catalogue
from diffjax.checks import positive
from diffjax.denoiser import Model

Times = Float[Array, " b"]
Weight = Callable[[Model, Times], Times]


def uniform_output(model: Model, t: Times) -> Times:
    """1 on the squared error of the network output F: DDPM's simple loss where F is eps."""
    return jnp.ones_like(t)


def uniform_x0(model: Model, t: Times) -> Times:
    """Squared error of x0."""
    return (model.sde.sigma(t) / _determinant(model, t)) ** 2


def uniform_eps(model: Model, t: Times) -> Times:
    """Squared error of eps."""
    return (model.sde.alpha(t) / _determinant(model, t)) ** 2


def uniform_v(model: Model, t: Times) -> Times:
    """Squared error of v = alpha eps - sigma x0."""
    alpha, sigma = model.sde.alpha(t), model.sde.sigma(t)
    return ((alpha**2 + sigma**2) / _determinant(model, t)) ** 2


def uniform_velocity(model: Model, t: Times) -> Times:
    """Squared error of the velocity alpha' x0 + sigma' eps: flow matching (arXiv:2210.02747)."""
    return (model.sde.wronskian(t) / _determinant(model, t)) ** 2


def uniform_score(model: Model, t: Times) -> Times:
    """Squared error of the score -eps / sigma."""
    return uniform_eps(model, t) / model.sde.sigma(t) ** 2


def edm(model: Model, t: Times, sigma_data: float = 0.5) -> Times:
    """Squared error of EDM's F: (rho^2 + s^2) / (rho s)^2 on x0 (arXiv:2206.00364, tab. 1)."""
    positive(sigma_data=sigma_data)
    s2 = sigma_data**2
    return uniform_eps(model, t) + uniform_x0(model, t) / s2


def snr(model: Model, t: Times, power: float = 1.0) -> Times:
    """SNR^power on x0: power 0 is uniform in x0, 1 in eps (arXiv:2202.00512, sec. 4)."""
    return uniform_x0(model, t) ** (1 - power) * uniform_eps(model, t) ** power


def truncated_snr(model: Model, t: Times, floor: float = 1.0) -> Times:
    """max(SNR, floor) on x0 (arXiv:2202.00512, sec. 4)."""
    positive(floor=floor)
    return jnp.maximum(uniform_eps(model, t), floor * uniform_x0(model, t))


def min_snr(model: Model, t: Times, gamma: float = 5.0) -> Times:
    """min(SNR, gamma) on x0 (arXiv:2303.09556, eq. 8): on v of VP min(SNR, gamma) / (SNR + 1)."""
    positive(gamma=gamma)
    return jnp.minimum(uniform_eps(model, t), gamma * uniform_x0(model, t))


def soft_min_snr(model: Model, t: Times, gamma: float = 4.0) -> Times:
    """SNR gamma / (SNR + gamma) on x0 (arXiv:2401.11605, eq. 11 with gamma = 1 / sigma_data^2)."""
    positive(gamma=gamma)
    by_eps, by_x0 = uniform_eps(model, t), gamma * uniform_x0(model, t)
    return by_eps * by_x0 / (by_eps + by_x0)


def p2(model: Model, t: Times, k: float = 1.0, gamma: float = 1.0) -> Times:
    """1 / (k + SNR)^gamma on eps (arXiv:2204.00227, eq. 8)."""
    positive(k=k)
    return uniform_eps(model, t) / (k + jnp.exp(model.sde.logsnr(t))) ** gamma


def elbo(model: Model, t: Times) -> Times:
    """-l' / 2 (t_max - t_min) on eps: E over uniform t is the diffusion term of the variational
    bound, in nats per dimension (arXiv:2107.00630, eq. 17)."""
    sde = model.sde
    width = sde.t_max - sde.t_min
    by_eps = sde.alpha(t) * sde.wronskian(t) / (sde.sigma(t) * _determinant(model, t) ** 2)
    return width * by_eps


def likelihood(model: Model, t: Times) -> Times:
    """g^2 on the score (arXiv:2101.09258, eq. 6): twice `elbo` over t_max - t_min."""
    return 2 / (model.sde.t_max - model.sde.t_min) * elbo(model, t)


def sigmoid(model: Model, t: Times, bias: float = 0.0) -> Times:
    """`elbo` times sigmoid(bias - l) (arXiv:2303.00848, app. D; arXiv:2410.19324)."""
    return elbo(model, t) * jax.nn.sigmoid(bias - model.sde.logsnr(t))


def _determinant(model: Model, t: Times) -> Times:
    a, b = model.parameterization.target(model.sde, t)
    return a * model.sde.sigma(t) - b * model.sde.alpha(t)


WEIGHTS = catalogue(
    uniform_output,
    uniform_x0,
    uniform_eps,
    uniform_v,
    uniform_velocity,
    uniform_score,
    edm,
    snr,
    truncated_snr,
    min_snr,
    soft_min_snr,
    p2,
    elbo,
    likelihood,
    sigmoid,
)
