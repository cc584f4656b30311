"""Data in the plane whose densities and scores are exact, and how far networks are from them.

What the studies `toys`, `schedules` and `guidance` share. All run under one process, PROCESS, and
all numbers are of points, not per dimension: squared errors are sums over both values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.analytic import Mixture
from diffjax.arrays import dims, keys_at
from diffjax.grids import GRIDS
from diffjax.likelihood import Ode, logp
from diffjax.prediction import Denoise
from diffjax.samplers import SAMPLERS, Table, initial, run
from diffjax.schedules import Geometric
from diffjax.sde import VP
from experiments.samplers import problem

EVEN = Geometric(math.exp(-4.5), math.exp(4.0))
PROCESS = VP(EVEN)
"""Log-SNR from 9 to -8, even in t: the noise levels on which all are compared."""
LEVELS = 34
"""Noise levels at which errors of the score are measured, half a unit of log-SNR apart."""
COUNT = 192
"""Parts of the mixtures that stand for curves."""
ANGLES = np.pi * np.arange(16) / 16
"""Directions that the sliced distance projects on."""


def parts() -> Mixture:
    """Three Gaussian parts with deviations from 0.05 to 0.4 (`samplers/problem.py`)."""
    return Mixture(*map(jnp.asarray, (problem.WEIGHT, problem.CENTRE, problem.SCALE**2)))


def moons(noise: float = 0.05, count: int = COUNT // 2) -> Mixture:
    """The half circles of the data set `moons`, each as `count` parts, the second after the first.

    With parts much closer than their width, that is exact.
    """
    angle = np.pi * (np.arange(count) + 0.5) / count
    arc = np.stack([np.cos(angle), np.sin(angle)], 1)
    return along(np.concatenate([arc - [0.5, 0.25], [0.5, 0.25] - arc]), noise)


def spiral(noise: float = 0.05, count: int = COUNT) -> Mixture:
    """One and a half turns, evenly along the arm."""
    turn = np.sqrt(np.linspace(0.02, 1, count))  # even in length where the radius is the angle
    angle = 3 * np.pi * turn
    return along(1.5 * turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), noise)


def ring(noise: float = 0.1) -> Mixture:
    """Eight Gaussians on a circle, the last four times as probable as the first."""
    angle = np.repeat(2 * np.pi * np.arange(8) / 8, COUNT // 8)  # as many parts: one program
    made = along(np.stack([np.cos(angle), np.sin(angle)], 1), noise)
    share = np.repeat(np.linspace(1, 4, 8), COUNT // 8)
    return Mixture(jnp.asarray(share / share.sum()), made.mean, made.var)


def along(centres: np.ndarray, noise: float) -> Mixture:
    """Equal parts of one width at `centres` (K, 2)."""
    count = len(centres)
    var = jnp.full(centres.shape, noise**2)
    return Mixture(jnp.full(count, 1 / count), jnp.asarray(centres, jnp.float32), var)


def deviation(data: Mixture) -> float:
    """Of the data, per dimension."""
    weight, mean, var = (np.asarray(a, np.float64) for a in (data.weight, data.mean, data.var))
    away = mean - weight @ mean
    return float(np.sqrt((weight @ (away**2 + var)).mean()))


@functools.partial(jax.jit, static_argnames="num")
def eps_errors(denoise: Denoise, data: Mixture, seed: int, num: int = 512) -> jax.Array:
    """E|eps - exact eps|^2 at LEVELS noise levels (LEVELS,), high log-SNR first.

    It is sigma^2 times the squared error of the score.
    """
    exact = data.denoiser(PROCESS)
    draw = lambda key: data.sample(key, num)[0]
    return _errors(denoise, draw, lambda x, t, eps: exact(x, t).eps, seed)


@jax.jit
def held_out_errors(denoise: Denoise, x0: jax.Array, seed: int) -> jax.Array:
    """The same of the noise itself on items x0 (N, *d), where the score is not known."""
    return _errors(denoise, lambda key: x0, lambda x, t, eps: eps, seed)


def _errors(denoise: Denoise, draw: Callable, wanted: Callable, seed: int) -> jax.Array:
    def at(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        pick, noise = jax.random.split(jax.random.fold_in(jax.random.key(seed), row[0]))
        x0 = draw(pick)
        eps, t = jax.random.normal(noise, x0.shape), jnp.full(len(x0), row[1])
        x = PROCESS.perturb(x0, eps, t)
        off = denoise(x, t).eps - wanted(x, t, eps)
        return (off**2).sum(dims(off)).mean()

    return jax.lax.map(at, (jnp.arange(LEVELS), _times()))


def _times() -> jax.Array:
    """Midpoints of LEVELS equal parts of the log-SNR."""
    share = (jnp.arange(LEVELS) + 0.5) / LEVELS
    return PROCESS.t_min + (PROCESS.t_max - PROCESS.t_min) * share


def logsnrs() -> np.ndarray:
    """Where `eps_errors` are measured."""
    return np.asarray(PROCESS.logsnr(_times()))


def path_nats(errors: np.ndarray) -> float:
    """1/2 int E|eps - exact eps|^2 d log-SNR: the divergence KL(exact | learned) of the paths of
    the two reverse SDEs, in nats; that of their ends is no larger (arXiv:2101.09258, thm. 1). Of
    `held_out_errors` the diffusion term of the variational bound (arXiv:2107.00630, eq. 17)."""
    first, last = PROCESS.logsnr(jnp.asarray([PROCESS.t_min, PROCESS.t_max]))
    return float(np.asarray(errors, np.float64).mean() * (first - last) / 2)


@functools.partial(jax.jit, static_argnames=("num", "steps"))
def ode_nats(
    denoise: Denoise, data: Mixture, seed: int, num: int = 1024, steps: int = 20
) -> tuple[jax.Array, jax.Array]:
    """KL(exact | learned) of the density by the probability-flow ODE, in nats, and its standard
    error: the mean of log p - log p_learned over draws of the data with the noise of t_min."""
    sde, (pick, noise) = denoise.sde, jax.random.split(jax.random.key(seed))
    t = jnp.full(num, sde.t_min)
    x0 = data.sample(pick, num)[0]
    x = sde.perturb(x0, jax.random.normal(noise, x0.shape), t)
    found = logp(denoise, x / sde.alpha(t)[:, None], _keys(num), ode=Ode(steps=steps)).logp
    gap = data.logp(sde, x, t) + 2 * sde.log_alpha(t) - found
    return gap.mean(), gap.std() / jnp.sqrt(num)


@functools.cache
def table(rows: int = 30) -> Table:
    """DPM-Solver++ 2M, even steps in log-SNR: what all samples are made by."""
    return SAMPLERS["dpmpp_2m"](PROCESS, GRIDS["uniform"](PROCESS, rows))


def samples(
    denoise: Denoise, num: int, seed: int = 0, shape: tuple[int, ...] = (2,), **how: Any
) -> np.ndarray:
    """Samples (num, *shape) by `table()`. how: what `run` takes besides, or another table."""
    keys = keys_at(jax.random.key(seed), jnp.arange(num))
    x, keys = initial(PROCESS, keys, shape)
    return np.asarray(run(denoise, x=x, keys=keys, **{"table": table()} | how).x)


def exact_draws(data: Mixture, num: int, seed: int) -> np.ndarray:
    return np.asarray(data.sample(jax.random.key(seed), num)[0])


def sliced(x: np.ndarray, y: np.ndarray) -> float:
    """Sliced Wasserstein-2 distance of two sets of as many points (N, 2)."""
    directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
    along = lambda a: np.sort(np.asarray(a, np.float64) @ directions, axis=0)
    return float(np.sqrt(np.mean((along(x) - along(y)) ** 2)))


def _keys(num: int) -> jax.Array:
    return keys_at(jax.random.key(0), jnp.arange(num))
