"""Loss weights: functions `(model, t) -> w (B,)`, a factor on the squared error of F at time t.

An error in F is an error in x0 and in eps at once: with F = a x0 + b eps and d = a sigma - b alpha,
the squared error of x0 is (sigma / d)^2 times that of F, that of eps (alpha / d)^2 times, and so
on. A weight that is defined on one of them thus holds for every parameterization, and stays finite
at alpha = 0.
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
    """Weight the squared error of F by 1: DDPM's simple loss where F is eps.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.Eps(), nets.mlp())
    >>> print(uniform_output(model, jnp.array([0.5, 0.25])))
    [1. 1.]
    """
    return jnp.ones_like(t)


def uniform_x0(model: Model, t: Times) -> Times:
    """Weight the squared error of x0 by 1.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.Eps(), nets.mlp())
    >>> print(uniform_x0(model, jnp.array([0.5, 0.8])).round(3))  # F is eps: (sigma / alpha)^2
    [ 1. 16.]
    """
    return (model.sde.sigma(t) / _determinant(model, t)) ** 2


def uniform_eps(model: Model, t: Times) -> Times:
    """Weight the squared error of eps by 1.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.X0(), nets.mlp())
    >>> print(uniform_eps(model, jnp.array([0.5, 0.25])).round(3))  # F is x0: the SNR
    [1. 9.]
    """
    return (model.sde.alpha(t) / _determinant(model, t)) ** 2


def uniform_v(model: Model, t: Times) -> Times:
    """Weight the squared error of v = alpha eps - sigma x0 by 1.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.VP(schedules.Cosine(s=0.0)), parameterization.V(), nets.mlp())
    >>> print(uniform_v(model, jnp.array([0.5, 0.25])).round(3))  # F is v
    [1. 1.]
    """
    alpha, sigma = model.sde.alpha(t), model.sde.sigma(t)
    return ((alpha**2 + sigma**2) / _determinant(model, t)) ** 2


def uniform_velocity(model: Model, t: Times) -> Times:
    """Weight the squared error of the velocity alpha' x0 + sigma' eps by 1.

    This is the loss of flow matching (arXiv:2210.02747).

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit()), parameterization.Velocity(), nets.mlp())
    >>> print(uniform_velocity(model, jnp.array([0.5, 0.25])).round(3))  # F is the velocity
    [1. 1.]
    """
    return (model.sde.wronskian(t) / _determinant(model, t)) ** 2


def uniform_score(model: Model, t: Times) -> Times:
    """Weight the squared error of the score -eps / sigma by 1.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.Eps(), nets.mlp())
    >>> print(uniform_score(model, jnp.array([0.5, 0.25])).round(3))  # 1 / sigma^2
    [ 4. 16.]
    """
    return uniform_eps(model, t) / model.sde.sigma(t) ** 2


def edm(model: Model, t: Times, sigma_data: float = 0.5, power: float = 1.0) -> Times:
    """Weight the squared error of EDM's F by 1 (arXiv:2206.00364, tab. 1).

    On x0 that is (rho^2 + s^2) / (rho s)^2 with rho = sigma / alpha and s = sigma_data. power: an
    exponent of that weight on x0; 1.5 is for losses that divide by the root of the squared error of
    F, so that the root of the squared error of x0 has the weight of the formula (arXiv:2406.14548).
    Raises ValueError unless sigma_data > 0.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.VE(schedules.Edm(), t_min=1e-4), parameterization.Edm(), nets.mlp())
    >>> print(edm(model, jnp.array([0.5, 0.25])).round(3))  # F is that of EDM
    [1. 1.]
    """
    positive(sigma_data=sigma_data)
    weight = uniform_eps(model, t) + uniform_x0(model, t) / sigma_data**2
    return weight if power == 1 else weight**power * uniform_x0(model, t) ** (1 - power)


def snr(model: Model, t: Times, power: float = 1.0) -> Times:
    """Weight the squared error of x0 by SNR^power (arXiv:2202.00512, sec. 4).

    power = 0 is `uniform_x0`, power = 1 `uniform_eps`.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.X0(), nets.mlp())
    >>> print(snr(model, jnp.array([0.5, 0.25]), power=1.0).round(3))  # SNR 1 and 9
    [1. 9.]
    """
    return uniform_x0(model, t) ** (1 - power) * uniform_eps(model, t) ** power


def truncated_snr(model: Model, t: Times, floor: float = 1.0) -> Times:
    """Weight the squared error of x0 by max(SNR, floor), floor > 0 (arXiv:2202.00512, sec. 4).

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.X0(), nets.mlp())
    >>> print(truncated_snr(model, jnp.array([0.75, 0.25])).round(3))  # SNR 1 / 9 and 9
    [1. 9.]
    """
    positive(floor=floor)
    return jnp.maximum(uniform_eps(model, t), floor * uniform_x0(model, t))


def min_snr(model: Model, t: Times, gamma: float = 5.0) -> Times:
    """Weight the squared error of x0 by min(SNR, gamma), gamma > 0 (arXiv:2303.09556, eq. 8).

    On v in the VP frame that is min(SNR, gamma) / (SNR + 1).

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.X0(), nets.mlp())
    >>> print(min_snr(model, jnp.array([0.5, 0.25])).round(3))  # SNR 1 and 9
    [1. 5.]
    """
    positive(gamma=gamma)
    return jnp.minimum(uniform_eps(model, t), gamma * uniform_x0(model, t))


def soft_min_snr(model: Model, t: Times, gamma: float = 4.0) -> Times:
    """Weight the squared error of x0 by SNR gamma / (SNR + gamma), gamma > 0.

    A smooth `min_snr` (arXiv:2401.11605, eq. 11 with gamma = 1 / sigma_data^2).

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.X0(), nets.mlp())
    >>> print(soft_min_snr(model, jnp.array([0.5, 0.25])).round(3))  # SNR 1 and 9
    [0.8   2.769]
    """
    positive(gamma=gamma)
    by_eps, by_x0 = uniform_eps(model, t), gamma * uniform_x0(model, t)
    return by_eps * by_x0 / (by_eps + by_x0)


def p2(model: Model, t: Times, k: float = 1.0, gamma: float = 1.0) -> Times:
    """Weight the squared error of eps by 1 / (k + SNR)^gamma, k > 0 (arXiv:2204.00227, eq. 8).

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.Eps(), nets.mlp())
    >>> print(p2(model, jnp.array([0.5, 0.25])).round(3))  # SNR 1 and 9
    [0.5 0.1]
    """
    positive(k=k)
    return uniform_eps(model, t) / (k + jnp.exp(model.sde.logsnr(t))) ** gamma


def elbo(model: Model, t: Times) -> Times:
    """Weight the squared error of eps by -l' / 2 (t_max - t_min).

    The expectation over uniform t is then the diffusion term of the variational bound, in nats per
    dimension (arXiv:2107.00630, eq. 17).

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.VE(schedules.Geometric(0.01, 50.0)), parameterization.Eps(), nets.mlp())
    >>> print(elbo(model, jnp.array([0.5, 0.25])).round(2))  # log(5000)
    [8.51 8.51]
    """
    sde = model.sde
    width = sde.t_max - sde.t_min
    by_eps = sde.alpha(t) * sde.wronskian(t) / (sde.sigma(t) * _determinant(model, t) ** 2)
    return width * by_eps


def likelihood(model: Model, t: Times) -> Times:
    """Weight the squared error of the score by g^2 (arXiv:2101.09258, eq. 6).

    That is twice `elbo`, divided by t_max - t_min.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.VE(schedules.Geometric(0.01, 50.0)), parameterization.Eps(), nets.mlp())
    >>> print(likelihood(model, jnp.array([0.5, 0.25])).round())  # 2 log(5000)
    [17. 17.]
    """
    return 2 / (model.sde.t_max - model.sde.t_min) * elbo(model, t)


def sigmoid(model: Model, t: Times, bias: float = 0.0) -> Times:
    """Multiply `elbo` by sigmoid(bias - l) (arXiv:2303.00848, app. D; arXiv:2410.19324).

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> model = Model(sde.Flow(schedules.Logit(), t_max=0.9), parameterization.Eps(), nets.mlp())
    >>> t = jnp.array([0.5, 0.25])
    >>> print((sigmoid(model, t) / elbo(model, t)).round(3))  # 1 / (1 + SNR)
    [0.5 0.1]
    """
    return elbo(model, t) * jax.nn.sigmoid(bias - model.sde.logsnr(t))


def _determinant(model: Model, t: Times) -> Times:
    """Return a sigma - b alpha, the determinant of the map from (x0, eps) to (F, x)."""
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
