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

    On Gaussian data every linear method of `diffjax.inverse` is affine, and so is every table of
    lanes. The denoiser with its
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
    y, slots = WRITE.index("y"), (np.asarray(table.keep), np.asarray(table.keep_noise))
    past = np.delete(np.asarray(table.update), y, axis=-1)
    # Registers that some row reads; the state is the first of them.
    read = (np.abs(table.input) + np.abs(past)).reshape(-1, len(READ)).sum(0)
    used = np.flatnonzero(read + np.eye(len(READ))[0])
    place = {READ[column]: k for k, column in enumerate(used)}
    size, eye = len(used), np.eye(dim)
    spread = _by_value(at.sigma[0], dim, table)
    mean, cov = start if start else (np.zeros(dim), np.diag(spread**2))
    mu, joint = np.zeros((size, dim)), np.zeros((size, dim, size, dim))
    mu[0], joint[0, :, 0] = np.ravel(mean), np.reshape(cov, (dim, dim))
    for i in np.flatnonzero(table.active):
        if (z := place.get("z")) is not None:
            mu[z], joint[z], joint[:, :, z] = 0.0, 0.0, 0.0
            joint[z, :, z] = eye
        # Coefficients are those of each value, (D, registers), which differ in a table of lanes.
        columns = table.input[..., used], past[..., used], table.update[..., y], *slots
        own = [_by_value(a[i], dim, table) for a in columns]
        move, shift, noise = _moves(place, *own, *(a[i] for a in rows))
        mu = np.einsum("rdse,se->rd", move, mu) + shift
        flat, fresh = move.reshape(size * dim, -1), noise.reshape(size * dim, -1)
        whole = flat @ joint.reshape(flat.shape) @ flat.T + fresh @ fresh.T
        joint = whole.reshape(size, dim, size, dim)
    return mu[0].reshape(shape), joint[0, :, 0]


def _moves(
    place: dict[str, int],
    reads: np.ndarray,
    keeps: np.ndarray,
    factor: np.ndarray,
    slot: np.ndarray,
    slot_z: np.ndarray,
    slope: np.ndarray,
    offset: np.ndarray,
    fresh: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a row as a linear map of all registers, its shift and the noise of its output.

    place: the registers by name. reads, keeps: (D, registers), the coefficients of the input and of
    the update. factor: (D,), that of the output in the update. slot, slot_z: (D,), those that
    receive output and noise. slope, offset, fresh: the output, see `Affine`.
    """
    (dim, size), eye = reads.shape, np.eye(len(reads))
    output = reads.T[None] * slope[:, None]  # (D, registers, D)
    keep = lambda weights: weights[:, :, None] * eye[:, None]
    move = np.einsum("rs,de->rdse", np.eye(size), eye)
    shift, noise = np.zeros((size, dim)), np.zeros((size, dim, fresh.shape[1]))
    move[0] = keep(keeps) + factor[:, None, None] * output
    shift[0], noise[0] = factor * offset, factor[:, None] * fresh
    for name, k in place.items():
        if name.startswith("y["):
            here = slot == int(name[2:-1])
            move[k][here], shift[k][here], noise[k][here] = output[here], offset[here], fresh[here]
        elif name.startswith("z["):
            here = slot_z == int(name[2:-1])
            move[k][here] = keep(np.broadcast_to(np.eye(size)[place["z"]], (dim, size)))[here]
    return move, shift, noise


def _by_value(a: Any, dim: int, table: Table) -> np.ndarray:
    """Return what a row has for all values, or for each of its lanes (L, ...), as (D, ...)."""
    if table.lanes:
        return np.repeat(a, dim // table.lanes, axis=0)
    return np.broadcast_to(a, (dim, *np.shape(a)))


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
    each = lambda a: jnp.repeat(jnp.asarray(a, x.dtype), len(points), axis=0)
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
        t = jnp.asarray(table.t[:1], x.dtype)
        to = t if table.leads else None
        query = Query(denoise, x, t, cond, to, noted)
        return guidance(query, jnp.ones(1, x.dtype), guidance.init(x))[0].x0

    jax.eval_shape(ask, jax.ShapeDtypeStruct((1, *shape), jnp.zeros(()).dtype))
    return dict(sorted(noted.shapes.items()))
