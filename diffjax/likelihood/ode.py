"""The density of data by the probability-flow ODE (arXiv:2011.13456, sec. 4.3 and app. D).

The state is the sample in its VP view, y = x / sqrt(alpha^2 + sigma^2); alpha and sigma are those
of VP from here on. With w = asinh(alpha / sigma), so alpha = tanh w and sigma = 1 / cosh w,

    dy / dw = sigma (sigma x0 - alpha eps),    d log p(y) / dw = -tr of its Jacobian in y

The right side is finite from alpha = 0 on, and where log(alpha / sigma) is large it is the ODE in
that variable: for Gaussian data of any variance the trace per dimension stays between -1 and
sigma^2 / alpha. Frame and parameterization enter only through the evaluation of the denoiser.

The density is that of z = x / alpha at t_min, the data with noise of standard deviation rho = sigma
/ alpha. `dequantize` derives the likelihood of grey levels from it.
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
from diffjax.spaces import inside, mask_of, space_of

Nats = Float[Array, " b"]
State = tuple[Float[Array, "*d"], Float[Array, ""]]
"""y (*d), and the integral of the trace per dimension, a scalar."""
Slope = Callable[[Any, State], State]
STAGES = ((0.0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1.0, 1 / 6))
"""(c, b) of the classic Runge-Kutta method of order 4: stage j is evaluated at c_j h from the state
plus c_j h times the slope of the stage before it, and has the weight b_j."""


@dataclass(frozen=True)
class Ode:
    """Settings of the ODE solver.

    solver: the Runge-Kutta pair of diffrax, an entry of `SOLVERS`. rtol, atol: in (0, 1); the error
    of a step stays below rtol |state| + atol, in the root mean square over y and in log p per
    dimension. most: the largest number of steps per sample, rejected ones included. steps: if
    positive, the number of equal steps in w of the classic method of order 4, in place of adaptive
    ones.

    Raises ValueError where a setting is out of range.

    >>> Ode(steps=20).passes  # four network passes per step
    (0, 4)
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
        """The network passes of a sample: at the start, and per step."""
        if self.steps:
            return 0, len(STAGES)
        tableau = SOLVERS[self.solver]().tableau
        shared = int(tableau.fsal)  # the last stage of a step is the first of the next one
        return shared, tableau.num_stages - shared


class Path(NamedTuple):
    """The solution of the ODE at its end.

    y: (B, ...). growth: (B,), the integral of the trace per dimension. steps: (B,), rejected ones
    included. arrived: (B,), whether the end was reached with finite values.
    """

    y: Sample
    growth: Nats
    steps: Int[Array, " b"]
    arrived: Bool[Array, " b"]


class Density(NamedTuple):
    """The log-density of samples z, and the noise that they are mapped to.

    logp: (B,), log p(z) in nats. latent: (B, ...), x at t_max. steps, arrived: as in `Path`.
    """

    logp: Nats
    latent: Sample
    steps: Int[Array, " b"]
    arrived: Bool[Array, " b"]


def field(
    denoise: Denoise, y: Float[Array, "*d"], w: Float[Array, ""], cond: Cond | None
) -> Float[Array, "*d"]:
    """Return dy / dw of one sample y (*d) at w."""
    sde = denoise.sde
    w = jnp.maximum(w, 0)  # only rounding takes w below 0, and t beyond its range below
    # l = 2 log sinh w, without the overflow of sinh in float32 at large w or its cancellation at 0.
    l = 2 * (w + jnp.log(-jnp.expm1(-2 * w) / 2))
    t = jnp.clip(sde.inverse(l), sde.t_min, sde.t_max)
    # The network is evaluated in the frame that it was trained in; its views hold in every frame.
    x = (y * scale(denoise.sde, l))[None]
    seen = denoise(x, t[None], jax.tree.map(lambda c: c[None], cond))
    alpha, sigma = jnp.tanh(w), 1 / jnp.cosh(w)
    return sigma * (sigma * seen.x0[0] - alpha * seen.eps[0])


def traced(
    slope: Callable[[Float[Array, "*d"]], Float[Array, "*d"]],
    y: Float[Array, "*d"],
    probes: Probes | None,
) -> tuple[Float[Array, "*d"], Float[Array, ""]]:
    """Return slope(y) and an estimate of the trace of its Jacobian, divided by the dimension.

    probes: (k, D), see `traces`; without probes the trace is 0.
    """
    if probes is None:
        return slope(y), jnp.zeros((), y.dtype)
    # Linearised once, so that all probes share the evaluation of the network.
    value, push = jax.linearize(slope, y)
    along = jax.vmap(lambda v: (v * push(v.reshape(y.shape)).ravel()).sum())(probes)
    # Per dimension, so that one tolerance suits y and log p for images of any size.
    return value, along.sum() / y.size


def flow(
    denoise: Denoise,
    y: Float[Array, "b *d"],
    begin: Float[Array, ""],
    end: Float[Array, ""],
    cond: Cond | None,
    ode: Ode,
    probes: Float[Array, "b k n"] | None = None,
) -> Path:
    """Solve the ODE from w = `begin` to `end` for a batch, each sample with its own step sizes.

    y: (B, ...). ode: the settings of the solver. probes: (B, k, D), or None to solve without the
    trace.
    """

    def one(y: Array, cond: Cond | None, probes: Array | None) -> Path:
        def slope(w: Any, state: State) -> State:
            return traced(lambda y: field(denoise, y, w, cond), state[0], probes)

        start = (y, jnp.zeros((), y.dtype))
        move = _equal if ode.steps else _adaptive
        (y, growth), steps, done = move(slope, start, begin, end, ode)
        return Path(y, growth, steps, done & jnp.isfinite(y).all() & jnp.isfinite(growth))

    return jax.vmap(one)(y, cond, probes)


def _adaptive(
    slope: Slope, start: State, begin: Array, end: Array, ode: Ode
) -> tuple[State, Array, Array]:
    """Solve with adaptive steps; return the final state, the number of steps and the success."""
    # The larger of both errors: in a common mean log p would be one value among D + 1.
    worst = lambda e: jnp.maximum(jnp.sqrt((e[0] ** 2).mean()), jnp.abs(e[1]))
    solved = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda w, state, _: slope(w, state)),
        SOLVERS[ode.solver](),
        begin,
        end,
        FIRST * (end - begin),
        start,
        stepsize_controller=diffrax.PIDController(ode.rtol, ode.atol, norm=worst, factormax=GROWTH),
        max_steps=ode.most,
        adjoint=diffrax.ForwardMode(),  # half the time to compile
        throw=False,  # one failed sample must not stop its batch: `arrived` reports it
    )
    assert solved.ys is not None
    last = jax.tree.map(lambda a: a[-1], solved.ys)
    return last, solved.stats["num_steps"], solved.result == diffrax.RESULTS.successful


def _equal(
    slope: Slope, start: State, begin: Array, end: Array, ode: Ode
) -> tuple[State, Array, Array]:
    """Solve with equal steps of the classic Runge-Kutta method; the results are as in `_adaptive`.

    The stages are a scan, so the network is compiled once and not four times.
    """
    h = (end - begin) / ode.steps
    add = lambda state, by, k: jax.tree.map(lambda a, b: a + by * b, state, k)

    def step(state: State, i: Array) -> tuple[State, None]:
        def stage(carry: tuple[State, State], at: Array) -> tuple[tuple[State, State], None]:
            moved, k = carry
            c, b = at.astype(h.dtype)
            k = slope(begin + (i + c) * h, add(state, c * h, k))
            return (add(moved, b * h, k), k), None

        zero = jax.tree.map(jnp.zeros_like, state)
        return jax.lax.scan(stage, (state, zero), jnp.asarray(STAGES))[0][0], None

    last, _ = jax.lax.scan(step, start, jnp.arange(ode.steps))
    return last, jnp.asarray(ode.steps), jnp.asarray(True)


def logp(
    denoise: Denoise,
    z: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None = None,
    ode: Ode = Ode(),
    trace: Trace = exact,
) -> Density:
    """Compute log p(z) in nats, for z = x / alpha at t_min.

    log p(z) = log N(y; 0, sigma^2) at t_max + int tr dw + D log alpha at t_min, with alpha and
    sigma of VP. z: (B, ...). In a space of rank r, r takes the place of D, z is projected, and
    p is its density in the space. keys: (B,), for the probes of each sample, which depend on its
    key only. ode: the ODE solver. trace: the estimator of the trace, exact by default, which takes
    D Jacobian-vector products. A sample whose ODE does not reach t_max has `arrived` False.

    >>> from diffjax import analytic, schedules, sde
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(sde.VP(schedules.Linear()))
    >>> keys = jax.random.split(jax.random.key(0), 1)
    >>> density = logp(denoise, jnp.zeros((1, 2)), keys, ode=Ode(steps=20))
    >>> round(float(density.logp[0]), 2)  # -log(2 pi)
    -1.84
    """
    begin, end = span(denoise, z.dtype)
    size = z[0].size
    probes = jax.vmap(lambda key: trace(key, size).astype(z.dtype))(keys)
    rank = space_of(denoise).rank(z.shape[1:], mask_of(cond, z))
    share = expand(jnp.broadcast_to(jnp.asarray(rank, z.dtype) / size, len(z)), z)
    z, probes = inside(denoise, z, cond), _inside(denoise, probes, z, cond)
    path = flow(denoise, jnp.tanh(begin) * z, begin, end, cond, ode, probes)
    var = 1 / jnp.cosh(end) ** 2
    prior = -0.5 * (path.y**2 / var + share * jnp.log(2 * jnp.pi * var)).sum(dims(z))
    log_alpha = jnp.log(jnp.tanh(begin))  # the change of variables from y = alpha z to z
    total = prior + size * (path.growth + share.reshape(-1) * log_alpha)
    return Density(total, path.y * _prior_scale(denoise), path.steps, path.arrived)


def encode(denoise: Denoise, z: Sample, cond: Cond | None = None, ode: Ode = Ode()) -> Sample:
    """Map data z (B, ...) to noise: x at t_max on the ODE through x = alpha z at t_min.

    Samples whose ODE does not reach t_max are NaN.

    >>> from diffjax import analytic, schedules, sde
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(sde.VP(schedules.Linear()))
    >>> encode(denoise, jnp.ones((1, 2)), ode=Ode(steps=20)).round(2).tolist()  # N(0, I)
    [[1.0, 1.0]]
    """
    begin, end = span(denoise, z.dtype)
    path = flow(denoise, jnp.tanh(begin) * z, begin, end, cond, ode)
    return _or_nan(path) * _prior_scale(denoise)


def decode(denoise: Denoise, x: Sample, cond: Cond | None = None, ode: Ode = Ode()) -> Sample:
    """Map noise x (B, ...) at t_max to data z = x / alpha at t_min: the inverse of `encode`.

    Samples whose ODE does not reach t_min are NaN.

    >>> from diffjax import analytic, schedules, sde
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(sde.VP(schedules.Linear()))
    >>> decode(denoise, jnp.ones((1, 2)), ode=Ode(steps=20)).round(2).tolist()  # N(0, I)
    [[1.0, 1.0]]
    """
    begin, end = span(denoise, x.dtype)
    path = flow(denoise, x / _prior_scale(denoise), end, begin, cond, ode)
    return _or_nan(path) / jnp.tanh(begin)


def log_weights(
    denoise: Denoise,
    x0: Sample,
    keys: Key[Array, " b"],
    cond: Cond | None,
    ode: Ode,
    trace: Trace,
    dequantize: Dequantize,
    repeats: int = 1,
) -> tuple[Float[Array, "b r"], Int[Array, "b r"]]:
    """Return log p(x0 + u) - log q(u | x0) in nats and the numbers of steps, each (B, repeats).

    There are `repeats` independent draws of the dequantization noise u and of the probes; NaN marks
    draws whose ODE did not reach t_max. The mean of the log-weights, and the logarithm of the mean
    of their exponentials, bound log P(x0) from below. The second is tighter (arXiv:1509.00519,
    eq. 8) where the trace is exact. An estimated trace has noise of mean 0, which leaves the first
    unbiased but raises the second by half the variance of that noise.
    """
    # rho = sigma / alpha = 1 / sinh w: the standard deviation of the noise that z contains.
    rho = 1 / jnp.sinh(span(denoise, x0.dtype)[0])

    def repeat(i: Array) -> tuple[Array, Array]:
        both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))(keys)
        noise = jax.vmap(lambda key: dequantize(key, x0.shape[1:], rho))
        u, log_q = noise(both[:, 0])
        path = logp(denoise, x0 + u.astype(x0.dtype), both[:, 1], cond, ode, trace)
        return jnp.where(path.arrived, path.logp - log_q, jnp.nan), path.steps

    # One repeat after the other: memory is that of one batch.
    weights, steps = jax.lax.map(repeat, jnp.arange(repeats))
    return weights.T, steps.T


def span(denoise: Denoise, dtype: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return w at t_min and at t_max."""
    times = jnp.asarray([denoise.sde.t_min, denoise.sde.t_max], dtype)
    begin, end = jnp.arcsinh(jnp.exp(denoise.sde.logsnr(times) / 2))
    return begin, end


def scale(sde: SDE, l: Float[Array, ""]) -> Float[Array, ""]:
    """Return sqrt(alpha^2 + sigma^2) of the frame at log-SNR l, the ratio of x to its VP view y."""
    log_alpha, log_sigma = sde.frame(l)
    return jnp.exp(jnp.logaddexp(2 * log_alpha, 2 * log_sigma) / 2)


def _inside(denoise: Denoise, probes: Array, z: Sample, cond: Cond | None) -> Array:
    """Return the probes (B, k, D) of each sample projected into the space of the denoiser."""
    flat = lambda probe: inside(denoise, probe.reshape(z.shape), cond).reshape(len(z), -1)
    return jax.vmap(flat, 1, 1)(probes)


def _prior_scale(denoise: Denoise) -> Float[Array, ""]:
    return scale(denoise.sde, denoise.sde.logsnr(jnp.asarray(denoise.sde.t_max)))


def _or_nan(path: Path) -> Sample:
    return jnp.where(expand(path.arrived, path.y), path.y, jnp.nan)
