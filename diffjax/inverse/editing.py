"""Editing of images: their latents and noises under a sampler, and what lies between and around.

Image to image (SDEdit) and variations of an image start from noised items:
`samplers.start_from(sde, x0, times, strength, keys)`, with other keys for each variation.
Inpainting is in `inpainting.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from diffjax import checks
from diffjax.arrays import Cond, dims, expand, normal
from diffjax.guidance import Conditional, Guidance, Query
from diffjax.guidance.query import Memory
from diffjax.inverse.kernels import kernels, stochastic
from diffjax.prediction import Denoise
from diffjax.samplers.run import check_arguments, on_device, sample
from diffjax.samplers.table import WRITE, Table
from diffjax.samplers.table import x0 as view_x0
from diffjax.sde import SDE

X, Y, Z = (WRITE.index(name) for name in ("x", "y", "z"))


class Inverted(NamedTuple):
    """The latents of images.

    x: (B, ...), the states from which the table leads to the images. residual: (R, B), the root
    mean square of the last change of the state of each row.

    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> table = samplers.ddim(flow, grids.uniform(flow, 4))[:-1]
    >>> inverted = invert(denoise, table, jnp.ones((2, 1)))
    >>> inverted.x.shape, inverted.residual.shape
    ((2, 1), (3, 2))
    """

    x: Float[Array, "b *d"]
    residual: Float[Array, "r b"]


def invert(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    *,
    iterations: int = 10,
    tolerance: float = 1e-3,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
) -> Inverted:
    """Return the states from which `table` leads to x: the inverse of an ODE sampler, row by row.

    Each row x_s = a x_t + b y(x_t) is solved for x_t by fixed-point iteration in terms of eps, with
    the secant step of each sample (arXiv:2309.04907). An increasing grid given to `ddim` takes the
    prediction at x_s in place of that at x_t, which is one iteration, and does not return to x. The
    inverse costs `iterations` times the passes of `table`.

    table: the rows of the sampler with decreasing times; first order, without noise, and without a
    row to sigma = 0, as `ddim(sde, times)[:-1]`, for which x is a state at the last time. x: (B,
    ...). cond, guidance: those under which the images are described. tolerance: the largest
    allowed residual, relative to the root mean square of the state.

    Raises ValueError for other tables, and FloatingPointError, outside traced functions, for a row
    whose residual exceeds the tolerance or is not finite.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> table = samplers.ddim(flow, grids.uniform(flow, 4))[:-1]
    >>> latent = invert(denoise, table, jnp.array([[0.5], [-1.0]])).x
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> samplers.sample(denoise, table, latent, keys).round(3).tolist()
    [[0.5], [-1.0]]
    """
    rows = kernels(table, "invert")
    if rows.noise.any():
        raise ValueError("invert: the table adds noise; allowed: ODE samplers, as ddim with eta=0")
    if not rows.state.all():
        row = int(np.argmin(np.abs(rows.state)))
        raise ValueError(
            f"invert: row {row} does not depend on its state, as a step to sigma = 0, and has no "
            f"inverse; allowed: the table without it, table[:-1]"
        )
    checks.whole(1, iterations=iterations)
    checks.positive(tolerance=tolerance)
    checks.samples(x)
    check_arguments(denoise, table, x, _keys(x), cond=cond, guidance=guidance)
    if jax.tree.leaves(jax.eval_shape(guidance.init, x)):
        raise ValueError(f"invert: {guidance} has a memory of earlier rows; allowed: without one")
    latent, residual, size = _invert((denoise, guidance, cond), table, x, iterations)
    if not isinstance(residual, Tracer):
        _converged(np.asarray(residual), np.asarray(size), table, tolerance, iterations)
    return Inverted(latent, residual)


def _keys(x: Float[Array, "b *d"]) -> Key[Array, " b"]:
    """Return keys for a table that draws no noise."""
    return jax.random.split(jax.random.key(0), len(x))


def _converged(
    residual: np.ndarray, size: np.ndarray, table: Table, tolerance: float, iterations: int
) -> None:
    """Raise FloatingPointError for the first row, of those computed, that did not converge."""
    bad = ~(residual <= tolerance * size)
    if bad.any():
        row = int(np.flatnonzero(bad.any(1))[-1])  # rows are solved from the last one
        worst = int(np.argmax(bad[row]))
        raise FloatingPointError(
            f"invert: row {row} of {len(table)}, t = {table.t[row]:g}, changes by "
            f"{residual[row, worst]:g} after iterations={iterations}, more than tolerance="
            f"{tolerance:g} of sample {worst}; allowed: more iterations, or smaller steps"
        )


Model = tuple[Denoise, Guidance, Cond | None]
"""What predicts: the denoiser with its guidance and conditions."""


@jax.jit
def _invert(
    model: Model, table: Table, x: Array, iterations: Int[Array, ""]
) -> tuple[Array, Array, Array]:
    """Return the latents, and the residual and the size of the state of each row, (R, B)."""
    guidance, sde = model[1], model[0].sde
    norm = lambda a: jnp.sqrt((a**2).mean(dims(a)))
    dot = lambda a, b: expand((a * b).sum(dims(a)), a)

    def row(after: Array, c: Table) -> tuple[Array, tuple[Array, Array]]:
        slope = _slope(sde, c, x.dtype)

        def change(at: Array) -> Array:
            prediction, _ = guidance(_query(model, c, at), c.weight, guidance.init(at))
            return (after - c.update[X] * at - c.update[Y] * c.read(prediction)) / slope

        def improve(_: Any, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            at, last, step = carry
            new = change(at)
            turn = new - last
            size = dot(turn, turn)
            share = jnp.where(size > 0, dot(new, turn) / jnp.where(size > 0, size, 1), 0)
            step = new - share * (step + turn)
            return at + step, new, step

        start = after / slope
        first = change(start)
        at, last, _ = jax.lax.fori_loop(1, iterations, improve, (start + first, first, first))
        return at, (norm(last), norm(at))

    latent, (residual, size) = jax.lax.scan(row, x, on_device(table, x.dtype), reverse=True)
    return latent, residual, size


def _slope(sde: SDE, c: Table, dtype: Any) -> Array:
    """Return the slope of a row in x_t where eps is held constant.

    In terms of eps the iteration contracts for Gaussian data of every variance. At alpha = 0, where
    x0 does not depend on the state, x0 is held constant instead.
    """
    a, b = c.update[X], c.update[Y]
    if c.read is not view_x0:
        return a
    alpha = sde.alpha(c.t).astype(dtype)
    return jnp.where(alpha > 0, a + b / jnp.where(alpha > 0, alpha, 1), a)


def _query(model: Model, c: Table, x: Array) -> Query:
    t = jnp.full(len(x), c.t, x.dtype)
    return Query(model[0], x, t, model[2], jnp.full_like(t, c.to) if c.leads else None)


def noises(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    keys: Key[Array, " b"],
    *,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
) -> tuple[Float[Array, "b *d"], Float[Array, "r b *d"]]:
    """Return an initial state and noises with which a stochastic sampler returns x (2304.06140).

    The state before each row is x, noised independently, and z_i = (x_s - mean_i(x_t)) / std_i.
    `sample(denoise, table, start, keys, noise=z)` returns x up to rounding, and an edit of it under
    other conditions or guidance: noises of independent copies carry more of the image than those of
    a path. `table[k:]` skips the first rows, and keeps more of the image.

    table: first order, each row of it with noise, as `ancestral(sde, times)[:-1]`, for which x is a
    state at the last time. x: (B, ...). keys: (B,). cond, guidance: those that describe x. Raises
    ValueError for other tables.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> table = samplers.ancestral(flow, grids.uniform(flow, 4))[:-1]
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> start, z = noises(denoise, table, jnp.array([[0.5], [-1.0]]), keys)
    >>> samplers.sample(denoise, table, start, keys, noise=z).round(3).tolist()
    [[0.5], [-1.0]]
    """
    rows = stochastic(table, "noises")
    if not rows.noise.all():
        row = int(np.argmin(np.abs(rows.noise)))
        raise ValueError(
            f"noises: row {row} of {len(table)} adds no noise; allowed: noise in every row, as "
            f"ancestral(sde, times)[:-1]"
        )
    check_arguments(denoise, table, x, keys, cond=cond, guidance=guidance)
    return _noises((denoise, guidance, cond), table, x, keys)


@jax.jit
def _noises(model: Model, table: Table, x: Array, keys: Key[Array, " b"]) -> tuple[Array, Array]:
    guidance, sde = model[1], model[0].sde
    table = on_device(table, x.dtype)

    def copy(t: Array, index: Array) -> Array:
        at = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        eps = normal(at, x.shape[1:]).astype(x.dtype)
        return sde.perturb(x, eps, jnp.full(len(x), t, x.dtype))

    def row(memory: Memory, row: tuple[Table, Array, Array]) -> tuple[Memory, Array]:
        c, state, after = row
        prediction, memory = guidance(_query(model, c, state), c.weight, memory)
        std = c.update[Z]
        if c.learned:
            std = std * jnp.exp(c.spread * prediction.log_var)
        mean = c.update[X] * state + c.update[Y] * c.read(prediction)
        return memory, (after - mean) / std

    states = jax.vmap(copy)(table.t, jnp.arange(len(table)))
    afters = jnp.concatenate([states[1:], x[None]])
    return states[0], jax.lax.scan(row, guidance.init(x), (table, states, afters))[1]


def slerp(
    a: Float[Array, "b *d"], b: Float[Array, "b *d"], share: Float[Array, ""]
) -> Float[Array, "b *d"]:
    """Return the point at `share` in [0, 1] of the great arc from a to b, for each sample.

    (sin((1 - share) w) a + sin(share w) b) / sin w, where w is the angle between a and b; the norm
    of Gaussian latents is kept (arXiv:2010.02502, sec. 5.3). Parallel latents are mixed linearly.

    >>> between = slerp(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.array(0.5))
    >>> between.round(4).tolist()  # on the circle, not on the chord
    [[0.707..., 0.707...]]
    """
    dot = lambda a, b: (a * b).sum(dims(a))
    cosine = dot(a, b) / jnp.sqrt(dot(a, a) * dot(b, b))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    curved = jnp.sin(angle) > 1e-4
    by = jnp.where(curved, jnp.sin(angle), 1)
    first = jnp.where(curved, jnp.sin((1 - share) * angle) / by, 1 - share)
    second = jnp.where(curved, jnp.sin(share * angle) / by, share)
    return expand(first, a) * a + expand(second, a) * b


def interpolate(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    other: Float[Array, "b *d"],
    shares: Float[Any, " n"],
    *,
    iterations: int = 10,
    tolerance: float = 1e-3,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
) -> Float[Array, "n b *d"]:
    """Return images between x and `other`, by `slerp` of their latents.

    shares: in [0, 1], from x at 0 to `other` at 1, both up to the residual of `invert`. table and
    the other arguments: as in `invert`. Returns (N, B, ...).

    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(flow)
    >>> table = samplers.ddim(flow, grids.uniform(flow, 4))[:-1]
    >>> images = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
    >>> interpolate(denoise, table, *images, np.linspace(0, 1, 3)).round(2).squeeze(1).tolist()
    [[1.0, ...0.0], [0.70..., 0.70...], [...0.0, 1.0]]
    """
    checks.samples(other, "other")
    checks.same_shape(np.shape(x), other=other)
    shares = np.asarray(shares)
    if shares.ndim != 1:
        raise ValueError(f"shares={shares}: needs an array (N,)")
    for share in shares.tolist():
        checks.within(0, 1, shares=share)
    model = {"cond": cond, "guidance": guidance}
    settings = {"iterations": iterations, "tolerance": tolerance}
    latent = lambda image: invert(denoise, table, image, **settings, **model).x
    first, last = latent(x), latent(other)
    mixed = [slerp(first, last, jnp.asarray(share, x.dtype)) for share in shares]
    return jnp.stack([sample(denoise, table, start, _keys(x), **model) for start in mixed])
