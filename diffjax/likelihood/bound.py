"""The variational bound on -log p(x0), and its terms (arXiv:2107.00630; arXiv:2006.11239).

-log p(x0) <= prior + diffusion + decoder. Images are in [-1, 1] with 256 levels per value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax.arrays import Cond, dims, expand, normal
from diffjax.draws import Draw, Uniform
from diffjax.prediction import Denoise, Prediction, Sample, Time
from diffjax.sde import SDE

Nats = Float[Array, " b"]
EDGES = tuple(range(-16, 17, 2))
"""Of the bins of log-SNR that terms are reported by; the outer two are unbounded."""


def prior_kl(sde: SDE, x0: Sample) -> Nats:
    """KL(q(x_T | x0) || N(0, sigma_T^2)) = SNR_T ||x0||^2 / 2 at T = t_max, in nats per image."""
    return _prior(sde, x0).sum(dims(x0))


def _prior(sde: SDE, x0: Sample) -> Sample:
    return jnp.exp(sde.logsnr(jnp.asarray(sde.t_max, x0.dtype))) / 2 * x0**2


def decoder_nll(x0: Sample, mean: Sample, scale: Array, levels: int = 256) -> Nats:
    """-log P(x0) in nats per image: `decoder_each` summed."""
    return decoder_each(x0, mean, scale, levels).sum(dims(x0))


def decoder_each(x0: Sample, mean: Sample, scale: Array, levels: int = 256) -> Sample:
    """-log P(x0) in nats for each value, for the discretised Gaussian N(mean, scale^2).

    P is its integral over the bin of each value, of `levels` values from -1 to 1; the two outer
    bins are unbounded, so that P sums to one (arXiv:2006.11239, eq. 13). scale broadcasts.
    """
    half = 1 / (levels - 1)
    low = jnp.where(x0 < -1 + half, -jnp.inf, (x0 - half - mean) / scale)
    high = jnp.where(x0 > 1 - half, jnp.inf, (x0 + half - mean) / scale)
    # In the lower tail, where the logarithm of the distribution function has all digits.
    flip = low > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    log_low, log_high = jax.scipy.stats.norm.logcdf(low), jax.scipy.stats.norm.logcdf(high)
    return -(log_high + jnp.log(-jnp.expm1(log_low - log_high)))


def diffusion_term(sde: SDE, x0: Sample, eps: Sample, t: Time, prediction: Prediction) -> Nats:
    """-l' / 2 ||eps - eps_hat||^2 at t, in nats per image: its integral over t is the diffusion
    term of the bound in continuous time (arXiv:2107.00630, eq. 17)."""
    return _diffusion(sde, x0, eps, t, prediction).sum(dims(x0))


def _diffusion(sde: SDE, x0: Sample, eps: Sample, t: Time, prediction: Prediction) -> Sample:
    alpha, sigma, w = sde.alpha(t), sde.sigma(t), sde.wronskian(t)
    by_eps = expand(w / (alpha * sigma), x0) * (eps - prediction.eps) ** 2
    by_x0 = expand(alpha * w / sigma**3, x0) * (x0 - prediction.x0) ** 2
    # Equal; each where it keeps its digits.
    return jnp.where(expand(sde.logsnr(t), x0) > 0, by_eps, by_x0)


def step_nll(
    sde: SDE, x0: Sample, x: Sample, s: Time, t: Time, prediction: Prediction, levels: int = 256
) -> Nats:
    """The term of one step from t to s in the discrete bound, in nats per image.

    KL(q(x_s | x_t, x0) || p(x_s | x_t)), where p has the mean of q at the predicted x0 and its
    variance, or that which `prediction.log_var` says; for s = 0 the decoder at the predicted x0.
    """
    inner = jnp.where(s > 0, s, t / 2)  # any time: not used where s = 0
    _, b, c = sde.posterior(inner, t)
    if prediction.log_var is None:
        # Equal variances: (SNR_s - SNR_t) / 2 ||x0 - x0_hat||^2 (arXiv:2107.00630, eq. 13).
        squares = ((x0 - prediction.x0) ** 2).sum(dims(x0))
        step = (b / c) ** 2 / 2 * squares
        l = jnp.where(s > 0, 0.0, sde.logsnr(t))  # not used where s > 0, and may be -inf there
        scale = expand(jnp.exp(-l / 2), x0)
    else:
        small, large = step_log_var(sde, s, t)
        share = (prediction.log_var + 1) / 2
        log_var = expand(small, x0) + share * expand(large - small, x0)
        ratio = 2 * jnp.log(expand(c, x0)) - log_var
        away = expand(b, x0) ** 2 * (x0 - prediction.x0) ** 2 * jnp.exp(-log_var)
        step = 0.5 * (away + jnp.exp(ratio) - 1 - ratio).sum(dims(x0))
        scale = jnp.exp(log_var / 2)
    last = decoder_nll(x0, prediction.x0, scale, levels)
    return jnp.where(s > 0, step, last)


def step_log_var(sde: SDE, s: Time, t: Time) -> tuple[Time, Time]:
    """Log-variances of a step from t to s: DDPM's two choices (arXiv:2006.11239, sec. 3.2).

    That of the posterior, sigma_s^2 (1 - exp(l_t - l_s)), and that of x_t given x_s, in VP beta = 1
    - (alpha_t / alpha_s)^2. For s = 0 the first is that of the step from 2t to t, as in DDPM.
    """
    last = s <= 0
    to, start = jnp.where(last, t, s), jnp.where(last, jnp.minimum(2 * t, sde.t_max), t)
    _, _, small = sde.posterior(to, start)
    _, large = sde.transition(jnp.where(last, t / 2, s), t)
    return 2 * jnp.log(small), 2 * jnp.log(jnp.where(last, sde.sigma(t), large))


class Bound(NamedTuple):
    """Terms of the variational bound in bits per dimension, each (B,); at_logsnr (B, bins): the
    diffusion term by the noise level that it comes from, see EDGES."""

    prior: Nats
    diffusion: Nats
    decoder: Nats
    at_logsnr: Float[Array, "b bins"]

    @property
    def total(self) -> Nats:
        return self.prior + self.diffusion + self.decoder


def vlb(
    denoise: Denoise,
    x0: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None = None,
    *,
    times: np.ndarray | None = None,
    samples: int = 16,
    draw: Draw = Uniform(stratified=True),
    levels: int = 256,
) -> Bound:
    """The variational bound of images x0 (B, ...) in [-1, 1], in bits per dimension.

    Continuous time: the mean over `samples` times per image with the density of `draw` divided
    out; the decoder is N(x0, SNR^-1) at t_min. With `times`, decreasing to 0
    (a grid): the bound of the discrete process over them, one noise per step and image; its last
    step is the decoder. keys (B,): the estimate of an image depends on its own key only.
    """
    sde, unit = denoise.sde, 1 / (math.prod(x0.shape[1:]) * math.log(2))
    zeros = jnp.zeros((len(x0), len(EDGES) - 1), x0.dtype)
    if times is None:
        add = lambda sums, t, each: sums + expand(each.sum(dims(x0)), sums) * at_level(sde, t)
        diffusion, decoder = _continuous(denoise, x0, keys, cond, samples, draw, levels, add, zeros)
        decoder = decoder.sum(dims(x0))
    else:
        _check(times, sde)
        diffusion, decoder = _discrete(denoise, x0, keys, cond, times, levels, zeros)
    parts = (prior_kl(sde, x0), diffusion.sum(1), decoder, diffusion)
    return Bound(*(unit * a for a in parts))


def vlb_map(
    denoise: Denoise,
    x0: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None = None,
    *,
    samples: int = 64,
    draw: Draw = Uniform(stratified=True),
    levels: int = 256,
) -> Sample:
    """The bound in continuous time value by value, (B, ...) in bits: its mean is `vlb(...).total`.

    Where the image costs many bits, the model did not expect it.
    """
    add = lambda total, t, each: total + each
    diffusion, decoder = _continuous(
        denoise,
        x0,
        keys,
        cond,
        samples,
        draw=draw,
        levels=levels,
        add=add,
        start=jnp.zeros_like(x0),
    )
    return (_prior(denoise.sde, x0) + diffusion + decoder) / math.log(2)


def _continuous(
    denoise: Denoise,
    x0: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None,
    samples: int,
    draw: Draw,
    levels: int,
    add: Callable[[Array, Time, Sample], Array],
    start: Array,
) -> tuple[Array, Sample]:
    """The diffusion terms at `samples` times, gathered by `add(sums, t, each)`; the decoder."""
    sde, draw = denoise.sde, dataclasses.replace(draw, importance=True)
    fold = lambda i: jax.vmap(jax.random.fold_in, (0, None))(keys, i)
    noise = lambda i: normal(fold(i), x0.shape[1:]).astype(x0.dtype)
    u = jax.vmap(lambda key: draw.positions(key, samples))(fold(samples)).astype(x0.dtype)

    def one(sums: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
        i, u = item
        t, factor = draw(sde, u, draw.init())
        eps = noise(i)
        prediction = denoise(sde.perturb(x0, eps, t), t, cond)
        share = factor * (sde.t_max - sde.t_min) / samples
        return add(sums, t, expand(share, x0) * _diffusion(sde, x0, eps, t, prediction)), None

    diffusion, _ = jax.lax.scan(one, start, (jnp.arange(samples), u.T))
    return diffusion, _end(sde, x0, noise(samples + 1), levels)


def _discrete(
    denoise: Denoise,
    x0: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None,
    times: np.ndarray,
    levels: int,
    start: Array,
) -> tuple[Array, Nats]:
    """The steps of the discrete bound by noise level (B, bins), and its last step."""
    sde = denoise.sde

    def step(s: Array, t: Array, i: Array) -> tuple[Time, Nats]:
        s, t = (jnp.full(x0.shape[:1], a, x0.dtype) for a in (s, t))
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
        x = sde.perturb(x0, normal(step_keys, x0.shape[1:]).astype(x0.dtype), t)
        return t, step_nll(sde, x0, x, s, t, denoise(x, t, cond), levels)

    def one(sums: Array, item: tuple[Array, Array, Array]) -> tuple[Array, None]:
        t, nats = step(*item)
        return sums + expand(nats, sums) * at_level(sde, t), None

    steps = (jnp.asarray(times[1:-1]), jnp.asarray(times[:-2]), jnp.arange(len(times) - 2))
    diffusion, _ = jax.lax.scan(one, start, steps)
    last = (jnp.asarray(0.0), jnp.asarray(times[-2]), jnp.asarray(len(times) - 2))
    return diffusion, step(*last)[1]


def at_level(sde: SDE, t: Time) -> Float[Array, "b bins"]:
    """1 in the bin of log-SNR that t is in, see EDGES, and 0 in the others."""
    bins = len(EDGES) - 1
    place = (sde.logsnr(t) - EDGES[0]) / (EDGES[1] - EDGES[0])
    return jax.nn.one_hot(jnp.clip(place, 0, bins - 1).astype(jnp.int32), bins, dtype=t.dtype)


def end_nll(sde: SDE, x0: Sample, eps: Sample, levels: int = 256) -> Nats:
    """The decoder of the bound in continuous time: N(x / alpha, SNR^-1) at t_min, in nats."""
    return _end(sde, x0, eps, levels).sum(dims(x0))


def _end(sde: SDE, x0: Sample, eps: Sample, levels: int) -> Sample:
    scale = jnp.exp(-sde.logsnr(jnp.asarray(sde.t_min, x0.dtype)) / 2)
    return decoder_each(x0, x0 + scale * eps, scale, levels)


def _check(times: np.ndarray, sde: SDE) -> None:
    falling = len(times) >= 2 and bool((np.diff(times) < 0).all())
    if not falling or times[-1] != 0 or times[0] != sde.t_max:
        raise ValueError(
            f"times={times}: needs to decrease from t_max={sde.t_max} to 0, as a grid does"
        )
