"""Flow maps: one loss for consistency models, MeanFlow, shortcuts and their distillation.

The map X_{t->s} of the probability-flow ODE is a denoiser with a second time `to` = s (see
`rules`). Three choices define a method: the rule that the map obeys, the distribution of its times,
and the velocity that it follows. Published methods are settings:

    consistency training (iCT)   rule discrete     pair neighbours    velocity conditional
    ECT                          rule discrete     pair ratio         velocity conditional
    sCM                          rule eulerian:power=1,warmup=10000   pair to_data
    MeanFlow                     rule eulerian     pair ordered       velocity conditional or guided
    iMF                          rule eulerian     pair ordered       velocity own
    LSD                          rule lagrangian   pair ordered       velocity own
    PSD                          rule semigroup    pair ordered       velocity conditional
    shortcut                     rule semigroup    pair dyadic        velocity conditional

and with a teacher, `flow_map_distillation`: CD, sCD, AYF, LMD, and

    progressive distillation     rule progressive  pair rows          diagonal 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax.arrays import catalogue, dims, drop, expand
from diffjax.denoiser import Model
from diffjax.draws import DRAWS, Draw, LogitNormal
from diffjax.objectives.base import Batch, Context, Metrics, Objective, Part, State, Task
from diffjax.objectives.dropout import ConditionDropout, check_conditions, drops, hashable
from diffjax.objectives.errors import ERRORS, l2
from diffjax.objectives.guidance_distillation import check_range, check_task, drawn
from diffjax.objectives.pairs import PAIRS, Ordered, Pair
from diffjax.objectives.progressive import Progressive
from diffjax.objectives.rules import (
    Asked,
    Discrete,
    Eulerian,
    Lagrangian,
    Rule,
    Semigroup,
    Student,
    Velocity,
)
from diffjax.objectives.teachers import check_plain, check_teacher, taught
from diffjax.objectives.velocities import VELOCITIES, Conditional, Teacher
from diffjax.prediction import Denoise
from diffjax.sde import SDE
from diffjax.weights import WEIGHTS, Weight, uniform_output

MAP_RULES = catalogue(Eulerian, Lagrangian, Semigroup, Discrete, Progressive)
EULERIAN, ORDERED, CONDITIONAL, TEACHER = Eulerian(), Ordered(), Conditional(), Teacher()
LOGIT_NORMAL = LogitNormal(mean=-0.4, std=1.0)
"""The default distribution of both times of a pair."""
STEEP = 50.0
"""The span of noise labels above which a derivative in t is doubtful: a fast feature of the label,
sin(c_noise), turns as many radians. With 100 t, MeanFlow has over twice the error of t in one step
(experiments/few_step)."""


@dataclass(frozen=True)
class FlowMap(Objective):
    """The flow-map loss: E of weight(t) mean(error(residual)), with the residual of a rule.

    rule, pair, velocity, draw: see the module. draw: the distribution of single times; a density
    that it divides out is divided out on the diagonal alone. weight, error: as in `Denoising`, for
    residuals in units of the network output F. diagonal: the share of each batch, its first
    samples, that trains the map at s = t, the denoiser that the rules build on. condition_dropout:
    the probability that all conditions of a sample are dropped, or probabilities by name.
    self_weight: p of a factor (mean square + c)^-p, without gradient, on each sample, which makes
    the losses of all samples similar in size (MeanFlow's p = 1). self_weight_floor: c of that
    factor, > 0. With p > 0 the optimum is no longer the exact map where the distribution of the
    data given x is skewed.

    The network needs the condition `to` (`config.network.conditions`), except with the rule
    `progressive`. Metrics: `loss`, and its parts `loss_rule` and `loss_diagonal`. Raises ValueError
    for incompatible settings.

    >>> from diffjax.objectives import MAP_RULES, PAIRS
    >>> shortcut = FlowMap(rule=MAP_RULES["semigroup"](), pair=PAIRS["dyadic"](steps=128))
    >>> shortcut.diagonal, shortcut.velocity
    (0.5, Conditional())
    """

    parts: ClassVar[Mapping[str, Part]] = {
        "rule": Part(MAP_RULES),
        "pair": Part(PAIRS),
        "velocity": Part(VELOCITIES),
        "draw": Part(DRAWS),
        "weight": Part(WEIGHTS, partial=True),
        "error": Part(ERRORS, partial=True),
    }

    rule: Rule = EULERIAN
    pair: Pair = ORDERED
    velocity: Velocity = CONDITIONAL
    draw: Draw = LOGIT_NORMAL
    weight: Weight = uniform_output
    error: Any = l2
    diagonal: float = 0.5
    condition_dropout: ConditionDropout = 0.0
    self_weight: float = 0.0
    self_weight_floor: float = 1e-3

    def __post_init__(self):
        object.__setattr__(self, "condition_dropout", hashable(self.condition_dropout))
        if not 0 <= self.diagonal <= 1:
            raise ValueError(f"diagonal={self.diagonal}: needs 0 <= diagonal <= 1")
        if not (self.self_weight >= 0 and self.self_weight_floor > 0):
            raise ValueError(
                f"self_weight={self.self_weight}, self_weight_floor={self.self_weight_floor}: "
                f"need self_weight >= 0 and self_weight_floor > 0"
            )
        if self.rule.anywhere and not self.velocity.anywhere:
            raise ValueError(
                "velocity='conditional': is known only at the samples, but this rule needs it at "
                "other points; allowed: velocity='own' or 'teacher'"
            )
        if self.velocity.taught != bool(self.loads):
            raise ValueError(
                "velocity='teacher', name='flow_map_distillation': each needs the other"
            )
        if not self.rule.leads and (self.diagonal or not self.velocity.taught):
            raise ValueError(
                f"rule='progressive', diagonal={self.diagonal}: trains rows of a teacher only; "
                f"allowed: name='flow_map_distillation' with diagonal=0.0"
            )
        if not (self.rule.leads or self.pair.settled):
            raise ValueError(
                "pair: the rule 'progressive' needs one s for each t; allowed: rows, segments, "
                "to_data, neighbours, ratio"
            )

    @property
    def drops_conditions(self) -> bool:
        return drops(self.condition_dropout)

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError where draw and velocity are incompatible with model or data."""
        check_plain("flow_map", self.draw, model, task)
        self.pair.check(model.sde)
        check_conditions(self.condition_dropout, task.conditions)
        if task.second_time is False and self.rule.leads:
            raise ValueError(
                "name='flow_map': needs a network that takes a second time, by "
                "config.network.conditions={'to': {'size': 1}}"
            )
        if task.conditions == () and self.velocity.guides:
            raise ValueError("velocity='guided': the data have no condition; allowed: conditional")
        for times in self.pair.grids(model.sde):
            if times[0] > model.sde.t_max or times[-2] < model.sde.t_min * (1 - 1e-6):
                raise ValueError(
                    f"pair: its times from {times[0]:g} to {times[-2]:g} leave [t_min, t_max] = "
                    f"[{model.sde.t_min:g}, {model.sde.t_max:g}]"
                )

    def doubt(self, model: Model) -> str:
        label, sde = model.parameterization.c_noise, model.sde
        span = float(jnp.ptp(label(sde, jnp.asarray([sde.t_min, sde.t_max]))))
        if not (self.rule.in_t and span > STEEP):
            return ""
        name = getattr(label, "__name__", str(label))
        return (
            f"config.parameterization.c_noise={name!r}: the rule eulerian differentiates the "
            f"network in t, and features of a label that spans {span:.4g} vary too fast in t; "
            f"c_noise='t' trains better"
        )

    def grids(self, sde: SDE, leads: bool) -> tuple[np.ndarray, ...]:
        return self.pair.grids(sde) if leads == self.rule.leads else ()

    def init_state(self, model: Model) -> State:
        return self.draw.init()

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Add the quantiles of all first times, which may be stratified over the whole batch."""
        return {**batch, "u": self.draw.positions(key, len(batch["x"]))}

    def _student(self, context: Context, key_drop: Key[Array, ""], key: Any) -> Student:
        rates = 0.0 if context.evaluating else self.condition_dropout
        cond = drop(context.batch.get("cond", {}), key_drop, rates)
        cond = {**cond, **context.batch.get("kept", {})}
        model = context.model.bind(context.params)
        return Student(model, context.params, cond, key, self.holds(context))

    def holds(self, context: Context) -> Denoise | None:
        """Return the teacher, if any."""
        return None

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        batch, state = context.batch, context.state
        key_t, key_eps, key_drop, key_network = jax.random.split(context.key, 4)
        x0 = batch["x"]
        student = self._student(context, key_drop, key_network)
        sde = student.model.sde
        u = jax.random.uniform(key_t, (3, len(x0)), x0.dtype)
        u = u.at[0].set(batch["u"].astype(x0.dtype)) if "u" in batch else u
        eps = jax.random.normal(key_eps, x0.shape, x0.dtype)
        first = round(self.diagonal * len(x0))
        factor = jnp.broadcast_to(batch.get("weight", 1.0), (len(x0),))
        mask = jnp.broadcast_to(batch.get("mask", 1.0), x0.shape)
        losses = []
        for part, off in ((slice(first), False), (slice(first, None), True)):
            cut = jax.tree.map(lambda a, part=part: a[part], (x0, eps, factor, mask, student.cond))
            if not len(cut[0]):
                continue
            some, noise, counted, seen, cond = cut
            here = student._replace(cond=cond)
            times = self.pair(sde, self.draw, u[:, part], state, context.step)
            if not off:
                t, counts = self.draw(sde, u[0, part], state)
                times, counted = times._replace(t=t), counted * counts
            x = sde.perturb(some, noise, times.t)
            asked = Asked(x, some, noise, times, context.step)
            residual = self.rule(here, asked, self.velocity) if off else self._diagonal(here, asked)
            losses.append((off, counted * self._weighed(student.model, times.t, residual * seen)))
        value = jnp.concatenate([loss for _, loss in losses]).mean()
        metrics = {"loss": value}
        metrics |= {("loss_rule" if off else "loss_diagonal"): a.mean() for off, a in losses}
        return value, metrics, state

    def _diagonal(self, student: Student, asked: Asked) -> Array:
        """Return F at s = t minus that of the target's views."""
        x, t = asked.x, asked.times.t
        (x0, eps), _ = self.velocity(student, x, t, (asked.x0, asked.eps))
        a, b = student.model.parameterization.target(student.model.sde, t)
        return student.output(x, t, t) - (expand(a, x) * x0 + expand(b, x) * eps)

    def _weighed(self, model: Model, t: Array, residual: Array) -> Float[Array, " b"]:
        each = self.error(residual).mean(dims(residual))
        if self.self_weight:
            size = (residual**2).mean(dims(residual)) + self.self_weight_floor
            each *= jax.lax.stop_gradient(size**-self.self_weight)
        return self.weight(model, t) * each


@dataclass(frozen=True)
class FlowMapDistillation(FlowMap):
    """Distillation of a teacher's denoiser into a flow map, such as consistency distillation.

    teacher: the path of a run, an export or a published checkpoint. weights: the range of guidance
    weights, drawn uniformly, that both networks receive as the condition `guidance`; () where they
    do not take it. The other settings are those of `FlowMap`; the share `diagonal` of each batch
    copies the teacher.

    >>> FlowMapDistillation.loads, FlowMapDistillation().velocity
    (('teacher',), Teacher(guidance=1.0))
    """

    loads: ClassVar[tuple[str, ...]] = ("teacher",)

    velocity: Velocity = TEACHER
    teacher: Model | None = None
    weights: tuple[float, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.weights:
            check_range(self.weights)

    @property
    def guides(self) -> tuple[float, ...]:
        return self.weights

    def _student(self, context: Context, key_drop: Key[Array, ""], key: Any) -> Student:
        student = super()._student(context, key_drop, key)
        if not self.weights:
            return student
        key_weight, size = jax.random.fold_in(key_drop, 1), len(context.batch["x"])
        return student._replace(cond=drawn(self.weights, key_weight, size, student.cond))

    def holds(self, context: Context) -> Denoise:
        return taught(self.teacher, context)

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError as `FlowMap`, and for noise levels unknown to the teacher."""
        super().check(model, task)
        guidance = getattr(self.velocity, "guidance", 1.0)
        if self.weights:
            check_task(task)
        if self.weights and guidance != 1:
            raise ValueError(
                f"velocity.guidance={guidance:g}: the teacher receives its weight; allowed: 1"
            )
        if task.takes_weight and not self.weights:
            raise ValueError("weights=(): the network takes a guidance weight; needs its range")
        if task.conditions == () and guidance != 1:
            raise ValueError(
                f"velocity.guidance={guidance:g}: the data have no condition; allowed: guidance=1"
            )
        check_teacher(self.teacher, model)
