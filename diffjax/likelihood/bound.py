"""The variational bound on -log p(x0), and its terms (arXiv:2107.00630; arXiv:2006.11239).

-log p(x0) <= prior + diffusion + decoder. Images are in [-1, 1], quantized to 256 levels per value.
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
"""Edges of the bins of log-SNR by which diffusion terms are reported; outer bins are unbounded."""


def prior_kl(sde: SDE, x0: Sample) -> Nats:
    """Return the prior term KL(q(x_T | x0) || N(0, sigma_T^2)) in nats per image, (B,).

    It is SNR_T ||x0||^2 / 2 at T = t_max.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.75)
    >>> prior_kl(flow, jnp.full((1, 2), 3.0)).round(4).tolist()  # SNR 1 / 9 and |x0|^2 = 18
    [1.0]
    """
    return _prior(sde, x0).sum(dims(x0))


def _prior(sde: SDE, x0: Sample) -> Sample:
    return jnp.exp(sde.logsnr(jnp.asarray(sde.t_max, x0.dtype))) / 2 * x0**2


def decoder_nll(x0: Sample, mean: Sample, scale: Array, levels: int = 256) -> Nats:
    """Return -log P(x0) in nats per image, (B,): the sum of `decoder_each` over values.

    The arguments are those of `decoder_each`.

    >>> x0 = jnp.array([[1 / 255]])
    >>> nats = decoder_nll(x0, mean=x0, scale=jnp.asarray(1 / 255))
    >>> round(float(nats[0]), 3)  # -log of the probability of one standard deviation
    0.382
    """
    return decoder_each(x0, mean, scale, levels).sum(dims(x0))


def decoder_each(x0: Sample, mean: Sample, scale: Array, levels: int = 256) -> Sample:
    """Return -log P(x0) in nats per value, (B, ...), for a discretised N(mean, scale^2).

    P is the integral of the Gaussian over the bin of the value, of `levels` bins from -1 to 1. The
    two outer bins are unbounded, so that P sums to one (arXiv:2006.11239, eq. 13). scale: standard
    deviation, broadcast to x0.
    """
    half = 1 / (levels - 1)
    low = jnp.where(x0 < -1 + half, -jnp.inf, (x0 - half - mean) / scale)
    high = jnp.where(x0 > 1 - half, jnp.inf, (x0 + half - mean) / scale)
    # Bins above the mean are mirrored into the lower tail, where log cdf keeps all its digits; in
    # the upper tail cdf is 1 to rounding.
    flip = low > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    log_low, log_high = jax.scipy.stats.norm.logcdf(low), jax.scipy.stats.norm.logcdf(high)
    # log(cdf(high) - cdf(low)) from the two logarithms, for a bin far out as well.
    return -(log_high + jnp.log(-jnp.expm1(log_low - log_high)))


def diffusion_term(sde: SDE, x0: Sample, eps: Sample, t: Time, prediction: Prediction) -> Nats:
    """Return -l' / 2 ||eps - eps_hat||^2 at t in nats per image, (B,).

    Its integral over t is the diffusion term of the bound in continuous time (arXiv:2107.00630, eq.
    17). prediction: that of the denoiser at x_t = alpha x0 + sigma eps.

    >>> from diffjax import schedules, sde
    >>> from diffjax.prediction import predict
    >>> flow, t = sde.Flow(schedules.Logit()), jnp.full(1, 0.5)
    >>> x0, eps = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> prediction = predict(flow, flow.perturb(x0, eps, t), t, x0)
    >>> float(diffusion_term(flow, x0, eps, t, prediction)[0])  # the prediction is exact
    0.0
    """
    return _diffusion(sde, x0, eps, t, prediction).sum(dims(x0))


def _diffusion(sde: SDE, x0: Sample, eps: Sample, t: Time, prediction: Prediction) -> Sample:
    alpha, sigma, w = sde.alpha(t), sde.sigma(t), sde.wronskian(t)
    by_eps = expand(w / (alpha * sigma), x0) * (eps - prediction.eps) ** 2
    by_x0 = expand(alpha * w / sigma**3, x0) * (x0 - prediction.x0) ** 2
    # Both are -l' / 2 (eps - eps_hat)^2, since alpha (x0 - x0_hat) = -sigma (eps - eps_hat). Near
    # the data x0 - x0_hat is a small difference of large numbers, near the noise eps - eps_hat is.
    return jnp.where(expand(sde.logsnr(t), x0) > 0, by_eps, by_x0)


def step_nll(
    sde: SDE, x0: Sample, x: Sample, s: Time, t: Time, prediction: Prediction, levels: int = 256
) -> Nats:
    """Return the term of one step from t to s in the discrete bound, in nats per image, (B,).

    It is KL(q(x_s | x_t, x0) || p(x_s | x_t)), where p has the mean of q at the predicted x0, and
    the variance of q or the one in `prediction.log_var`. For s = 0 it is the decoder at the
    predicted x0. levels: grey levels per value.

    >>> from diffjax import schedules, sde
    >>> from diffjax.prediction import predict
    >>> flow, x0, x = sde.Flow(schedules.Logit()), jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> s, t = jnp.full(1, 0.5), jnp.full(1, 0.75)
    >>> nats = step_nll(flow, x0, x, s, t, predict(flow, x, t, x0 + 1))
    >>> round(float(nats[0]), 4)  # (SNR_s - SNR_t) / 2 = (1 - 1 / 9) / 2
    0.4444
    """
    # Both branches of the last `where` are computed, so each needs finite inputs everywhere.
    inner = jnp.where(s > 0, s, t / 2)  # any time will do: not used where s = 0
    _, b, c = sde.posterior(inner, t)
    if prediction.log_var is None:
        # Equal variances: (SNR_s - SNR_t) / 2 ||x0 - x0_hat||^2 (arXiv:2107.00630, eq. 13).
        squares = ((x0 - prediction.x0) ** 2).sum(dims(x0))
        step = (b / c) ** 2 / 2 * squares
        l = jnp.where(s > 0, 0.0, sde.logsnr(t))  # not used where s > 0, and may be -inf there
        scale = expand(jnp.exp(-l / 2), x0)
    else:
        # log_var in [-1, 1] interpolates the logarithms of both variances (arXiv:2102.09672).
        small, large = step_log_var(sde, s, t)
        share = (prediction.log_var + 1) / 2
        log_var = expand(small, x0) + share * expand(large - small, x0)
        # KL of two Gaussians per value: (|mean difference|^2 / v + r - 1 - log r) / 2, r = c^2 / v.
        ratio = 2 * jnp.log(expand(c, x0)) - log_var
        away = expand(b, x0) ** 2 * (x0 - prediction.x0) ** 2 * jnp.exp(-log_var)
        step = 0.5 * (away + jnp.exp(ratio) - 1 - ratio).sum(dims(x0))
        scale = jnp.exp(log_var / 2)
    last = decoder_nll(x0, prediction.x0, scale, levels)
    return jnp.where(s > 0, step, last)


def step_log_var(sde: SDE, s: Time, t: Time) -> tuple[Time, Time]:
    """Return DDPM's two log-variances of a step from t to s, each (B,).

    The first is that of the posterior, sigma_s^2 (1 - exp(l_t - l_s)); the second that of x_t given
    x_s, which in VP is beta = 1 - (alpha_t / alpha_s)^2. The posterior at s = 0 has no variance, so
    there the first is that of the step from 2t to t, as in DDPM (arXiv:2006.11239, sec. 3.2).

    >>> from diffjax import schedules, sde
    >>> flow, s, t = sde.Flow(schedules.Logit()), jnp.full(1, 0.5), jnp.full(1, 0.75)
    >>> [round(float(jnp.exp(log_var[0])), 4) for log_var in step_log_var(flow, s, t)]
    [0.2222, 0.5]
    """
    last = s <= 0
    to, start = jnp.where(last, t, s), jnp.where(last, jnp.minimum(2 * t, sde.t_max), t)
    _, _, small = sde.posterior(to, start)
    _, large = sde.transition(jnp.where(last, t / 2, s), t)
    return 2 * jnp.log(small), 2 * jnp.log(jnp.where(last, sde.sigma(t), large))


class Bound(NamedTuple):
    """The terms of the variational bound in bits per dimension.

    prior, diffusion, decoder: (B,). at_logsnr: (B, bins), the part of the diffusion term from each
    bin of log-SNR, see `EDGES`.

    >>> one = jnp.ones(2)
    >>> Bound(0.25 * one, 2.5 * one, 0.25 * one, at_logsnr=2.5 * one[:, None]).total.tolist()
    [3.0, 3.0]
    """

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
    """Estimate the variational bound of images, in bits per dimension.

    Without `times` it is the bound in continuous time: the mean over `samples` times per image,
    drawn from `draw`, whose density is divided out; the decoder is N(x / alpha, SNR^-1) at t_min.
    With `times`, a grid that decreases from t_max to 0, it is the bound of the discrete process
    over them, with one noise per step and image; the last step is the decoder.

    x0: (B, ...) in [-1, 1]. keys: (B,); the estimate of an image depends on its own key only.
    levels: grey levels per value. Raises ValueError for times that are no such grid.

    >>> from diffjax import analytic, schedules, sde
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(sde.VP(schedules.Linear()))
    >>> bound = vlb(denoise, jnp.zeros((1, 2)), jax.random.split(jax.random.key(0), 1), samples=2)
    >>> bound.total.shape, bound.at_logsnr.shape
    ((1,), (1, 16))
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
    """Estimate the bound in continuous time per value, (B, ...), in bits.

    Its mean over an image is `vlb(...).total` for the same keys. Values that cost many bits are
    those that the model did not expect. The arguments are those of `vlb`.
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
    """Return the diffusion terms, accumulated by `add(sums, t, each)`, and the decoder term."""
    # The bound is an integral over uniform t, so the density of the draw is always divided out.
    sde, draw = denoise.sde, dataclasses.replace(draw, importance=True)
    fold = lambda i: jax.vmap(jax.random.fold_in, (0, None))(keys, i)
    noise = lambda i: normal(fold(i), x0.shape[1:]).astype(x0.dtype)
    # Times are drawn per image, not per batch, so that an estimate depends on its own key only.
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
    """Return the steps of the discrete bound by noise level (B, bins), and its last step (B,)."""
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
    """Return the one-hot bin of log-SNR, see `EDGES`, that each t lies in, (B, bins).

    >>> from diffjax import schedules, sde
    >>> at_level(sde.Flow(schedules.Logit()), jnp.array([0.4])).argmax(1).tolist()  # 0 to 2
    [8]
    """
    bins = len(EDGES) - 1
    place = (sde.logsnr(t) - EDGES[0]) / (EDGES[1] - EDGES[0])
    return jax.nn.one_hot(jnp.clip(place, 0, bins - 1).astype(jnp.int32), bins, dtype=t.dtype)


def end_nll(sde: SDE, x0: Sample, eps: Sample, levels: int = 256) -> Nats:
    """Return the decoder term of the bound in continuous time, in nats per image, (B,).

    The decoder is N(x / alpha, SNR^-1) at t_min, discretised as in `decoder_each`. levels: grey
    levels per value.

    >>> from diffjax import schedules, sde
    >>> x0, eps = jnp.zeros((1, 1)), jnp.zeros((1, 1))
    >>> round(float(end_nll(sde.Flow(schedules.Logit(), t_min=1 / 256), x0, eps)[0]), 3)
    0.382
    """
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
