"""UniPC, a multistep method with a corrector that takes no further pass."""

from __future__ import annotations

import numpy as np

from diffjax.checks import within
from diffjax.samplers.multistep import Step, history, order_at, same
from diffjax.samplers.program import Program, X, sampler
from diffjax.samplers.table import Table, x0
from diffjax.sde import SDE, levels


@sampler(order=lambda order, corrector: order + corrector)
def unipc(
    sde: SDE,
    times: np.ndarray,
    order: int = 3,
    bh1: bool = False,
    corrector: bool = True,
    lower_final: int = 1,
) -> Table:
    """UniPC in x0, of order 1 to 4; the corrector adds one (arXiv:2302.04867, Alg. 5 to 8).

    bh1: B(h) = h in place of exp(h) - 1; the two differ only in steps with two outputs, where the
    paper fixes a coefficient to 1/2. corrector: correct each state with the output with which the
    next step begins, at no further pass. lower_final: number of last steps of order 1, before which
    the order falls by one per step. Raises ValueError for another order.

    >>> from diffjax import schedules, sde
    >>> print(unipc(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25]), order=2))
    2 rows, y = x0
       0  t = 0.750000   u = +1 x   x = +1 x
       1  t = 0.500000   u = +0.666667 x +0.333333 y0   x = +0.333333 x +0.583333 y1 +0.0833333 y0
    """
    within(1, 4, order=order)
    at, p = levels(sde, times), Program(x0)
    steps, state = len(times) - 1, X

    def weights(step: Step, lam: np.ndarray, half: bool) -> np.ndarray:
        if not half:
            # The solution of the paper's R c = b is the exact integral, for either B(h).
            return step.weights(lam, same)
        # With two outputs the paper takes c = 1/2 instead: B(h) / 2 on the difference quotient.
        h = step.end - step.start
        share = (step.scale * h if bh1 else step.constant) / 2 * h / (lam[1] - lam[0])
        return np.array([step.constant - share, share])

    ys = [p.network(at.t[0])]
    for i in range(steps):
        step = Step(sde, at, i, x0)
        used = history(at, i, step, order_at(i, steps, order, lower_final))
        lam, known = at.lam[used], ys[: len(used)]
        predictor = weights(step, lam, len(lam) == 2)
        if i == steps - 1:
            p.step(step.advance(state, known, predictor))
            break
        # The row leaves the corrected state at its own time; the prediction is an input only.
        p.step(state)
        state = step.advance(X, known, predictor)
        new = p.network(at.t[i + 1], state)
        if corrector and not step.single:
            both = weights(step, np.append(lam, step.end), len(lam) == 1)
            state = step.advance(X, [*known, new], both)
        ys.insert(0, new)
    return p.table()
