"""Samplers as tables: rows of coefficients, and what can be proven of them without running them.

A row is one network evaluation. Registers have the shape of the state: the state x, the outputs y_i
and the noises z_i of the rows. Row i does

    u   = <input, registers>          what the network sees, at time t
    y_i = read(denoise(u, t))         x0 or eps, one choice per table
    x   = <update, registers>         the new state

where input and update may use x, z_i and what earlier rows have left. A sampler writes its rows
with `Program`, on the host, in float64. Because every row is linear in the registers, `unroll`
gives the result as a linear function of the initial state, outputs and noises, and `moments` its
exact law on Gaussian data. `run.py` runs a table in one compiled loop.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.denoiser import Prediction
from diffjax.sde import SDE, levels

OUTPUTS = 5
"""Outputs of earlier rows that are kept at a time; all tables have as many, to share a program."""
NOISES = 1
"""Noises of earlier rows that are kept at a time."""

READ = ("x", *(f"y[{k}]" for k in range(OUTPUTS)), "z", *(f"z[{j}]" for j in range(NOISES)))
WRITE = ("x", "y", *READ[1:])
"""Columns of `input` and of `update`: state, this row's output and noise, slots of earlier ones."""

Read = Callable[[Prediction], Any]


def x0(prediction: Prediction) -> Any:
    """The view x0 as y."""
    return prediction.x0


def eps(prediction: Prediction) -> Any:
    """The view eps as y."""
    return prediction.eps


class Combination(dict[str, float]):
    """A linear combination of registers, by name: 0.5 * X + 2 * Z."""

    def __add__(self, other: Mapping[str, float]) -> Combination:
        names = {**self, **other}
        return Combination({k: self.get(k, 0.0) + other.get(k, 0.0) for k in names})

    def __mul__(self, factor: float | int) -> Combination:
        return Combination({k: float(factor) * v for k, v in self.items()})

    def __sub__(self, other: Mapping[str, float]) -> Combination:
        return self + Combination(other) * -1.0

    def __truediv__(self, divisor: float | int) -> Combination:
        return self * (1.0 / divisor)

    __rmul__ = __mul__


X = Combination(x=1.0)
"""The state."""
Z = Combination(z=1.0)
"""Fresh noise of the row at hand, N(0, I)."""
NOTHING = Combination()


@dataclass
class Row:
    """One network evaluation at time t. spread: z counts exp(spread r), r = `log_var`."""

    t: float
    input: Combination
    update: Combination = field(default_factory=lambda: X)
    spread: float = 0.0


class Program:
    """The rows of a sampler, as they are written. read: which view of the prediction is y."""

    def __init__(self, read: Read = x0):
        self.read = read
        self.rows: list[Row] = []

    def network(self, t: float, input: Combination = X) -> Combination:
        """A new row: ask the network about `input` at t. Returns its output, a register."""
        self.rows.append(Row(float(t), _named(input, len(self.rows))))
        return Combination({f"y{len(self.rows) - 1}": 1.0})

    def noise(self) -> Combination:
        """The noise of the last row, for later rows."""
        return Combination({f"z{len(self.rows) - 1}": 1.0})

    def step(self, update: Combination, spread: float = 0.0) -> None:
        """The state after the last row; it stays as it is where this is not called."""
        self.rows[-1].update = _named(update, len(self.rows) - 1)
        self.rows[-1].spread = float(spread)

    def table(self) -> Table:
        """All rows as arrays; ValueError where more is remembered than a table holds."""
        return _compile(self.rows, self.read)


def _named(combination: Combination, row: int) -> Combination:
    """With the fresh noise under the number of its row."""
    z = f"z{row}"
    rest = Combination({k: v for k, v in combination.items() if k != "z"})
    return rest + Combination({z: combination["z"]}) if "z" in combination else rest


def _compile(rows: Sequence[Row], read: Read) -> Table:
    if not rows:
        raise ValueError("a table needs at least one row")
    uses = [{**row.input, **row.update} for row in rows]
    last = {name: i for i, names in enumerate(uses) for name in names}
    count = len(rows)
    input, update = np.zeros((count, len(READ))), np.zeros((count, len(WRITE)))
    keep, keep_noise = np.full(count, OUTPUTS), np.full(count, NOISES)
    noisy = np.zeros(count, bool)
    slots: dict[str, str] = {}  # register -> column
    free = {"y": [f"y[{k}]" for k in range(OUTPUTS)], "z": [f"z[{j}]" for j in range(NOISES)]}
    for i, row in enumerate(rows):
        y, z = f"y{i}", f"z{i}"
        own = {"x": "x", y: "y", z: "z"} | slots
        noisy[i] = z in last
        for values, columns, names in ((input, READ, row.input), (update, WRITE, row.update)):
            for name, value in names.items():
                if name not in own or own[name] not in columns:
                    raise ValueError(f"row {i}: register {name!r} is not there; it has {[*own]}")
                values[i, columns.index(own[name])] += value
        for name in [name for name in slots if last[name] <= i]:
            free[name[0]].append(slots.pop(name))
        for name, kept in ((y, keep), (z, keep_noise)):
            if last.get(name, i) > i:
                if not free[name[0]]:
                    raise ValueError(f"row {i}: too many registers are kept: {sorted(slots)}")
                slots[name] = free[name[0]].pop(0)
                kept[i] = int(slots[name][2:-1])
    return Table(
        t=np.array([row.t for row in rows], np.float64),
        input=input,
        update=update,
        keep=keep,
        keep_noise=keep_noise,
        noisy=noisy,
        spread=np.array([row.spread for row in rows], np.float64),
        weight=np.ones(count),
        active=np.ones(count, bool),
        read=read,
        learned=any(row.spread for row in rows),
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Table:
    """R rows as arrays: a traced argument of the loop, so equal row counts share a program.

    t (R,), input (R, len(READ)), update (R, len(WRITE)). keep, keep_noise (R,): the slot that gets
    y and z of the row, or OUTPUTS and NOISES for none. noisy (R,): whether noise is drawn. spread
    (R,): see `Row`. weight (R,): guidance weight. active (R,): False for a row that does nothing.
    Static: `read`, which view of the prediction is y; `learned`, whether a row has a spread;
    `padded`, whether rows may be idle.
    """

    t: Any
    input: Any
    update: Any
    keep: Any
    keep_noise: Any
    noisy: Any
    spread: Any
    weight: Any
    active: Any
    read: Read = field(default=x0, metadata={"static": True})
    learned: bool = field(default=False, metadata={"static": True})
    padded: bool = field(default=False, metadata={"static": True})

    def __len__(self) -> int:
        return self.t.shape[0]

    def __getitem__(self, part: slice) -> Table:
        """Some rows: stop early, or start late. ValueError where they need what others leave."""
        start, _, stride = part.indices(len(self))
        if stride != 1:
            raise ValueError(f"{part}: needs rows in a row")
        cut = jax.tree.map(lambda a: a[part], self)
        if not len(cut):
            raise ValueError(f"{part}: no row of {len(self)} is left")
        unset = {name for name in READ if "[" in name}
        for i in range(len(cut)):
            used = {n for n, c in zip(READ, cut.input[i], strict=True) if c}
            used |= {n for n, c in zip(WRITE, cut.update[i], strict=True) if c}
            if missing := used & unset:
                raise ValueError(
                    f"row {start + i} needs what rows before {start} leave ({sorted(missing)}); "
                    f"plan the sampler for the shorter grid instead"
                )
            unset -= {f"y[{cut.keep[i]}]", f"z[{cut.keep_noise[i]}]"}
        return cut

    def pad(self, rows: int) -> Table:
        """As many rows, the new ones idle: tables of different lengths share one program."""
        more = rows - len(self)
        if more < 0:
            raise ValueError(f"rows={rows}: the table has {len(self)} already")
        fill = lambda a: np.concatenate([a, np.repeat(np.zeros_like(a[-1:]), more, 0)])
        return replace(jax.tree.map(fill, self), padded=True)

    def __str__(self) -> str:
        """One line per row, zero coefficients left out; y3 is the output of row 3."""
        names = {name: name for name in WRITE}

        def terms(columns: Sequence[str], values: np.ndarray) -> str:
            shown = [f"{v:+.6g} {names[n]}" for n, v in zip(columns, values, strict=True) if v]
            return " ".join(shown) or "0"

        lines = [f"{len(self)} rows, y = {self.read.__name__}"]
        for i, t in enumerate(self.t):
            names |= {"y": f"y{i}", "z": f"z{i}"}
            u, x = terms(READ, self.input[i]), terms(WRITE, self.update[i])
            notes = "" if self.weight[i] == 1 else f"   w = {self.weight[i]:g}"
            notes += f"   z exp({self.spread[i]:.4g} r)" if self.spread[i] else ""
            notes += "" if self.active[i] else "   (idle)"
            lines.append(f"{i:4d}  t = {t:.6f}   u = {u}   x = {x}{notes}")
            names |= {f"y[{self.keep[i]}]": f"y{i}", f"z[{self.keep_noise[i]}]": f"z{i}"}
        return "\n".join(lines)


class Sampler:
    """A function `(sde, times, **settings) -> Table` and what is known of the method.

    order: of the global error in the largest step of lambda, on a smooth problem, weak for
    stochastic samplers, with full history and no lowered last step; a function of the settings
    where they decide. passes: rows per step, apart
    from a last step to sigma = 0. straight: exact in any number of steps where x0 is one point.
    Made by the decorator `sampler`.
    """

    def __init__(
        self,
        plan: Callable[..., Table],
        order: int | Callable[..., int],
        passes: int = 1,
        straight: bool = True,
    ):
        functools.update_wrapper(self, plan)
        self.plan, self._order, self.passes, self.straight = plan, order, passes, straight

    def order(self, **settings: Any) -> int:
        """With these settings, and the defaults for others."""
        if not callable(self._order):
            return self._order
        wanted = inspect.signature(self._order).parameters
        defaults = {k: p.default for k, p in inspect.signature(self.plan).parameters.items()}
        return self._order(**{k: settings.get(k, defaults[k]) for k in wanted})

    def __call__(self, sde: SDE, times: np.ndarray, **settings: Any) -> Table:
        """The table for `times`, decreasing; increasing ones, from above 0, invert an ODE."""
        times = np.asarray(times, np.float64)
        steps = np.diff(times)
        if times.ndim != 1 or len(times) < 2 or not ((steps < 0).all() or (steps > 0).all()):
            raise ValueError(f"times={times}: needs at least two, decreasing (or increasing)")
        low, high = min(times[0], times[-1]), max(times[0], times[-1])
        if high > sde.t_max or low < 0 or (low == 0 and times[0] == 0):
            raise ValueError(f"times from {times[0]:g} to {times[-1]:g}: needs {sde.t_max} .. 0")
        # An inversion of a noisy sampler has variances below 0; it is refused when it is planned.
        with np.errstate(invalid="ignore" if steps[0] > 0 else "warn"):
            table = self.plan(sde, times, **settings)
        if steps[0] > 0 and table.noisy.any():
            raise ValueError(f"{self.plan.__name__} adds noise: it cannot be inverted")
        return table


def sampler(order: int | Callable[..., int], **known: Any) -> Callable[..., Sampler]:
    """Declare the order of the sampler that follows, and what else is known of it."""
    return functools.partial(Sampler, order=order, **known)


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
    outputs, noises = np.zeros((OUTPUTS + 1, len(x))), np.zeros((NOISES + 1, len(x)))
    for i in np.flatnonzero(table.active):
        y, z = basis[1 + i], basis[1 + rows + i]
        inputs.append(table.input[i] @ np.stack([x, *outputs[:-1], z, *noises[:-1]]))
        x = table.update[i] @ np.stack([x, y, *outputs[:-1], z, *noises[:-1]])
        outputs[table.keep[i]], noises[table.keep_noise[i]] = y, z
    return Unrolled(np.array(inputs).reshape(len(inputs), -1), x)


def moments(
    table: Table, sde: SDE, mean: Any, var: Any, start: tuple[Any, Any] | None = None
) -> tuple[Any, Any]:
    """Exact mean and variance of the result on N(mean, var) data: no network, no Monte Carlo.

    For Gaussian data the denoiser is affine in its input, so the joint law of all registers follows
    by a linear recursion. start: mean and variance of the initial state; by default the prior
    at the time of the first row. All
    may be arrays of one shape, for many laws at once.
    """
    at = levels(sde, table.t)
    first = start if start else (0.0, at.sigma[0] ** 2)
    mean, var, *first = np.broadcast_arrays(mean, var, *first)
    size, y, z = len(READ), WRITE.index("y"), READ.index("z")
    mu, cov = np.zeros((*var.shape, size)), np.zeros((*var.shape, size, size))
    mu[..., 0], cov[..., 0, 0] = first
    for i in np.flatnonzero(table.active):
        alpha, sigma = at.alpha[i], at.sigma[i]
        mu[..., z], cov[..., z, :], cov[..., :, z] = 0.0, 0.0, 0.0
        cov[..., z, z] = 1.0
        gain = np.stack([np.ones_like(mean), -alpha * mean]) / (alpha**2 * var + sigma**2)
        shift_x0 = np.stack([np.zeros_like(mean), mean])
        views = alpha * var * gain + shift_x0, sigma * gain
        slope, offset = table.read(Prediction(views[0], *views))
        out = slope[..., None] * table.input[i]
        move = np.broadcast_to(np.eye(size), cov.shape).copy()
        shift = np.zeros_like(mu)
        move[..., 0, :] = np.delete(table.update[i], y) + table.update[i, y] * out
        shift[..., 0] = table.update[i, y] * offset
        if (k := table.keep[i]) < OUTPUTS:
            move[..., 1 + k, :], shift[..., 1 + k] = out, offset
        if (j := table.keep_noise[i]) < NOISES:
            move[..., z + 1 + j, :] = np.eye(size)[z]
        mu = np.einsum("...ij,...j->...i", move, mu) + shift
        cov = move @ cov @ move.swapaxes(-1, -2)
    return mu[..., 0][()], cov[..., 0, 0][()]
