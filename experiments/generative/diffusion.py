"""Diffusion and flow maps by the project's own models, objectives and samplers."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diffjax import grids, samplers
from diffjax.arrays import keys_at
from diffjax.denoiser import Denoiser, Model
from diffjax.draws import Uniform
from diffjax.likelihood import Ode, logp, vlb
from diffjax.nets import NETWORKS
from diffjax.nets.conditions import To
from diffjax.objectives import MAP_RULES, PAIRS, VELOCITIES, Context, Denoising, FlowMap
from diffjax.parameterization import V, Velocity, t
from diffjax.samplers.run import scan
from diffjax.schedules import Cosine, Logit
from diffjax.sde import VP, Flow
from experiments.generative.trunk import RATES, Task, Trial, adam, descend

COSINE, FLOW = VP(Cosine(), t_min=1e-3, t_max=0.995), Flow(Logit(), t_min=1e-3, t_max=1.0)


@dataclass(frozen=True)
class Diffusion:
    """v-prediction on the cosine schedule, sampled by DPM-Solver++(2M), as `configs/digits_vp`."""

    task: Task
    width: int
    steps: ClassVar[tuple[int, ...]] = (1, 4, 30)
    trials: ClassVar[tuple[Trial, ...]] = RATES
    sampler: ClassVar[str] = "dpmpp_2m"

    @functools.cached_property
    def model(self) -> Model:
        network = NETWORKS["mlp"](width=self.width, depth=self.task.depth)
        return Model(COSINE, V(), network)

    @property
    def objective(self) -> Any:
        return Denoising(draw=Uniform(stratified=True))

    def init(self, key: Any) -> Any:
        return self.model.init(key, jnp.zeros((1, self.task.size)))

    def moments(self, params: Any) -> Any:
        return adam().init(params)

    def train_step(self, params: Any, moments: Any, x: Any, key: Any, trial: Trial) -> Any:
        loss = lambda params: self.objective(Context(self.model, params, {"x": x}, key))[0]
        return descend(loss, params, moments, trial.rate)

    def sampling(self, params: Any) -> Any:
        return params

    def sample(self, params: Any, key: Any, num: int, steps: int) -> jax.Array:
        sde, denoise = self.model.sde, Denoiser(self.model, params)
        plan = samplers.SAMPLERS[self.sampler](sde, grids.GRIDS["uniform"](sde, steps))
        x, keys = samplers.initial(sde, keys_at(key, jnp.arange(num)), (self.task.size,))
        return scan(denoise, plan, x, keys).x

    def nll(self, params: Any, x: jax.Array, key: Any) -> jax.Array:
        """Return the variational bound for levels, and the density by the ODE for real numbers."""
        denoise, keys = Denoiser(self.model, params), keys_at(key, jnp.arange(len(x)))
        if self.task.levels:
            bound = vlb(denoise, x, keys, samples=128, levels=self.task.levels)
            return bound.total * self.task.size * math.log(2)
        return -logp(denoise, x, keys, ode=Ode(steps=40)).logp


@dataclass(frozen=True)
class Map(Diffusion):
    """A flow map trained from data alone, Lagrangian self-distillation (arXiv:2505.18825)."""

    steps: ClassVar[tuple[int, ...]] = (1, 4)
    sampler: ClassVar[str] = "flow_map"
    nll: ClassVar[None] = None

    @functools.cached_property
    def model(self) -> Model:
        depth, conditions = self.task.depth, (To(),)
        network = NETWORKS["mlp"](width=self.width, depth=depth, conditions=conditions)
        return Model(FLOW, Velocity(c_noise=t), network)

    @property
    def objective(self) -> Any:
        return FlowMap(
            rule=MAP_RULES["lagrangian"](),
            velocity=VELOCITIES["own"](),
            pair=PAIRS["ordered"](),
            draw=Uniform(importance=False),
        )
