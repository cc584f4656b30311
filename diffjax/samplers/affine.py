"""Exact mean and covariance of samples for any denoiser that is affine in x, without sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.arrays import Cond, pytree
from diffjax.guidance import Conditional, Guidance, Query
from diffjax.prediction import Denoise, Prediction
from diffjax.samplers.table import READ, WRITE, Table, linear
from diffjax.sde import levels


@pytree
@dataclass(frozen=True)
class Listed:
    """Draws of guidance that are listed by index, in place of random ones."""

    values: dict[int, Any]

    def __call__(self, index: int, shape: tuple[int, ...]) -> Array:
        return self.values[index]


@dataclass(frozen=True)
class Noted:
    """Draws that are 0, and a note of the shape of each of them."""

    size: int
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, index: int, shape: tuple[int, ...]) -> Array:
        self.shapes[index] = shape
        return jnp.zeros((self.size, *shape))


class Affine(NamedTuple):
    """The output y = slope u + offset + noise n of each of R rows, with n ~ N(0, I).

    slope: (R, D, D). offset: (R, D). noise: (R, D, N).
    """

    slope: Float[np.ndarray, "r d d"]
    offset: Float[np.ndarray, "r d"]
    noise: Float[np.ndarray, "r d n"]


def affine_moments(
    table: Table,
    denoise: Denoise,
    shape: tuple[int, ...],
    *,
    guidance: Guidance = Conditional(),
    cond: Cond | None = None,
    start: tuple[Any, Any] | None = None,
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "d d"]]:
    """Compute the exact mean and covariance of samples of an affine denoiser, without Monte Carlo.

    On Gaussian data every linear method of `diffjax.inverse` is affine. The denoiser with its
    guidance is evaluated at 0 and at all unit vectors of every row; random numbers of the guidance
    count as inputs too. Use float64 (`jax.enable_x64`) where digits matter.

    shape: that of one item, of D values. cond: conditions of one item, each (1, ...). start: mean
    (D,) and covariance (D, D) of the initial state, by default those of the prior. Returns the mean
    in the shape of an item and the covariance (D, D). Raises ValueError where the prediction is not
    affine, for guidance with a memory, and for tables with Langevin rows or weights per sample.

    >>> from diffjax import analytic, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(flow)
    >>> affine_moments(samplers.ddim(flow, [0.5, 0.25]), denoise, (2,))[1].round(3).tolist()
    [[0.25, 0.0], [0.0, 0.25]]
    """
    linear(table)
    if (of := np.shape(table.weight)) != (len(table),):
        raise ValueError(f"table.weight {of}: needs one weight per row, {(len(table),)}")
    dim, at = int(np.prod(shape)), levels(denoise.sde, table.t[:1])
    rows = _outputs(table, denoise, shape, guidance, cond)
    y = WRITE.index("y")
    past = np.delete(np.asarray(table.update), y, axis=1)
    # Registers that some row reads; the state is the first of them.
    used = np.flatnonzero((np.abs(table.input) + np.abs(past)).sum(0) + np.eye(len(READ))[0])
    place = {READ[column]: k for k, column in enumerate(used)}
    size, eye = len(used), np.eye(dim)
    mean, cov = start if start else (np.zeros(dim), at.sigma[0] ** 2 * eye)
    mu, joint = np.zeros((size, dim)), np.zeros((size, dim, size, dim))
    mu[0], joint[0, :, 0] = np.ravel(mean), np.reshape(cov, (dim, dim))
    for i in np.flatnonzero(table.active):
        if (z := place.get("z")) is not None:
            mu[z], joint[z], joint[:, :, z] = 0.0, 0.0, 0.0
            joint[z, :, z] = eye
        output = table.input[i, used][:, None] * rows.slope[i][:, None]  # (D, registers, D)
        keep = lambda weights: weights[:, None] * eye[:, None]
        move = np.einsum("rs,de->rdse", np.eye(size), eye)
        shift, noise = np.zeros_like(mu), np.zeros((size, dim, rows.noise.shape[2]))
        factor = table.update[i, y]
        move[0] = keep(past[i, used]) + factor * output
        shift[0], noise[0] = factor * rows.offset[i], factor * rows.noise[i]
        if (k := place.get(f"y[{table.keep[i]}]")) is not None:
            move[k], shift[k], noise[k] = output, rows.offset[i], rows.noise[i]
        if (k := place.get(f"z[{table.keep_noise[i]}]")) is not None:
            move[k] = keep(np.eye(size)[z])
        mu = np.einsum("rdse,se->rd", move, mu) + shift
        flat, fresh = move.reshape(size * dim, -1), noise.reshape(size * dim, -1)
        whole = flat @ joint.reshape(flat.shape) @ flat.T + fresh @ fresh.T
        joint = whole.reshape(size, dim, size, dim)
    return mu[0].reshape(shape), joint[0, :, 0]


def _outputs(
    table: Table, denoise: Denoise, shape: tuple[int, ...], guidance: Guidance, cond: Cond | None
) -> Affine:
    """Evaluate the prediction of all rows at 0, at the unit vectors and at one test vector."""
    rows = len(table)
    noted = _draws(table, denoise, shape, guidance, cond)
    sizes = [int(np.prod(part)) for part in (shape, *noted.values())]
    inputs = sum(sizes)
    test = np.random.default_rng(0).standard_normal(inputs)
    points = np.concatenate([np.zeros((1, inputs)), np.eye(inputs), test[None]])
    tiled = jnp.asarray(np.tile(points, (rows, 1)))
    parts = jnp.split(tiled, np.cumsum(sizes)[:-1].tolist(), axis=1)
    x, *draws = (
        part.reshape(-1, *of) for part, of in zip(parts, (shape, *noted.values()), strict=True)
    )
    each = lambda a: jnp.repeat(jnp.asarray(a, x.dtype), len(points))
    repeated = cond and {name: jnp.repeat(c, len(x), 0) for name, c in cond.items()}
    memory = guidance.init(x)
    if jax.tree.leaves(memory):
        raise ValueError(f"{guidance} carries a memory from row to row: it is not affine")
    query = Query(
        denoise=denoise,
        x=x,
        t=each(table.t),
        cond=repeated,
        to=each(table.to) if table.leads else None,
        draws=Listed(dict(zip(noted, draws, strict=True))),
    )
    prediction = _asked(guidance, query, each(table.weight))
    values = np.asarray(table.read(prediction), np.float64).reshape(rows, len(points), -1)
    offset, seen = values[:, 0], values[:, -1]
    slope = values[:, 1:-1] - offset[:, None]
    expected = offset + np.einsum("j,rjd->rd", test, slope)
    scale = np.abs(values).max() + 1
    off = np.abs(expected - seen).max() / scale
    if not off < float(jnp.finfo(x.dtype).eps) ** 0.5:
        raise ValueError(f"the prediction is not affine in x: off by {off:.1g} at a test point")
    slope = slope.swapaxes(1, 2)
    return Affine(slope[:, :, : sizes[0]], offset, slope[:, :, sizes[0] :])


@jax.jit
def _asked(guidance: Guidance, query: Query, weight: Array) -> Prediction:
    return guidance(query, weight, guidance.init(query.x))[0]


def _draws(
    table: Table, denoise: Denoise, shape: tuple[int, ...], guidance: Guidance, cond: Cond | None
) -> dict[int, tuple[int, ...]]:
    """Return the shapes of the numbers that the guidance draws in a row, by index."""
    noted = Noted(1)

    def ask(x: Array) -> Array:
        t = jnp.full(1, table.t[0], x.dtype)
        to = t if table.leads else None
        query = Query(denoise, x, t, cond, to, noted)
        return guidance(query, jnp.ones(1, x.dtype), guidance.init(x))[0].x0

    jax.eval_shape(ask, jax.ShapeDtypeStruct((1, *shape), jnp.zeros(()).dtype))
    return dict(sorted(noted.shapes.items()))
