"""Samplers as tables: rows of coefficients, the one step that runs a row, the loop, the proofs.

A row is one network evaluation. It works on registers, each of the shape of the state:

    x        the state                     z        this row's fresh noise
    y        this row's network output     z1..zJ   the noises of earlier rows, newest first
    m1..mK   earlier outputs, newest first

    u = <input, (x, m, z, z_old)>          what the network sees, at time t
    y = read(denoise(u, t))                x0 or eps, one choice per table
    x = <update, (x, y, m, z, z_old)>      the new state

Coefficients are made once, on the host, in float64. Because every row is linear in the registers,
a table can be checked without running it: `unroll` gives the result as a linear function of the
initial state, outputs and noises; `moments` gives its exact law on Gaussian data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax.arrays import Cond, normal
from diffjax.denoiser import Denoise, Prediction
from diffjax.guidance import Conditional, Guidance
from diffjax.sde import SDE, ends, levels

OUTPUTS = 3
"""K: earlier outputs that the loop keeps; all tables are padded to it, so they share a program."""
NOISES = 1
"""J: earlier noises that the loop keeps."""

READ = ("x", *(f"m{k + 1}" for k in range(OUTPUTS)), "z", *(f"z{j + 1}" for j in range(NOISES)))
WRITE = ("x", "y", *READ[1:])


Read = Callable[[Prediction], Any]


def x0(prediction: Prediction) -> Any:
    """The view x0 as y."""
    return prediction.x0


def eps(prediction: Prediction) -> Any:
    """The view eps as y."""
    return prediction.eps


class Row(NamedTuple):
    """One network evaluation at time t: register name -> coefficient. `push`: keep y as m1."""

    t: float
    input: Mapping[str, float]
    update: Mapping[str, float]
    push: bool = True


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Table:
    """R rows as arrays: a traced argument of the loop, so equal row counts share a program.

    t (R,), input (R, len(READ)), update (R, len(WRITE)), push and noisy (R,), weight (R,): the
    guidance weight. `read` (static): which view of the prediction is y.
    """

    t: Any
    input: Any
    update: Any
    push: Any
    noisy: Any
    weight: Any
    read: Read = field(default=x0, metadata={"static": True})

    def __len__(self) -> int:
        return self.t.shape[0]

    def __str__(self) -> str:
        """One line per row, zero coefficients left out."""

        def terms(names: Sequence[str], values: np.ndarray) -> str:
            shown = [f"{v:+.6g} {n}" for n, v in zip(names, values, strict=True) if v]
            return " ".join(shown) or "0"

        lines = [f"{len(self)} rows, y = {self.read.__name__}"]
        for i, t in enumerate(self.t):
            u, x = terms(READ, self.input[i]), terms(WRITE, self.update[i])
            hold = "" if self.push[i] else "   (y not kept)"
            guided = "" if self.weight[i] == 1 else f"   w = {self.weight[i]:g}"
            lines.append(f"{i:4d}  t = {t:.6f}   u = {u}   x = {x}{hold}{guided}")
        return "\n".join(lines)


def table(rows: Sequence[Row], read: Read = x0) -> Table:
    """Stack rows. Raises ValueError for no rows, KeyError for a register that does not exist."""
    if not rows:
        raise ValueError("a table needs at least one row")

    def stack(names: Sequence[str], maps: Sequence[Mapping[str, float]]) -> np.ndarray:
        for m in maps:
            if unknown := set(m) - set(names):
                raise KeyError(f"registers {sorted(unknown)}: known here: {', '.join(names)}")
        return np.array([[m.get(n, 0.0) for n in names] for m in maps], np.float64)

    inputs = stack(READ, [r.input for r in rows])
    updates = stack(WRITE, [r.update for r in rows])
    noisy = (inputs[:, READ.index("z")] != 0) | (updates[:, WRITE.index("z")] != 0)
    return Table(
        t=np.array([r.t for r in rows], np.float64),
        input=inputs,
        update=updates,
        push=np.array([r.push for r in rows]),
        noisy=noisy,
        weight=np.ones(len(rows)),
        read=read,
    )


class Sampler:
    """A function `(sde, times, **settings) -> Table` with its convergence order.

    order: of the global error in the largest step of lambda, on a smooth problem, weak for
    stochastic samplers. Made by the decorator `sampler`.
    """

    def __init__(self, plan: Callable[..., Table], order: int):
        functools.update_wrapper(self, plan)
        self.plan, self.order = plan, order

    def __call__(self, sde: SDE, times: np.ndarray, **settings: Any) -> Table:
        times = np.asarray(times, np.float64)
        if times.ndim != 1 or len(times) < 2 or not (np.diff(times) < 0).all():
            raise ValueError(f"times={times}: needs at least two, decreasing")
        if times[0] > sde.t_max or times[-1] < 0 or times[-2] <= 0:
            raise ValueError(f"times from {times[0]:g} to {times[-1]:g}: needs {sde.t_max} .. 0")
        return self.plan(sde, times, **settings)


def sampler(order: int) -> Callable[[Callable[..., Table]], Sampler]:
    """Declare the order of the sampler that follows."""
    return functools.partial(Sampler, order=order)


def step(
    denoise: Denoise,
    guidance: Guidance,
    read: Read,
    cond: Cond | None,
    keys: Key[Array, " b"],
    registers: tuple[Array, Array, Array, Any],
    row: tuple[Array, Table],
) -> tuple[tuple[Array, Array, Array, Any], None]:
    """Run one row on (x, outputs (K, B, ...), noises (J, B, ...), guidance memory)."""
    x, outputs, noises, memory = registers
    index, c = row
    at_row = jax.vmap(jax.random.fold_in, (0, None))
    draw = lambda: normal(at_row(keys, index), x.shape[1:]).astype(x.dtype)
    z = jax.lax.cond(c.noisy, draw, lambda: jnp.zeros_like(x))
    u = _combine(c.input, [x], outputs, z, noises)
    t = jnp.full(x.shape[:1], c.t, x.dtype)
    prediction, memory = guidance(denoise, u, t, cond, c.weight, memory)
    y = read(prediction)
    x = _combine(c.update, [x, y], outputs, z, noises)
    shift = lambda new, old: jnp.concatenate([new[None], old[:-1]])
    outputs = jnp.where(c.push, shift(y, outputs), outputs)
    noises = jnp.where(c.noisy, shift(z, noises), noises)
    return (x, outputs, noises, memory), None


def _combine(c: Array, first: list[Array], outputs: Array, z: Array, noises: Array) -> Array:
    """Coefficients c times the registers (*first, m1..mK, z, z1..zJ)."""
    n = len(first)
    total = sum(c[i] * a for i, a in enumerate(first))
    total += jnp.tensordot(c[n : n + OUTPUTS], outputs, 1)
    return total + c[n + OUTPUTS] * z + jnp.tensordot(c[n + OUTPUTS + 1 :], noises, 1)


@jax.jit
def sample(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    keys: Key[Array, " b"],
    *,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
) -> Float[Array, "b *d"]:
    """Run all rows of `table` from x in one compiled scan.

    x: initial state (B, ...), usually `initial(sde, keys, shape)`. keys: one per sample; sample b
    depends on x[b], keys[b] and cond[b] only. Returns the final state (B, ...).
    """
    rows = jax.tree.map(lambda a: jnp.asarray(a, _dtype(a, x.dtype)), table)
    zeros = lambda n: jnp.zeros((n, *x.shape), x.dtype)
    registers = (x, zeros(OUTPUTS), zeros(NOISES), guidance.init(x))
    run = functools.partial(step, denoise, guidance, table.read, cond, keys)
    (x, *_), _ = jax.lax.scan(run, registers, (jnp.arange(len(table)), rows))
    return x


def _dtype(a: Any, float_dtype: Any) -> Any:
    return float_dtype if jnp.issubdtype(jnp.result_type(a), jnp.floating) else None


def initial(
    sde: SDE, keys: Key[Array, " b"], shape: tuple[int, ...]
) -> tuple[Float[Array, "b *d"], Key[Array, " b"]]:
    """Draws from the prior (B, *shape), and the keys to give to `sample` with them."""
    first, rest = jax.vmap(jax.random.split, out_axes=1)(keys)
    return jax.vmap(lambda key: sde.prior(key, shape))(first), rest


class Unrolled(NamedTuple):
    """A table of R rows as linear maps on (x_T, y_1..y_R, z_1..z_R).

    inputs (R, 1 + 2R): what the network sees at each row. result (1 + 2R,): the final state.
    """

    inputs: np.ndarray
    result: np.ndarray


def unroll(table: Table) -> Unrolled:
    """Two samplers are the same method exactly when their unrolled maps agree."""
    rows = len(table)
    basis = np.eye(1 + 2 * rows)
    inputs, x = [], basis[0]
    outputs, noises = np.zeros((OUTPUTS, len(x))), np.zeros((NOISES, len(x)))
    for i in range(rows):
        y, z = basis[1 + i], basis[1 + rows + i]
        inputs.append(table.input[i] @ np.stack([x, *outputs, z, *noises]))
        x = table.update[i] @ np.stack([x, y, *outputs, z, *noises])
        if table.push[i]:
            outputs = np.stack([y, *outputs[:-1]])
        if table.noisy[i]:
            noises = np.stack([z, *noises[:-1]])
    return Unrolled(np.array(inputs).reshape(rows, -1), x)


def moments(
    table: Table, sde: SDE, mean: float, var: float, start: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Exact mean and variance of the result on N(mean, var) data: no network, no Monte Carlo.

    For Gaussian data the denoiser is affine in its input, so the joint law of all registers follows
    by a linear recursion. start: mean and variance of the initial state; the prior by default.
    """
    at = levels(sde, table.t)
    prior_var = float(ends(sde).sigma[1]) ** 2
    size, y, z = len(READ), WRITE.index("y"), READ.index("z")
    mu, cov, eye = np.zeros(size), np.zeros((size, size)), np.eye(size)
    mu[0], cov[0, 0] = start if start else (0.0, prior_var)
    for i, (alpha, sigma) in enumerate(zip(at.alpha, at.sigma, strict=True)):
        mu[z], cov[z], cov[:, z] = 0.0, 0.0, 0.0
        cov[z, z] = 1.0
        gain = np.array([1.0, -alpha * mean]) / (alpha**2 * var + sigma**2)
        views = alpha * var * gain + np.array([0.0, mean]), sigma * gain
        slope, offset = table.read(Prediction(views[0], *views))
        out = slope * table.input[i]
        move, shift = np.zeros((size, size)), np.zeros(size)
        move[0] = np.delete(table.update[i], y) + table.update[i, y] * out
        shift[0] = table.update[i, y] * offset
        queues = (
            (1, OUTPUTS, out, offset, table.push[i]),
            (z + 1, NOISES, eye[z], 0.0, table.noisy[i]),
        )
        for first, length, new, constant, pushed in queues:
            kept = eye[first : first + length]
            if pushed:
                kept = np.stack([new, *kept[:-1]])
                shift[first] = constant
            move[first : first + length] = kept
        mu, cov = move @ mu + shift, move @ cov @ move.T
    return float(mu[0]), float(cov[0, 0])
