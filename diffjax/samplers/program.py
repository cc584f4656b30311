"""How samplers are written: rows of named registers, on the host, in float64.

p = Program(x0)
y = p.network(t, input)     a new row; its output is a register
p.step(update)              the state after it, of X, Z, y and what earlier rows left
p.table()
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffjax import checks
from diffjax.samplers.table import NOISES, OUTPUTS, READ, WRITE, Origin, Read, Table, x0
from diffjax.sde import SDE


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
    """One network evaluation at time t, which leads to `to`.

    spread: z counts exp(spread r), r = `log_var`. clock: between which 2 eta lambda the noise is of
    a Brownian path (`brownian.py`). snr: where positive, `update` is a score, and the state makes a
    Langevin step along it.
    """

    t: float
    to: float
    input: Combination
    update: Combination = field(default_factory=lambda: X)
    spread: float = 0.0
    clock: tuple[float, float] = (np.nan, np.nan)
    snr: float = 0.0


class Program:
    """The rows of a sampler, as they are written. read: which view of the prediction is y."""

    def __init__(self, read: Read = x0):
        self.read = read
        self.rows: list[Row] = []

    def network(self, t: float, input: Combination = X, to: float | None = None) -> Combination:
        """A new row: ask the network about `input` at t. Returns its output, a register.

        to: the second time of a flow map; by default t, as for an ordinary denoiser.
        """
        to = t if to is None else to
        self.rows.append(Row(float(t), float(to), _named(input, len(self.rows))))
        return Combination({f"y{len(self.rows) - 1}": 1.0})

    def noise(self) -> Combination:
        """The noise of the last row, for later rows."""
        return Combination({f"z{len(self.rows) - 1}": 1.0})

    def along(self, eta: float, lam_t: float, lam_s: float) -> None:
        """The noise of the last row is that of the SDE with noise sqrt(eta) g dw, from lam_t to
        lam_s; noise of which this is not said is independent of the number of steps."""
        self.rows[-1].clock = (2 * eta * lam_t, 2 * eta * lam_s)

    def step(self, update: Combination, spread: float = 0.0) -> None:
        """The state after the last row; it stays as it is where this is not called."""
        self.rows[-1].update = _named(update, len(self.rows) - 1)
        self.rows[-1].spread = float(spread)

    def langevin(self, score: Combination, snr: float) -> None:
        """The state moves along `score` by x + e score + sqrt(2 e) z, e = 2 (snr |z| / |score|)^2,
        with the norms of each sample: not linear."""
        self.rows[-1].update, self.rows[-1].snr = _named(score, len(self.rows) - 1), float(snr)

    def table(self) -> Table:
        """All rows as arrays; ValueError where more is remembered than a table holds."""
        return _compile(self.rows, self.read)


def _named(combination: Combination, row: int) -> Combination:
    """With the fresh noise under the number of its row."""
    z = f"z{row}"
    others = Combination({k: v for k, v in combination.items() if k != "z"})
    return others + Combination({z: combination["z"]}) if "z" in combination else others


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
        register_of = {"x": "x", y: "y", z: "z"} | slots
        noisy[i] = z in last or row.snr > 0
        for values, columns, names in ((input, READ, row.input), (update, WRITE, row.update)):
            for name, value in names.items():
                if name not in register_of or register_of[name] not in columns:
                    raise ValueError(
                        f"row {i}: register {name!r} is not there; it has {[*register_of]}"
                    )
                values[i, columns.index(register_of[name])] += value
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
        to=np.array([row.to for row in rows], np.float64),
        input=input,
        update=update,
        keep=keep,
        keep_noise=keep_noise,
        noisy=noisy,
        clock=np.array([row.clock for row in rows], np.float64),
        nodes=np.arange(count)[:, None],
        shares=np.ones((count, 1)),
        spread=np.array([row.spread for row in rows], np.float64),
        snr=np.array([row.snr for row in rows], np.float64),
        weight=np.ones(count),
        active=np.ones(count, bool),
        begins=np.isclose(input, np.eye(len(READ))[0], rtol=0, atol=1e-9).all(1),
        read=read,
        learned=any(row.spread for row in rows),
        langevin=any(row.snr for row in rows),
        leads=any(row.to != row.t for row in rows),
    )


class Sampler:
    """A function `(sde, times, **settings) -> Table` and what is known of the method.

    order: of the global error in the largest step of lambda, on a smooth problem, weak for
    stochastic samplers, with full history and no lowered last step; a function of the settings
    where they decide. passes: rows per step, apart
    from a last step to sigma = 0. straight: exact in any number of steps where x0 is one point.
    leads: whether rows lead to other times, for networks with a second time alone.
    Made by the decorator `sampler`.
    """

    def __init__(
        self,
        plan: Callable[..., Table],
        order: int | Callable[..., int],
        passes: int = 1,
        straight: bool = True,
        leads: bool = False,
    ):
        functools.update_wrapper(self, plan)
        self.plan, self._order, self.passes, self.straight = plan, order, passes, straight
        self.leads = leads

    def order(self, **settings: Any) -> int:
        """With these settings, and the defaults for others."""
        if not callable(self._order):
            return self._order
        wanted = inspect.signature(self._order).parameters
        defaults = {k: p.default for k, p in inspect.signature(self.plan).parameters.items()}
        return self._order(**{k: settings.get(k, defaults[k]) for k in wanted})

    def __repr__(self) -> str:
        """Name, settings, and what is known of the method with these."""
        parameters = [*inspect.signature(self.plan).parameters.values()][2:]
        settings = ", ".join(f"{p.name}={p.default}" for p in parameters)
        known = f"order {self.order()}, rows per step {self.passes}"
        return f"{self.plan.__name__}({settings}), {known}"

    def __call__(self, sde: SDE, times: np.ndarray, **settings: Any) -> Table:
        """The table for `times`, decreasing; increasing ones, from above 0, invert an ODE."""
        checks.instance(SDE, "diffjax.sde.VP(diffjax.schedules.Linear())", sde=sde)
        times = np.asarray(times, np.float64)
        steps = np.diff(times)
        if times.ndim != 1 or len(times) < 2 or not ((steps < 0).all() or (steps > 0).all()):
            shown = np.array2string(times, threshold=6, max_line_width=10_000)
            raise ValueError(f"times={shown}: needs at least two, decreasing (or increasing)")
        low, high = min(times[0], times[-1]), max(times[0], times[-1])
        if high > sde.t_max or low < 0 or (low == 0 and times[0] == 0):
            raise ValueError(f"times from {times[0]:g} to {times[-1]:g}: needs {sde.t_max} .. 0")
        # An inversion of a noisy sampler has variances below 0; it is refused when it is planned.
        with np.errstate(invalid="ignore" if steps[0] > 0 else "warn"):
            table = replace(self.plan(sde, times, **settings), origin=Origin(sde))
        if steps[0] > 0 and table.noisy.any():
            raise ValueError(f"{self.plan.__name__} adds noise: it cannot be inverted")
        if table.begins.sum() < len(steps):
            table = replace(table, begins=np.zeros(len(table), bool))
        return table


def sampler(order: int | Callable[..., int], **known: Any) -> Callable[..., Sampler]:
    """Declare the order of the sampler that follows, and what else is known of it."""
    return functools.partial(Sampler, order=order, **known)
