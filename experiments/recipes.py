"""Any recipe of training as four functions of the log-SNR, so that one program trains them all.

A network that is told the log-SNR, and whose input is scaled to unit variance, sees the same in
every frame. Process, schedule, parameterization, weight and distribution of times then matter in
three ways only: how often each log-SNR is seen, what the network is asked for there, and how much
its error counts (arXiv:2303.00848, sec. 3; arXiv:2206.00364, sec. 5). `recipe` tabulates these from
the library's own objects; the tables are traced, so that a study of many recipes compiles once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffjax.arrays import Cond, float64
from diffjax.denoiser import Denoiser, Model
from diffjax.draws import Draw
from diffjax.nets.network import Network
from diffjax.objectives import Context, Denoising
from diffjax.parameterization import Parameterization
from diffjax.prediction import Prediction
from diffjax.sde import SDE
from diffjax.training.ema import Power, update
from diffjax.training.optimizer import adam, optimizer
from experiments.plane import PROCESS

KNOTS = 4097
"""Points of each table: linear interpolation is off by 1e-5 or less of what it stands for."""


class Data(Protocol):
    """A pytree that training items are drawn from; `Mixture` is one."""

    def sample(self, key: Any, n: int) -> tuple[Any, Any]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Items:
    """A set of items (N, *d) and their labels (N,), drawn with replacement."""

    x: Any
    label: Any

    def sample(self, key: Any, n: int) -> tuple[Any, Any]:
        index = jax.random.randint(key, (n,), 0, len(self.x))
        return self.x[index], self.label[index]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Recipe:
    """times (KNOTS,): quantiles of the training times, in t of PROCESS. a, b, weight (KNOTS,), at
    even t in [0, 1] of PROCESS: the target F = a x0 + b eps, and the factor on its squared error.
    sigma_data: deviation of the data."""

    times: Any
    a: Any
    b: Any
    weight: Any
    sigma_data: float = field(metadata={"static": True})

    def model(self, network: Network) -> Model:
        """The model under PROCESS; inside of a traced function, for it cannot be hashed."""
        return Model(PROCESS, _Target(sigma_data=self.sigma_data, recipe=self), network)

    def loss(self, condition_dropout: float = 0.0) -> Denoising:
        weight = lambda model, t: _lookup(self.weight, t)
        draw = _Times(stratified=True, recipe=self)
        return Denoising(weight, draw, condition_dropout=condition_dropout)


def _lookup(values: Any, t: Any) -> Any:
    """Linear interpolation of values at even points of [0, 1]."""
    at = t * (KNOTS - 1)
    below = jnp.clip(at.astype(int), 0, KNOTS - 2)
    return values[below] + (at - below) * (values[below + 1] - values[below])


@dataclass(frozen=True, eq=False)
class _Target(Parameterization):
    recipe: Any = None

    def target(self, sde: SDE, t: Any) -> tuple[Any, Any]:
        return _lookup(self.recipe.a, t), _lookup(self.recipe.b, t)

    def check(self, sde: SDE) -> None:
        """`recipe` asked the original."""


@dataclass(frozen=True, eq=False)
class _Times(Draw):
    recipe: Any = None

    def quantile(self, sde: SDE, u: Any, state: Any) -> Any:
        return _lookup(self.recipe.times, u)


def recipe(
    sde: SDE, parameterization: Parameterization, loss: Denoising, sigma_data: float
) -> Recipe:
    """What a training does with the noise levels of PROCESS, all others left out.

    The weight is scaled so that the loss of F = 0 is 1, which Adam would hardly see, but the limit
    on its gradients would.
    """
    ends = PROCESS.logsnr(jnp.asarray([PROCESS.t_min, PROCESS.t_max]))
    first, last = (float(t) for t in float64(sde.inverse)(np.asarray(ends)))
    sde = replace(sde, t_min=first, t_max=min(last, 1.0))
    if loss.draw.importance and not _uniform(loss.draw, sde):
        raise ValueError(f"{loss.draw}: its density is divided out; allowed: uniform times")
    model = Model(sde, parameterization, NONE)
    times = float64(lambda u: PROCESS.inverse(sde.logsnr(loss.draw.quantile(sde, u, ()))))

    def at(t: Any) -> Any:
        own = sde.inverse(PROCESS.logsnr(jnp.clip(t, PROCESS.t_min, PROCESS.t_max)))
        a, b = parameterization.target(sde, own)
        return jnp.stack([a, b, loss.weight(model, own)])

    even = np.linspace(0, 1, KNOTS)
    drawn, (a, b, weight) = times(even), float64(at)(even)
    seen = lambda values: np.interp(drawn, even, values)
    weight = weight / np.mean(seen(weight) * ((seen(a) * sigma_data) ** 2 + seen(b) ** 2))
    made = [jnp.asarray(v, jnp.float32) for v in (drawn, a, b, weight)]
    return Recipe(made[0], made[1], made[2], made[3], sigma_data)


_nothing: Any = lambda *_, **__: {}
NONE = Network(init=_nothing, apply=_nothing)


def _uniform(draw: Draw, sde: SDE) -> bool:
    u = np.linspace(0, 1, 5)
    t = float64(lambda u: draw.quantile(sde, u, ()))(u)
    return bool(np.allclose(np.diff(t), t[1] - t[0]))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trained:
    """The denoiser of a recipe's network: arrays are its leaves, so that recipes share programs."""

    recipe: Recipe
    params: Any
    network: Network = field(metadata={"static": True})
    sde: SDE = field(default=PROCESS, metadata={"static": True})

    def __call__(self, x: Any, t: Any, cond: Cond | None = None, *, key: Any = None) -> Prediction:
        return Denoiser(self.recipe.model(self.network), self.params)(x, t, cond, key=key)


@dataclass(frozen=True)
class Training:
    """What all recipes of a study share. dropout: share of items without their label, for data that
    have one; None where the network is told none."""

    network: Network
    batch: int = 256
    learning_rate: float = 2e-3
    warmup: int = 100
    average: float = 0.1
    dropout: float | None = None


@functools.partial(jax.jit, static_argnames="how")
def train(recipe: Recipe, data: Data, seed: int, steps: int, how: Training) -> Trained:
    """The power-function average (arXiv:2312.02696) of the parameters after `steps` of Adam.

    Every step sees new draws of `data`. Recipe, seed and steps are traced.
    """
    model, loss = recipe.model(how.network), recipe.loss(how.dropout or 0.0)
    descent, average = optimizer(adam, how.learning_rate, how.warmup), Power(how.average)
    key = jax.random.key(seed)

    def batch(key: Any) -> dict[str, Any]:
        x, label = data.sample(key, how.batch)
        return {"x": x} | ({} if how.dropout is None else {"cond": {"label": label}})

    def step(index: Any, state: Any) -> Any:
        params, averaged, moments = state
        pick, draw = jax.random.split(jax.random.fold_in(key, index))
        objective = lambda params: loss(Context(model, params, batch(pick), draw))[0]
        updates, moments = descent.update(jax.grad(objective)(params), moments, params)
        params: Any = optax.apply_updates(params, updates)
        return params, update(averaged, params, average(index, how.batch)), moments

    first = batch(key)
    params = model.init(key, first["x"], first.get("cond"))
    state = (params, params, descent.init(params))
    return Trained(recipe, jax.lax.fori_loop(0, steps, step, state)[1], how.network)
