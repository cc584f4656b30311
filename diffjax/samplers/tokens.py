"""Samplers of discrete diffusion: rows of times in one compiled scan.

`ancestral` draws x_s from p(x_s | x_t) for each token, between the times of a grid. `first_hitting`
reveals the tokens of the masked process in a random order at exact times, equally many in each row
(arXiv:2409.02908); one per row gives the law of the network without an error of the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from diffjax import checks
from diffjax.arrays import Cond, expand, float64, null, pytree
from diffjax.discrete import Masked, Process, draw, values
from diffjax.discrete.processes import LEAST, lost, time
from diffjax.samplers.plan import Sampling
from diffjax.samplers.run import Result
from diffjax.samplers.table import Origin
from diffjax.sde import SDE

Ask = Callable[[Int[Array, "b *d"], Float[Array, " b"]], Float[Array, "b *d k"]]
ROWS, START = 0, 1
"""Streams of the random numbers of a sample: those of its rows, and those before the first one."""


@pytree
@dataclass(frozen=True)
class Tokens(Sampling):
    """A plan for tokens of `process`; construct it by `ancestral` or `first_hitting`.

    times: (R + 1,), from t_max to 0. lost: (R + 1,), the probabilities that a token is lost there.
    weight: of guidance on logits, null + weight (conditional - null), a number or one per sample,
    (B,). temperature: a divisor of the logits. guided: whether the weight has an effect.
    hits: whether rows reveal tokens in place of steps between times.

    Samples are values (B, ...) in [-1, 1] as the data are.
    """

    tableless: ClassVar[str] = "tokens are drawn, not combined linearly"

    times: Any
    lost: Any
    weight: Any = 1.0
    temperature: Any = 1.0
    process: Process = field(default=Masked(), metadata={"static": True})
    guided: bool = field(default=False, metadata={"static": True})
    hits: bool = field(default=False, metadata={"static": True})
    origin: Origin = field(default=Origin(), metadata={"static": True}, repr=False)

    @property
    def start(self) -> Any:
        return self.times[0]

    @property
    def rows(self) -> int:
        return len(self.times) - 1

    @property
    def passes(self) -> int:
        return self.rows * (1 + self.guided)

    @property
    def noisy(self) -> bool:
        return True

    def weighted(self, weight: np.ndarray) -> Tokens:
        weight = np.asarray(weight, np.float32)
        if weight.ndim != 1 or not np.isfinite(weight).all():
            raise ValueError(f"weight={weight}: needs a finite number for each sample, (B,)")
        return replace(self, weight=weight, guided=True)

    def settled(self) -> Tokens:
        return self

    def run(
        self,
        denoise: Any,
        x: Float[Array, "b *d"],
        keys: Key[Array, " b"],
        cond: Cond | None = None,
        *,
        path: bool = False,
    ) -> Result:
        """Sample from the prior of the process; only the shape (B, ...) of x counts.

        denoise: a network of tokens with its parameters. Raises ValueError for path=True.
        """
        if path:
            raise ValueError("tokens have no path of states and predictions; allowed: path=False")
        model, params = denoise.model, denoise.params

        def ask(k: Array, t: Array) -> Array:
            label = model.parameterization.c_noise(model.sde, t)
            whole = lambda cond: model.network.apply(
                params["network"], k.astype(x.dtype), label, cond, key=None
            )
            logits = whole(cond)
            if self.guided and cond:
                away = whole(null(cond))
                weight = jnp.broadcast_to(jnp.asarray(self.weight, x.dtype), len(x))
                logits = away + expand(weight, logits) * (logits - away)
            return logits / jnp.asarray(self.temperature, x.dtype)

        keys = jax.vmap(lambda key: jax.random.split(key, 2))(keys)
        begin = jax.vmap(lambda key: self.process.noise(key, x.shape[1:]))(keys[:, START])
        rows = self._hit(ask, model.sde, keys) if self.hits else self._step(ask, model.sde, keys)
        k, finite = jax.lax.scan(rows, begin, jnp.arange(self.rows))
        bad = jnp.where(finite.all(), -1, jnp.argmin(finite))
        return Result(values(k, self.process.levels), bad)

    def _step(self, ask: Ask, sde: SDE, keys: Array) -> Callable[..., Any]:
        times, gone = (jnp.asarray(a, jnp.float32) for a in (self.times, self.lost))

        def row(k: Array, r: Array) -> tuple[Array, Array]:
            t = jnp.broadcast_to(jnp.clip(times[r], sde.t_min, sde.t_max), len(k))
            logits = ask(k, t)
            whole = lambda a: jnp.broadcast_to(a, len(k))
            step = self.process.step(logits, k, whole(gone[r + 1]), whole(gone[r]))
            return draw(_row_keys(keys, r), step), jnp.isfinite(logits).all()

        return row

    def _hit(self, ask: Ask, sde: SDE, keys: Array) -> Callable[..., Any]:
        """Return the row that reveals the tokens whose rank in a random order is next.

        The times of the reveals are those of independent tokens: of n masked ones at the share m of
        lost tokens, the next is revealed at m u^(1 / n).
        """

        def row(k: Array, r: Array) -> tuple[Array, Array]:
            size = k[0].size
            each = -(-size // self.rows)
            drawn = jax.vmap(lambda key: jax.random.uniform(key, (2, size)))(keys[:, START])
            left = jnp.arange(size, 0, -1, dtype=drawn.dtype)
            log_share = jnp.cumsum(jnp.log(jnp.maximum(drawn[:, 0], LEAST)) / left[None], -1)
            rank = jnp.argsort(jnp.argsort(drawn[:, 1], -1), -1).reshape(k.shape)
            logits = ask(k, time(sde, jnp.exp(log_share[:, r * each])))
            shown = draw(_row_keys(keys, r), logits)
            return jnp.where(rank // each == r, shown, k), jnp.isfinite(logits).all()

        return row

    def suits(self, sde: SDE) -> None:
        self.origin.check(sde, np.asarray(self.times)[:-1])

    def check(self, result: Result) -> None:
        """Raise FloatingPointError where logits were not finite."""
        if (row := int(result.bad)) >= 0:
            raise FloatingPointError(f"row {row} of {self.rows}: the logits are not finite")

    def spent(self, result: Result) -> np.ndarray:
        return np.full(len(result.x), self.passes)


def _row_keys(keys: Array, r: Array) -> Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, r))(keys[:, ROWS])


def ancestral(
    sde: SDE,
    times: np.ndarray,
    process: Process,
    shape: tuple[int, ...] = (),
    temperature: float = 1.0,
    weight: float = 1.0,
) -> Tokens:
    """Draw x_s from p(x_s | x_t) for each token, between neighbouring times (R + 1,).

    The law tends to that of the network as the rows get denser, at the rate 1 / R. shape: that of
    an item, which is not used.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> ancestral(flow, np.array([1.0, 0.5, 0.0]), Masked(3)).passes
    2
    """
    return _planned(sde, np.asarray(times), process, temperature, weight, hits=False)


def first_hitting(
    sde: SDE,
    times: np.ndarray,
    process: Process,
    shape: tuple[int, ...],
    temperature: float = 1.0,
    weight: float = 1.0,
) -> Tokens:
    """Reveal ceil(D / R) of the D tokens of an item of this shape in each of R rows at most.

    times: (R + 1,), whose number alone counts. Raises ValueError for any process but the masked.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> first_hitting(flow, np.linspace(1, 0, 64), Masked(3), (8, 8, 1)).passes  # two in a row
    32
    """
    if not isinstance(process, Masked):
        raise ValueError(f"first_hitting: reveals masks, which {process} lacks; allowed: ancestral")
    size = int(np.prod(shape))
    each = -(-size // (len(times) - 1))
    times = np.linspace(times[0], 0.0, -(-size // each) + 1)
    return _planned(sde, times, process, temperature, weight, hits=True)


def _planned(
    sde: SDE, times: np.ndarray, process: Process, temperature: float, weight: float, hits: bool
) -> Tokens:
    checks.finite(temperature=temperature, weight=weight)
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: needs temperature > 0")
    gone = float64(lambda t: lost(sde, t))(times.astype(np.float64))
    if not (np.diff(gone) <= 0).all() or gone[0] < 1 or gone[-1] > 0:
        raise ValueError(f"times {times[0]:g} to {times[-1]:g}: need to fall from t_max to t_min")
    return Tokens(
        *(times.astype(np.float32), gone.astype(np.float32), weight, temperature),
        *(process, weight != 1, hits, Origin(sde)),
    )


TOKEN_SAMPLERS = {"ancestral": ancestral, "first_hitting": first_hitting}
