"""A network with a constant output that records its inputs, for tests of losses."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.denoiser import Model
from diffjax.draws import Draw
from diffjax.nets import Network
from diffjax.objectives import Context
from diffjax.parameterization import X0
from diffjax.schedules import Linear
from diffjax.sde import VP

SDE = VP(Linear(), t_min=0.01)


def seed(n):
    """Return a key whose programs compile fast."""
    return jax.random.key(n, impl="unsafe_rbg")


def init(key, x, c_noise, cond):
    return {}


@dataclass(frozen=True)
class Fixed(Draw):
    """A draw with a constant t."""

    at: float = 0.5

    def quantile(self, sde, u, state):
        return self.at + 0 * u


class Run(NamedTuple):
    value: Any
    metrics: Any
    x: Any
    t: Any
    cond: Any


def run(loss, batch, sde=SDE, parameterization=X0(scale_input=False), said=0.0, second=None):
    """Run a loss whose network returns `said` and `second`; return it and the network's inputs."""

    @jax.jit
    def go(batch):
        asked = []

        def apply(params, x, c_noise, cond, *, key=None):
            assert key is not None, "the network must be given a dropout key"
            asked.append((x, c_noise / 1000, cond))
            first = jnp.full_like(x, said)
            return first if second is None else (first, jnp.full_like(x, second))

        model = Model(sde, parameterization, Network(init, apply))
        value, metrics, _ = loss(Context(model, {"network": {}}, batch, seed(0), loss.draw.init()))
        return Run(value, metrics, *asked[0])

    return go(batch)


def images(*shape):
    """Return values of 256 levels in [-1, 1]."""
    return (np.random.default_rng(0).integers(0, 256, shape) / 127.5 - 1).astype(np.float32)
