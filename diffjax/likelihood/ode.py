"""The density of data by the probability-flow ODE (arXiv:2011.13456, sec. 4.3 and app. D).

The state is the sample in its VP view, y = x / sqrt(alpha^2 + sigma^2); alpha and sigma are those
of VP from here on. With w = asinh(alpha / sigma), so alpha = tanh w and sigma = 1 / cosh w,

    dy / dw = sigma (sigma x0 - alpha eps),    d log p(y) / dw = -tr of its Jacobian in y

which is finite from alpha = 0 on, and is the ODE in log(alpha / sigma) where that is large: for
Gaussian data of any variance the trace per dimension stays between -1 and sigma^2 / alpha. Frame
and parameterization do not appear, but in what x0 and eps are asked with.

Density is that of z = x / alpha at t_min, the data with noise of std rho = sigma / alpha. What that
says of grey levels is in `dequantize`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax.arrays import Cond, dims, expand
from diffjax.checks import at_least, one_of, within
from diffjax.likelihood.dequantize import Dequantize
from diffjax.likelihood.traces import Probes, Trace, exact
from diffjax.prediction import Denoise, Sample
from diffjax.sde import SDE
from diffjax.solvers import FIRST, GROWTH, SOLVERS

Nats = Float[Array, " b"]
State = tuple[Float[Array, "*d"], Float[Array, ""]]
"""y, and the integral of the trace per dimension."""
Slope = Callable[[Any, State], State]
STAGES = ((0.0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1.0, 1 / 6))
"""(c, b) of the classic method: a stage stands at c h, on c h times the slope of the one before."""


@dataclass(frozen=True)
class Ode:
    """How the ODE is solved.

    By a Runge-Kutta pair of diffrax, `solver`, each step within rtol |state| + atol in the mean of
    squares of y and in log p per dimension, at most `most` steps per sample with rejected ones.
    Or, where steps > 0, by so many equal ones in w of the classic method of order 4.
    Raises ValueError where a setting is out of range.
    """

    solver: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    steps: int = 0
    most: int = 1000

    def __post_init__(self):
        one_of(SOLVERS, solver=self.solver)
        within(0, 1, "()", rtol=self.rtol, atol=self.atol)
        at_least(0, steps=self.steps)
        at_least(1, most=self.most)

    @property
    def passes(self) -> tuple[int, int]:
        """Network passes per sample: at first, and per step."""
        if self.steps:
            return 0, len(STAGES)
        tableau = SOLVERS[self.solver]().tableau
        shared = int(tableau.fsal)  # the last stage of a step is the first of the next one
        return shared, tableau.num_stages - shared


class Path(NamedTuple):
    """y (B, ...) at the end; growth (B,): the integral of the trace, per dimension; steps (B,),
    rejected ones included; arrived (B,)."""

    y: Sample
    growth: Nats
    steps: Int[Array, " b"]
    arrived: Bool[Array, " b"]


class Density(NamedTuple):
    """logp (B,): log-density of z in nats; latent (B, ...): x at t_max; steps, arrived as in
    `Path`."""

    logp: Nats
    latent: Sample
    steps: Int[Array, " b"]
    arrived: Bool[Array, " b"]


def field(
    denoise: Denoise, y: Float[Array, "*d"], w: Float[Array, ""], cond: Cond | None
) -> Float[Array, "*d"]:
    """dy / dw of one sample."""
    sde = denoise.sde
    w = jnp.maximum(w, 0)  # rounding only, as below
    l = 2 * (w + jnp.log(-jnp.expm1(-2 * w) / 2))  # of alpha / sigma = sinh w
    t = jnp.clip(sde.inverse(l), sde.t_min, sde.t_max)
    x = (y * scale(denoise.sde, l))[None]
    seen = denoise(x, t[None], jax.tree.map(lambda c: c[None], cond))
    alpha, sigma = jnp.tanh(w), 1 / jnp.cosh(w)
    return sigma * (sigma * seen.x0[0] - alpha * seen.eps[0])


def traced(
    slope: Callable[[Float[Array, "*d"]], Float[Array, "*d"]],
    y: Float[Array, "*d"],
    probes: Probes | None,
) -> tuple[Float[Array, "*d"], Float[Array, ""]]:
    """slope(y), and the trace of its Jacobian per dimension by forward mode; 0 without probes."""
    if probes is None:
        return slope(y), jnp.zeros((), y.dtype)
    value, push = jax.linearize(slope, y)
    along = jax.vmap(lambda v: (v * push(v.reshape(y.shape)).ravel()).sum())(probes)
    return value, along.sum() / y.size


def flow(
    denoise: Denoise,
    y: Float[Array, "b *d"],
    begin: Float[Array, ""],
    end: Float[Array, ""],
    cond: Cond | None,
    how: Ode,
    probes: Float[Array, "b k n"] | None = None,
) -> Path:
    """y from w = begin to end, each sample by its own steps."""

    def one(y: Array, cond: Cond | None, probes: Array | None) -> Path:
        def slope(w: Any, state: State) -> State:
            return traced(lambda y: field(denoise, y, w, cond), state[0], probes)

        start = (y, jnp.zeros((), y.dtype))
        move = _equal if how.steps else _adaptive
        (y, growth), steps, done = move(slope, start, begin, end, how)
        return Path(y, growth, steps, done & jnp.isfinite(y).all() & jnp.isfinite(growth))

    return jax.vmap(one)(y, cond, probes)


def _adaptive(
    slope: Slope, start: State, begin: Array, end: Array, how: Ode
) -> tuple[State, Array, Array]:
    """The state at the end, the steps tried, and whether they were enough."""
    worst = lambda e: jnp.maximum(jnp.sqrt((e[0] ** 2).mean()), jnp.abs(e[1]))
    solved = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda w, state, _: slope(w, state)),
        SOLVERS[how.solver](),
        begin,
        end,
        FIRST * (end - begin),
        start,
        stepsize_controller=diffrax.PIDController(how.rtol, how.atol, norm=worst, factormax=GROWTH),
        max_steps=how.most,
        adjoint=diffrax.ForwardMode(),  # half the time to compile
        throw=False,
    )
    assert solved.ys is not None
    last = jax.tree.map(lambda a: a[-1], solved.ys)
    return last, solved.stats["num_steps"], solved.result == diffrax.RESULTS.successful


def _equal(
    slope: Slope, start: State, begin: Array, end: Array, how: Ode
) -> tuple[State, Array, Array]:
    """As `_adaptive`, by equal steps; one slope is compiled for all stages."""
    h = (end - begin) / how.steps
    add = lambda state, by, k: jax.tree.map(lambda a, b: a + by * b, state, k)

    def step(state: State, i: Array) -> tuple[State, None]:
        def stage(carry: tuple[State, State], at: Array) -> tuple[tuple[State, State], None]:
            moved, k = carry
            c, b = at.astype(h.dtype)
            k = slope(begin + (i + c) * h, add(state, c * h, k))
            return (add(moved, b * h, k), k), None

        zero = jax.tree.map(jnp.zeros_like, state)
        return jax.lax.scan(stage, (state, zero), jnp.asarray(STAGES))[0][0], None

    last, _ = jax.lax.scan(step, start, jnp.arange(how.steps))
    return last, jnp.asarray(how.steps), jnp.asarray(True)


def logp(
    denoise: Denoise,
    z: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None = None,
    how: Ode = Ode(),
    trace: Trace = exact,
) -> Density:
    """log p(z) in nats (B,), z = x / alpha at t_min: for an image that depends on its key only.

    log p(z) = log N(y; 0, sigma^2) at t_max + int tr dw + D log alpha at t_min.
    """
    begin, end = span(denoise, z.dtype)
    size = z[0].size
    probes = jax.vmap(lambda key: trace(key, size).astype(z.dtype))(keys)
    path = flow(denoise, jnp.tanh(begin) * z, begin, end, cond, how, probes)
    var = 1 / jnp.cosh(end) ** 2
    prior = -0.5 * (path.y**2 / var + jnp.log(2 * jnp.pi * var)).sum(dims(z))
    log_alpha = jnp.log(jnp.tanh(begin))
    total = prior + size * (path.growth + log_alpha)
    return Density(total, path.y * _prior_scale(denoise), path.steps, path.arrived)


def encode(denoise: Denoise, z: Sample, cond: Cond | None = None, how: Ode = Ode()) -> Sample:
    """x at t_max of the ODE through x = alpha z at t_min; NaN where it does not arrive."""
    begin, end = span(denoise, z.dtype)
    path = flow(denoise, jnp.tanh(begin) * z, begin, end, cond, how)
    return _or_nan(path) * _prior_scale(denoise)


def decode(denoise: Denoise, x: Sample, cond: Cond | None = None, how: Ode = Ode()) -> Sample:
    """z = x / alpha at t_min of the ODE from x at t_max: `encode` turned around."""
    begin, end = span(denoise, x.dtype)
    path = flow(denoise, x / _prior_scale(denoise), end, begin, cond, how)
    return _or_nan(path) / jnp.tanh(begin)


def log_weights(
    denoise: Denoise,
    x0: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None,
    how: Ode,
    trace: Trace,
    dequantize: Dequantize,
    repeats: int = 1,
) -> tuple[Float[Array, "b r"], Int[Array, "b r"]]:
    """log p(x0 + u) - log q(u | x0) in nats for `repeats` draws of u and of the probes, and the
    steps taken; NaN where the ODE did not arrive.

    Their mean, and the logarithm of the mean of their exponentials, bound log P(x0) from below, the
    second more tightly (arXiv:1509.00519, eq. 8) if the trace is exact: else its noise, which is
    none in the mean, adds half its variance there.
    """
    rho = 1 / jnp.sinh(span(denoise, x0.dtype)[0])

    def repeat(i: Array) -> tuple[Array, Array]:
        both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))(keys)
        noise = jax.vmap(lambda key: dequantize(key, x0.shape[1:], rho))
        u, log_q = noise(both[:, 0])
        path = logp(denoise, x0 + u.astype(x0.dtype), both[:, 1], cond, how, trace)
        return jnp.where(path.arrived, path.logp - log_q, jnp.nan), path.steps

    weights, steps = jax.lax.map(repeat, jnp.arange(repeats))
    return weights.T, steps.T


def span(denoise: Denoise, dtype: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """w at t_min and t_max."""
    times = jnp.asarray([denoise.sde.t_min, denoise.sde.t_max], dtype)
    begin, end = jnp.arcsinh(jnp.exp(denoise.sde.logsnr(times) / 2))
    return begin, end


def scale(sde: SDE, l: Float[Array, ""]) -> Float[Array, ""]:
    """sqrt(alpha^2 + sigma^2) of the frame at log-SNR l: x over its VP view."""
    log_alpha, log_sigma = sde.frame(l)
    return jnp.exp(jnp.logaddexp(2 * log_alpha, 2 * log_sigma) / 2)


def _prior_scale(denoise: Denoise) -> Float[Array, ""]:
    return scale(denoise.sde, denoise.sde.logsnr(jnp.asarray(denoise.sde.t_max)))


def _or_nan(path: Path) -> Sample:
    return jnp.where(expand(path.arrived, path.y), path.y, jnp.nan)
