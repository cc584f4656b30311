"""The language in which samplers are written: programs of rows over named registers.

A program is written on the host, in float64, and compiled to a `Table`:

    p = Program(x0)
    y = p.network(t, input)     # add a row; its output is a register
    p.step(update)              # the state after the row, from X, Z, y and earlier registers
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
    """A linear combination of registers: a dict from their names to coefficients.

    >>> 0.5 * X - 2 * Z
    {'x': 0.5, 'z': -2.0}
    """

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
"""The state x."""
Z = Combination(z=1.0)
"""The fresh noise N(0, I) of the current row."""
NOTHING = Combination()
"""The empty combination, which is 0."""


@dataclass
class Row:
    """One network evaluation at time t, and the update of the state that follows it.

    to: the second time of a flow map, t for an ordinary denoiser. input: what the network sees.
    update: the new state. spread: z is multiplied by exp(spread r), where r is the prediction's
    `log_var`. clock: the noise is the increment of a Brownian path between these two values of 2
    eta lambda (`brownian.py`); NaN for independent noise. snr: where positive, `update` is a score,
    and the state makes a Langevin step along it.
    """

    t: float
    to: float
    input: Combination
    update: Combination = field(default_factory=lambda: X)
    spread: float = 0.0
    clock: tuple[float, float] = (np.nan, np.nan)
    snr: float = 0.0


class Program:
    """The rows of a sampler while it is being written.

    read: which view of the prediction, `x0` or `eps`, the outputs y are.

    >>> p = Program(x0)
    >>> y = p.network(0.5)
    >>> p.step(0.5 * X + 0.5 * y)
    >>> print(p.table())
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.5 x +0.5 y0
    """

    def __init__(self, read: Read = x0):
        self.read = read
        self.rows: list[Row] = []

    def network(self, t: float, input: Combination = X, to: float | None = None) -> Combination:
        """Add a row that evaluates the network on `input` at time t, and return its output.

        The output is a register, which the update of this row and later rows may use. to: the
        second time of a flow map; by default t, as for an ordinary denoiser.
        """
        to = t if to is None else to
        self.rows.append(Row(float(t), float(to), _named(input, len(self.rows))))
        return Combination({f"y{len(self.rows) - 1}": 1.0})

    def noise(self) -> Combination:
        """Return the noise of the latest row as a register for later rows."""
        return Combination({f"z{len(self.rows) - 1}": 1.0})

    def along(self, eta: float, lam_t: float, lam_s: float) -> None:
        """Declare the noise of the latest row to be an increment of a Brownian path.

        It is the noise of the SDE with sqrt(eta) g dw between lam_t and lam_s, so that
        `Table.brownian` can keep the path when the number of steps changes. Noise without this
        declaration is drawn afresh for each row.
        """
        self.rows[-1].clock = (2 * eta * lam_t, 2 * eta * lam_s)

    def step(self, update: Combination, spread: float = 0.0) -> None:
        """Set the state after the latest row; without a call the state does not change.

        spread: see `Row`.
        """
        self.rows[-1].update = _named(update, len(self.rows) - 1)
        self.rows[-1].spread = float(spread)

    def langevin(self, score: Combination, snr: float) -> None:
        """Make the latest row a Langevin step x + e score + sqrt(2 e) z.

        e = 2 (snr |z| / |score|)^2 with the norms of each sample, so the step is not linear in the
        registers.
        """
        self.rows[-1].update, self.rows[-1].snr = _named(score, len(self.rows) - 1), float(snr)

    def table(self) -> Table:
        """Compile the rows to arrays.

        Raises ValueError for a program without rows, for a register that does not exist where it is
        used, and where more registers are live than a table has slots.
        """
        return _compile(self.rows, self.read)


def _named(combination: Combination, row: int) -> Combination:
    """Rename the fresh noise `z` to `z<row>`, the name under which later rows know it."""
    z = f"z{row}"
    others = Combination({k: v for k, v in combination.items() if k != "z"})
    return others + Combination({z: combination["z"]}) if "z" in combination else others


def _compile(rows: Sequence[Row], read: Read) -> Table:
    """Assign each live register to a slot and write the coefficients of all rows as arrays."""
    if not rows:
        raise ValueError("a table needs at least one row")
    # Register allocation as in a compiler, by the last use of each name. A table has few slots,
    # and as many for every sampler, so that all of them share one compiled loop.
    uses = [{**row.input, **row.update} for row in rows]
    last = {name: i for i, names in enumerate(uses) for name in names}
    count = len(rows)
    input, update = np.zeros((count, len(READ))), np.zeros((count, len(WRITE)))
    # Slots OUTPUTS and NOISES do not exist: the loop drops what is written to them.
    keep, keep_noise = np.full(count, OUTPUTS), np.full(count, NOISES)
    noisy = np.zeros(count, bool)
    slots: dict[str, str] = {}  # register -> column
    free = {"y": [f"y[{k}]" for k in range(OUTPUTS)], "z": [f"z[{j}]" for j in range(NOISES)]}
    for i, row in enumerate(rows):
        y, z = f"y{i}", f"z{i}"
        register_of = {"x": "x", y: "y", z: "z"} | slots
        noisy[i] = z in last or row.snr > 0  # a deterministic row draws no random numbers
        for values, columns, names in ((input, READ, row.input), (update, WRITE, row.update)):
            for name, value in names.items():
                if name not in register_of or register_of[name] not in columns:
                    raise ValueError(f"row {i}: no such register {name!r}; known: {[*register_of]}")
                values[i, columns.index(register_of[name])] += value
        # Free before keeping: a row reads its slots before it writes, so the output of this row
        # may take the slot of a register whose last use is this row.
        for name in [name for name in slots if last[name] <= i]:
            free[name[0]].append(slots.pop(name))
        for name, kept in ((y, keep), (z, keep_noise)):
            if last.get(name, i) > i:
                if not free[name[0]]:
                    raise ValueError(f"row {i}: needs more registers than exist: {sorted(slots)}")
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
        # Independent noise: row i has the normal of number i alone, see `Table.brownian`.
        nodes=np.arange(count)[:, None],
        shares=np.ones((count, 1)),
        spread=np.array([row.spread for row in rows], np.float64),
        snr=np.array([row.snr for row in rows], np.float64),
        weight=np.ones(count),  # no guidance, until a plan sets weights
        active=np.ones(count, bool),
        # A row whose input is x itself sees a sample at time t; correctors may go before it.
        begins=np.isclose(input, np.eye(len(READ))[0], rtol=0, atol=1e-9).all(1),
        read=read,
        learned=any(row.spread for row in rows),
        langevin=any(row.snr for row in rows),
        leads=any(row.to != row.t for row in rows),
    )


class Sampler:
    """A sampler: a function `(sde, times, **settings) -> Table` with the properties of the method.

    plan: the function. order: of the global error in the largest step of lambda on a smooth
    problem, with full history and no lowered last step, and weak for stochastic samplers; a
    function of the settings where it depends on them. passes: rows per step, apart from a last step
    to sigma = 0. straight: whether the method is exact in any number of steps for data that are one
    point. leads: whether it needs a flow map, a network with a second time.

    The decorator `sampler` constructs one; `conformance.judge` measures whether the properties
    hold.

    >>> from diffjax import samplers
    >>> samplers.dpmpp_2m
    dpmpp_2m(exact=False, eta=0.0, lower_final=0), order 2, rows per step 1
    >>> samplers.unipc.order(), samplers.unipc.order(order=2), samplers.heun.passes
    (4, 3, 2)
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
        """Return the order for these settings, with the defaults for the others."""
        if not callable(self._order):
            return self._order
        wanted = inspect.signature(self._order).parameters
        defaults = {k: p.default for k, p in inspect.signature(self.plan).parameters.items()}
        return self._order(**{k: settings.get(k, defaults[k]) for k in wanted})

    def __repr__(self) -> str:
        """Show the name, the settings with their defaults, and the order and passes with these."""
        parameters = [*inspect.signature(self.plan).parameters.values()][2:]
        settings = ", ".join(f"{p.name}={p.default}" for p in parameters)
        known = f"order {self.order()}, rows per step {self.passes}"
        return f"{self.plan.__name__}({settings}), {known}"

    def __call__(self, sde: SDE, times: np.ndarray, **settings: Any) -> Table:
        """Plan the table for `times` (N + 1,), decreasing; increasing ones invert an ODE.

        Raises ValueError for times that are not monotone or lie outside [0, t_max], for an
        inversion from t = 0, and for an inversion with noise.
        """
        checks.instance(SDE, "diffjax.sde.VP(diffjax.schedules.Linear())", sde=sde)
        times = np.asarray(times, np.float64)
        steps = np.diff(times)
        if times.ndim != 1 or len(times) < 2 or not ((steps < 0).all() or (steps > 0).all()):
            shown = np.array2string(times, threshold=6, max_line_width=10_000)
            raise ValueError(f"times={shown}: needs at least two times, decreasing (or increasing)")
        low, high = min(times[0], times[-1]), max(times[0], times[-1])
        if high > sde.t_max or low < 0 or (low == 0 and times[0] == 0):
            raise ValueError(f"times from {times[0]:g} to {times[-1]:g}: needs {sde.t_max} to 0")
        # Inverting a noisy sampler takes roots of negative variances; it is refused once planned.
        with np.errstate(invalid="ignore" if steps[0] > 0 else "warn"):
            table = replace(self.plan(sde, times, **settings), origin=Origin(sde))
        if steps[0] > 0 and table.noisy.any():
            raise ValueError(f"{self.plan.__name__} adds noise, so it cannot be inverted")
        # Correctors go before every step or before none: half-corrected methods are not offered.
        if table.begins.sum() < len(steps):
            table = replace(table, begins=np.zeros(len(table), bool))
        return table


def sampler(order: int | Callable[..., int], **known: Any) -> Callable[..., Sampler]:
    """Decorate a planning function `(sde, times, **settings) -> Table` as a `Sampler`.

    order, passes, straight, leads: the properties of the method, see `Sampler`.

    >>> @sampler(order=1)
    ... def halve(sde, times):
    ...     p = Program()
    ...     p.step(0.5 * X + 0.5 * p.network(times[0]))
    ...     return p.table()
    >>> halve
    halve(), order 1, rows per step 1
    """
    return functools.partial(Sampler, order=order, **known)
