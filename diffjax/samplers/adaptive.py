"""Sampling with adaptive steps by diffrax: the error per step is set, and the NFE follows from it.

The state is the sample in its VP view, y = x / sqrt(alpha^2 + sigma^2), so that a tolerance means
the same at all noise levels and in all frames. alpha and sigma are those of VP from here on. In the
angle theta = atan(alpha / sigma) the probability-flow ODE is

    dy = (sigma x0 - alpha eps) dtheta

which is finite from alpha = 0 on. In lambda = log(alpha / sigma) the reverse SDE with noise
sqrt(eta) g dw is (arXiv:2309.05019, eq. 8, with eta = tau^2)

    dy = (sigma^2 y - (1 + eta) sigma eps) dlambda + sqrt(2 eta) sigma dw

Every sample has its own step sizes, its own NFE and its own Brownian path. A last pass at the end
returns x0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax.arrays import Cond, pytree
from diffjax.checks import at_least, not_negative, one_of, within
from diffjax.guidance import Conditional, Guidance, Query
from diffjax.prediction import Denoise
from diffjax.samplers.plan import Sampling, checked
from diffjax.samplers.run import Result
from diffjax.samplers.table import Origin
from diffjax.sde import SDE, ends
from diffjax.solvers import FIRST, GROWTH, SOLVERS
from diffjax.spaces import inside

CONDITIONAL = Conditional()
RESOLUTION = 2.0**-16
"""Resolution of the Brownian path in lambda, as a share of the whole interval."""


@pytree
@dataclass(frozen=True)
class Adaptive(Sampling):
    """Settings of adaptive sampling from t = `begin` to `stop`; construct them by `adaptive`.

    rtol, atol: the error of a step stays below rtol |y| + atol per value, in the root mean square.
    weight: the guidance weight at all noise levels, a number or one per sample, (B,). eta: 0 for
    the ODE, solved by `solver`; positive for the SDE, solved by ShARK (arXiv:2210.17543). most: the
    largest number of steps per sample, rejected ones included. origin: the process planned for.
    """

    begin: Any
    stop: Any
    rtol: Any = 1e-3
    atol: Any = 1e-3
    weight: Any = 1.0
    guidance: Guidance = CONDITIONAL
    solver: Callable[[], Any] = field(default=diffrax.Dopri5, metadata={"static": True})
    eta: float = field(default=0.0, metadata={"static": True})
    most: int = field(default=1000, metadata={"static": True})
    origin: Origin = field(default=Origin(), metadata={"static": True}, repr=False)

    @property
    def start(self) -> Any:
        return self.begin

    @property
    def rows(self) -> None:
        return None

    @property
    def passes(self) -> None:
        return None

    @property
    def noisy(self) -> bool:
        return self.eta > 0

    def weighted(self, weight: np.ndarray) -> Adaptive:
        return replace(self, weight=np.asarray(checked(weight, self.guidance), np.float32))

    def settled(self) -> Adaptive:
        return self

    def run(
        self,
        denoise: Denoise,
        x: Float[Array, "b *d"],
        keys: Key[Array, " b"],
        cond: Cond | None = None,
        *,
        path: bool = False,
    ) -> Result:
        """Sample from x (B, ...) at t = begin, with keys (B,).

        `Result.calls` (B,) counts the calls of the denoiser per sample, rejected steps included.
        `Result.bad` is the index of a sample that did not reach the end, or -1. Raises ValueError
        for path=True.
        """
        if path:
            raise ValueError("adaptive steps differ between samples, which have no common path")
        weight = jnp.asarray(self.weight, x.dtype)
        one = lambda weight, *sample: solve(replace(self, weight=weight), denoise, *sample)
        axes = (0 if weight.ndim else None, 0, 0, 0)
        x, count, arrived = jax.vmap(one, axes)(weight, x, keys, cond)
        stages, shared = 2, 0  # of ShARK
        if not self.eta:
            tableau = self.solver().tableau
            shared = int(tableau.fsal)  # the last stage of a step is the first of the next one
            stages = tableau.num_stages - shared
        bad = jnp.where(arrived.all(), -1, jnp.argmin(arrived))
        return Result(x, bad, None, shared + stages * count + 1)

    def suits(self, sde: SDE) -> None:
        self.origin.check(sde, np.array([self.stop, self.begin]))

    def check(self, result: Result) -> None:
        """Raise FloatingPointError where a sample did not reach the end."""
        if (sample := int(result.bad)) >= 0:
            raise FloatingPointError(
                f"sample {sample} of its batch needs more than {self.most} steps, or the network's "
                f"output is not finite (rtol={self.rtol:g}, atol={self.atol:g})"
            )

    def spent(self, result: Result) -> np.ndarray:
        """Return the NFE of each sample, (B,), with all passes of a guided call."""
        weights = np.atleast_1d(np.asarray(self.weight))
        return np.asarray(result.calls) * [self.guidance.passes(w) for w in weights[:, None]]


def solve(
    steps: Adaptive, denoise: Denoise, x: Float[Array, "*d"], key: Key[Array, ""], cond: Cond | None
) -> tuple[Float[Array, "*d"], Int[Array, ""], Bool[Array, ""]]:
    """Sample once from x (*d) at t = begin; return x0, the number of steps and the success."""
    sde, times = denoise.sde, jnp.asarray([steps.begin, steps.stop], x.dtype)
    lam = sde.logsnr(times) / 2

    def ask(y: Array, lam: Array) -> tuple[Array, Array]:
        """Return x0 and eps, flattened, at y and lam = log(alpha / sigma)."""
        t = jnp.clip(sde.inverse(2 * lam), steps.stop, steps.begin)
        given = jax.tree.map(lambda c: c[None], cond)
        # What y holds outside of the space, such as noise, never reaches the network or the sample.
        seen = inside(denoise, (y * _scale(sde, lam)).reshape(1, *x.shape), given)
        query = Query(denoise, seen, t[None], given)
        weight = jnp.asarray(steps.weight, x.dtype)
        prediction, _ = steps.guidance(query, weight, steps.guidance.init(seen))
        x0, eps = (inside(denoise, a, given) for a in (prediction.x0, prediction.eps))
        return x0.ravel(), eps.ravel()

    def turn(theta: Any, y: Any, _: Any) -> Array:
        x0, eps = ask(y, jnp.log(jnp.tan(theta)))
        return jnp.cos(theta) * x0 - jnp.sin(theta) * eps

    def drift(lam: Any, y: Any, _: Any) -> Array:
        var = jax.nn.sigmoid(-2 * lam)
        return var * y - (1 + steps.eta) * jnp.sqrt(var) * ask(y, lam)[1]

    def noise(lam: Any, y: Any, _: Any) -> lineax.AbstractLinearOperator:
        size = jnp.sqrt(2 * steps.eta * jax.nn.sigmoid(-2 * lam))
        return lineax.DiagonalLinearOperator(jnp.full(y.shape, size))

    terms: Any
    if steps.eta:
        solver, begin, end = diffrax.ShARK(), *lam
        shape = jax.ShapeDtypeStruct((x.size,), x.dtype)
        path = diffrax.VirtualBrownianTree(
            begin, end, RESOLUTION * (end - begin), shape, key, diffrax.SpaceTimeLevyArea
        )
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(noise, path))
    else:
        solver, begin, end = steps.solver(), *jnp.arctan(jnp.exp(lam))
        terms = diffrax.ODETerm(turn)
    solved = diffrax.diffeqsolve(
        terms,
        solver,
        begin,
        end,
        FIRST * (end - begin),
        x.ravel() / _scale(sde, lam[0]),
        stepsize_controller=diffrax.PIDController(steps.rtol, steps.atol, factormax=GROWTH),
        max_steps=steps.most,
        throw=False,
    )
    assert solved.ys is not None
    x0 = ask(solved.ys[-1], lam[1])[0].reshape(x.shape)
    arrived = (solved.result == diffrax.RESULTS.successful) & jnp.isfinite(x0).all()
    return x0, solved.stats["num_steps"], arrived


def _scale(sde: SDE, lam: Float[Array, ""]) -> Float[Array, ""]:
    """Return sqrt(alpha^2 + sigma^2) of the frame at lam."""
    log_alpha, log_sigma = sde.frame(2 * lam)
    return jnp.exp(jnp.logaddexp(2 * log_alpha, 2 * log_sigma) / 2)


def adaptive(
    sde: SDE,
    weight: float = 1.0,
    guidance: Guidance = CONDITIONAL,
    solver: str = "dopri5",
    rtol: float = 1e-3,
    atol: float = 1e-3,
    eta: float = 0.0,
    most: int = 1000,
) -> Adaptive:
    """Plan adaptive sampling from t_max to t_min; there is no grid and no number of steps.

    solver: heun, bosh3, dopri5, tsit5 or dopri8, for eta = 0. The other settings are those
    of `Adaptive`. Raises ValueError for a setting out of range, for an SDE from alpha = 0, and for
    guidance with a memory.
    """
    if jax.tree.leaves(guidance.init(jnp.zeros((1, 1)))):
        raise ValueError(
            "adaptive steps may be rejected, so guidance cannot remember earlier ones; allowed: "
            "references other than cached, and rules with momentum=0 and still=0"
        )
    one_of(SOLVERS, solver=solver)
    within(0, 1, "()", rtol=rtol, atol=atol)
    not_negative(eta=eta)
    at_least(1, most=most)
    if eta and not np.isfinite(ends(sde).lam[1]):
        raise ValueError(
            f"eta={eta} starts at t={sde.t_max} of {sde}, where alpha is 0 and the drift of the "
            f"SDE is infinite; allowed: eta=0, or t_max < 1 in the sde"
        )
    start, stop = sde.t_max, sde.t_min
    return Adaptive(
        start, stop, rtol, atol, weight, guidance, SOLVERS[solver], eta, most, Origin(sde)
    )
