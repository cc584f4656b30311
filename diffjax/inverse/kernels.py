"""First-order tables as transition kernels: x_s = state x_t + output y + noise z in each row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffjax import checks
from diffjax.samplers.table import NOISES, OUTPUTS, READ, WRITE, Table


class Kernels(NamedTuple):
    """The coefficients of x_s = state x_t + output y + noise z, in float64, (R,) each.

    y is the prediction that the table reads at (x_t, t), so a row with noise > 0 is the Gaussian
    transition p(x_s | x_t) with mean state x_t + output y and standard deviation `noise`.
    """

    state: np.ndarray
    output: np.ndarray
    noise: np.ndarray


def kernels(table: Table, purpose: str) -> Kernels:
    """Return the coefficients of the rows of a first-order table.

    purpose: what needs them, for the message. Raises ValueError for tables whose rows use earlier
    outputs or noises, evaluate the network at another point than the state, make Langevin steps, or
    are idle.
    """
    checks.instance(Table, "diffjax.samplers.ancestral(sde, times)", table=table)
    if checks.traced(table):
        raise ValueError(f"{purpose}: needs a table of numbers, planned outside of the function")
    if table.langevin:
        raise ValueError(f"{purpose}: steps of the corrector langevin are no Gaussian transitions")
    if not np.all(table.active):
        raise ValueError(f"{purpose}: idle rows; needs the table before it was padded")
    input, update = np.asarray(table.input, np.float64), np.asarray(table.update, np.float64)
    earlier = [i for i, name in enumerate(WRITE) if "[" in name]
    at_state = np.isclose(input, np.eye(len(READ))[0], rtol=0, atol=1e-9).all(1)
    if (other := ~at_state | update[:, earlier].any(1)).any():
        raise ValueError(
            f"{purpose}: row {int(np.argmax(other))} uses outputs or noises of earlier rows, or "
            f"another input than the state; allowed: first-order samplers, as ancestral or ddim"
        )
    assert len(WRITE) == 3 + OUTPUTS + NOISES
    x, y, z = (WRITE.index(name) for name in ("x", "y", "z"))
    return Kernels(update[:, x], update[:, y], update[:, z])


def stochastic(table: Table, purpose: str) -> Kernels:
    """Return `kernels(table, purpose)`; raise ValueError where no row of the table adds noise."""
    rows = kernels(table, purpose)
    if not rows.noise.any():
        raise ValueError(
            f"{purpose}: the table adds no noise; allowed: first-order samplers with noise, as "
            f"ancestral, ddim with eta > 0, ddim_sde"
        )
    return rows
