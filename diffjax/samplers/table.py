"""Samplers as tables: rows of coefficients, whose properties can be computed without running them.

A row is one network evaluation. Registers have the shape of the state: the state x, the outputs y_i
and the noises z_i of the rows. Row i computes

    u   = <input, registers>          the input of the network, at time t
    y_i = read(denoise(u, t, to))     x0 or eps, one choice per table; to only for flow maps
    x   = <update, registers>         the new state

where input and update may use x, z_i and registers kept from earlier rows. A sampler writes its
rows with `Program` (`program.py`), on the host, in float64. Because every row is linear in the
registers, `unroll` returns the result as a linear function of the initial state, outputs and
noises, and `moments` its exact mean and variance on Gaussian data. `run.py` runs a table in one
compiled loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.arrays import pytree
from diffjax.prediction import Prediction
from diffjax.samplers.brownian import increments
from diffjax.sde import SDE, levels

OUTPUTS = 5
"""Number of slots for outputs of earlier rows, the same in all tables: they share a program."""
NOISES = 1
"""Number of slots for noises of earlier rows."""

READ = ("x", *(f"y[{k}]" for k in range(OUTPUTS)), "z", *(f"z[{j}]" for j in range(NOISES)))
WRITE = ("x", "y", *READ[1:])
"""Columns of `input` and of `update`: state, this row's output and noise, slots of earlier ones."""

Read = Callable[[Prediction], Any]


@dataclass(frozen=True)
class Origin:
    """The process that a table was planned for, or None.

    All origins compare equal, so that tables of equal length share a compiled program.
    """

    sde: SDE | None = field(default=None, compare=False)

    def check(self, sde: SDE, times: np.ndarray) -> None:
        """Raise ValueError where `sde` has other noise levels at these times."""
        if self.sde is None or self.sde == sde:
            return
        planned, asked = levels(self.sde, times), levels(sde, times)
        for name in ("alpha", "sigma"):
            ours, theirs = getattr(planned, name), getattr(asked, name)
            if (off := ~np.isclose(ours, theirs, rtol=1e-3, atol=1e-6)).any():
                k = int(np.argmax(off))
                raise ValueError(
                    f"the table was planned for {self.sde}, the denoiser has {sde}: {name} is "
                    f"{ours[k]:g} and {theirs[k]:g} at t={times[k]:g}; plan the sampler with "
                    f"denoise.sde, or see diffjax.denoiser.reframe"
                )


def x0(prediction: Prediction) -> Any:
    """Read the view x0 as the output y."""
    return prediction.x0


def eps(prediction: Prediction) -> Any:
    """Read the view eps as the output y."""
    return prediction.eps


@pytree
@dataclass(frozen=True)
class Table:
    """A sampler's R rows as arrays, a traced argument: tables of equal R share a compiled loop.

    In a table of lanes (`lanes.py`) the coefficients differ along the leading axis of items, of L
    positions: t, to, input, update, keep, keep_noise and spread are (R, L, ...). The others, and
    all of an ordinary table, are as follows.

    t: (R,). to: (R,), the second time of a flow map; t for an ordinary denoiser. input: (R,
    len(READ)) and update: (R, len(WRITE)), the coefficients. keep, keep_noise: (R,), the slots that
    receive y and z of the row, or OUTPUTS and NOISES for none. noisy: (R,), whether noise is drawn.
    nodes, shares: (R, N); z is the sum over n of shares[n] times the normal number nodes[n]. clock:
    (R, 2), and spread, snr: (R,), see `Row`. weight: the guidance weight, (R,), or (R, B) for each
    sample. active: (R,), False for a row that does nothing. begins: (R,), whether the state is a
    sample at t when the row begins; False throughout unless every step has such a row.

    Static: read, which view of the prediction y is; learned, langevin, leads, whether any row has a
    spread, an snr, a `to` other than t; padded, whether rows may be idle; origin, the process that
    the table was planned for.

    >>> from diffjax import samplers, schedules, sde
    >>> table = samplers.ddim(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25, 0.0]))
    >>> table, len(table[:2]), table.t.tolist()
    (Table(3 rows, y = x0), 2, [0.75, 0.5, 0.25])
    """

    t: Any
    to: Any
    input: Any
    update: Any
    keep: Any
    keep_noise: Any
    noisy: Any
    clock: Any
    nodes: Any
    shares: Any
    spread: Any
    snr: Any
    weight: Any
    active: Any
    begins: Any
    read: Read = field(default=x0, metadata={"static": True})
    learned: bool = field(default=False, metadata={"static": True})
    langevin: bool = field(default=False, metadata={"static": True})
    leads: bool = field(default=False, metadata={"static": True})
    padded: bool = field(default=False, metadata={"static": True})
    origin: Origin = field(default=Origin(), metadata={"static": True}, repr=False)

    def __len__(self) -> int:
        return self.t.shape[0]

    @property
    def lanes(self) -> int:
        """The number L of positions that have rows of their own; 0 for an ordinary table."""
        return self.t.shape[1] if self.t.ndim == 2 else 0

    @property
    def latest(self) -> np.ndarray:
        """The time of each row, (R,): in a table of lanes, that of the noisiest position."""
        return np.asarray(self.t).max(1) if self.lanes else np.asarray(self.t)

    def lane(self, position: int) -> Table:
        """Return the ordinary table of one position of a table of lanes, with rows of rest."""
        names = ("t", "to", "input", "update", "keep", "keep_noise", "spread")
        return replace(self, **{name: getattr(self, name)[:, position] for name in names})

    def __getitem__(self, part: slice) -> Table:
        """Return consecutive rows, to stop early or to start late.

        Raises ValueError for a stride, for no rows, and for rows that use registers of rows left
        out.
        """
        start, _, stride = part.indices(len(self))
        if stride != 1:
            raise ValueError(f"{part}: needs consecutive rows, a step of 1")
        cut = jax.tree.map(lambda a: a[part], self)
        if not len(cut):
            raise ValueError(f"{part}: selects none of the {len(self)} rows")
        for table in [cut.lane(k) for k in range(cut.lanes)] or [cut]:
            table._check_registers(start)
        return cut

    def _check_registers(self, start: int) -> None:
        """Raise ValueError for a row that reads a register of a row before the first, `start`."""
        unset, cut = {name for name in READ if "[" in name}, self
        for i in range(len(cut)):
            used = {n for n, c in zip(READ, cut.input[i], strict=True) if c}
            used |= {n for n, c in zip(WRITE, cut.update[i], strict=True) if c}
            if missing := used & unset:
                raise ValueError(
                    f"row {start + i} reads registers of rows before {start} ({sorted(missing)}); "
                    f"plan the sampler for the shorter grid instead"
                )
            unset -= {f"y[{cut.keep[i]}]", f"z[{cut.keep_noise[i]}]"}

    def brownian(self) -> Table:
        """Return the same rows with the noise of one Brownian path per sample (`brownian.py`).

        The path does not depend on the steps, so more steps of the same process refine the same
        sample. Noise that belongs to no path stays independent. Raises ValueError for lanes.
        """
        if self.lanes:
            raise ValueError("noise='brownian': not with lanes; allowed: 'independent'")
        nodes, shares = increments(np.where(self.noisy[:, None], self.clock, np.nan))
        return replace(self, nodes=nodes, shares=shares)

    def pad(self, rows: int) -> Table:
        """Append idle rows up to `rows`, so that tables of different lengths share one program.

        Raises ValueError where the table is longer.
        """
        more = rows - len(self)
        if more < 0:
            raise ValueError(f"rows={rows}: the table has {len(self)} rows already")
        fill = lambda a: np.concatenate([a, np.repeat(np.zeros_like(a[-1:]), more, 0)])
        return replace(jax.tree.map(fill, self), padded=True)

    def __repr__(self) -> str:
        """Summarise the table; `print` shows its rows."""
        of = f" of {self.lanes} lanes" if self.lanes else ""
        return f"Table({len(self)} rows{of}, y = {self.read.__name__})"

    def __str__(self) -> str:
        """Show one line per row without zero coefficients; y3 is the output of row 3."""
        if self.lanes:
            whole = [f"position {k}: {self.lane(k)}" for k in range(self.lanes)]
            return "\n".join([repr(self), *whole])
        names = {name: name for name in WRITE}

        def terms(columns: Sequence[str], values: np.ndarray) -> str:
            shown = [f"{v:+.6g} {names[n]}" for n, v in zip(columns, values, strict=True) if v]
            return " ".join(shown) or "0"

        lines = [f"{len(self)} rows, y = {self.read.__name__}"]
        for i, t in enumerate(self.t):
            names |= {"y": f"y{i}", "z": f"z{i}"}
            u, x = terms(READ, self.input[i]), terms(WRITE, self.update[i])
            low, high = np.min(self.weight[i]), np.max(self.weight[i])
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            notes = "" if self.to[i] == t else f"   to = {self.to[i]:.6f}"
            notes += "" if low == high == 1 else f"   w = {span}"
            notes += f"   z exp({self.spread[i]:.4g} r)" if self.spread[i] else ""
            notes += f"   (score of a Langevin step, snr {self.snr[i]:g})" if self.snr[i] else ""
            notes += "" if self.active[i] else "   (idle)"
            lines.append(f"{i:4d}  t = {t:.6f}   u = {u}   x = {x}{notes}")
            names |= {f"y[{self.keep[i]}]": f"y{i}", f"z[{self.keep_noise[i]}]": f"z{i}"}
        return "\n".join(lines)


class Unrolled(NamedTuple):
    """A table of R rows as linear maps on (x_T, y_1..y_R, z_1..z_R).

    inputs: (R, 1 + 2R), the input of the network in each row. result: (1 + 2R,), the final state.
    """

    inputs: np.ndarray
    result: np.ndarray


def unroll(table: Table) -> Unrolled:
    """Write a table as linear maps on the initial state, the outputs and the noises.

    Two samplers are the same method exactly when their unrolled maps agree. Raises ValueError for
    tables with Langevin rows, which are not linear, and for tables of lanes.

    >>> from diffjax import grids, samplers, schedules, sde
    >>> vp = sde.VP(schedules.Linear())
    >>> one, two = (f(vp, grids.uniform(vp, 5)) for f in (samplers.ddim, samplers.dpmpp_2m))
    >>> unroll(one).inputs.shape  # five rows of x_T, five outputs, five noises
    (5, 11)
    >>> np.allclose(unroll(one).inputs, unroll(two).inputs)
    False
    """
    linear(table)
    single(table)
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
    """Compute the exact mean and variance of the samples on N(mean, var) data, without Monte Carlo.

    For Gaussian data the denoiser, or the flow map where rows lead to other times, is affine in its
    input, so the joint distribution of all registers follows by a linear recursion, without a
    network. start: mean and variance of the initial state; by default those of the prior at the
    time of the first row. All arguments may be arrays of one shape, for many distributions at once.
    Raises ValueError for tables with Langevin rows or lanes; see `affine_moments`.

    >>> from diffjax import grids, samplers, schedules, sde
    >>> vp = sde.VP(schedules.Linear())
    >>> table = samplers.ancestral_upper(vp, grids.uniform(vp, 10))
    >>> _, var = moments(table, vp, mean=0.0, var=1.0)
    >>> round(float(var), 3)  # right for N(0, 1), with ten steps
    1.0
    """
    linear(table)
    single(table)
    at, to = levels(sde, table.t), levels(sde, table.to)
    first = start if start else (0.0, at.sigma[0] ** 2)
    mean, var, *first = np.broadcast_arrays(mean, var, *first)
    size, y, z = len(READ), WRITE.index("y"), READ.index("z")
    mu, cov = np.zeros((*var.shape, size)), np.zeros((*var.shape, size, size))
    mu[..., 0], cov[..., 0, 0] = first
    for i in np.flatnonzero(table.active):
        alpha, sigma = at.alpha[i], at.sigma[i]
        mu[..., z], cov[..., z, :], cov[..., :, z] = 0.0, 0.0, 0.0
        cov[..., z, z] = 1.0
        # The views of the exact flow map, which are those of the denoiser where it leads to t; see
        # `analytic.MixtureFlowMap`.
        angle = np.arctan2(sigma, alpha * np.sqrt(var))
        other = np.arctan2(to.sigma[i], to.alpha[i] * np.sqrt(var))
        middle, half = (angle + other) / 2, (angle - other) / 2
        score = np.stack([np.ones_like(mean), -alpha * mean]) / np.sqrt(alpha**2 * var + sigma**2)
        score = score / np.cos(half)
        shift_x0 = np.stack([np.zeros_like(mean), mean])
        views = np.sqrt(var) * np.cos(middle) * score + shift_x0, np.sin(middle) * score
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


def single(table: Table) -> None:
    """Raise ValueError for a table of lanes."""
    if table.lanes:
        raise ValueError("the table has lanes; allowed: samplers.affine_moments, or one lane of it")


def linear(table: Table) -> None:
    """Raise ValueError for a table with Langevin rows."""
    if table.langevin:
        raise ValueError("the steps of the corrector langevin are not linear in the registers")
