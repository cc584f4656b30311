"""Denoising score matching in all its forms: one loss with settings.

DDPM's simple loss, v- and x0-prediction, score and flow matching, EDM, min-SNR, likelihood
weighting and the variational bound are settings of `Denoising`: the parameterization of the model
defines F, `weight` the weighting of noise levels, and `draw` the distribution of training times
(arXiv:2006.11239, eq. 14; arXiv:2303.00848).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax import checks, likelihood
from diffjax.arrays import Params, drop, expand
from diffjax.denoiser import Model
from diffjax.draws import DRAWS, Draw, Uniform
from diffjax.objectives.base import (
    Batch,
    Context,
    Metrics,
    Objective,
    Part,
    State,
    Task,
    check_batch,
)
from diffjax.objectives.dropout import ConditionDropout, check_conditions, drops, hashable
from diffjax.objectives.errors import ERRORS, l2
from diffjax.objectives.pairings import PAIRINGS, Pairing, independent, stored
from diffjax.prediction import Prediction
from diffjax.weights import WEIGHTS, Weight, elbo, uniform_output

UNIFORM = Uniform()
COSINES = 16
"""Number of cosines in the learned uncertainty as a function of the noise level."""


@dataclass(frozen=True)
class Denoising(Objective):
    """The denoising loss: E over t, eps of weight(t) mean(error(F - (a x0 + b eps))).

    F is the network output at x_t. The mean is over the values of an item, or over those where the
    batch's `mask` is 1; in a space, which x0 and eps are projected into, it is over the rank.

    weight: the weight of each noise level, an entry of `WEIGHTS`. draw: the distribution of times.
    error: the error of the output per value. condition_dropout: the probability that all conditions
    of a sample are dropped, for classifier-free guidance (arXiv:2207.12598), or probabilities by
    name, each condition independently. pairing: of items and noises of a batch, within a class
    where there are labels, or as the data store them; unless it is independent, eps is no score,
    and only ODEs can sample. uncertainty: learn the uncertainty u of each noise level as a function
    of the log-SNR, and minimise loss / exp(u) + u (arXiv:2312.02696, eq. 21). hybrid: the factor of
    the bound of a discrete process, in bits per dimension, which trains the second output of a
    network without affecting F (arXiv:2102.09672, sec. 3.1). steps: the number of steps of that
    process. bound: add prior and decoder terms; with the weight elbo the loss is then the
    variational bound in nats per dimension.

    Metrics: `loss`, the weighted error; `bound` and `hybrid`, the terms that these add;
    `loss_at_logsnr` (2, bins), sums and counts of the loss by noise level. Raises ValueError for
    settings out of range.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> network = nets.Network(lambda *shapes: {}, lambda params, x, *_, key=None: 0 * x)
    >>> model = Model(sde.Flow(schedules.Logit()), parameterization.X0(), network)
    >>> context = Context(model, {"network": {}}, {"x": jnp.full((4, 2), 3.0)}, jax.random.key(0))
    >>> loss, metrics, state = Denoising()(context)
    >>> float(loss), sorted(metrics)  # the network predicts 0, and x0 is 3
    (9.0, ['loss', 'loss_at_logsnr'])
    """

    masks: ClassVar[bool] = True
    spaces: ClassVar[bool] = True
    parts: ClassVar[Mapping[str, Part]] = {
        "weight": Part(WEIGHTS, partial=True),
        "error": Part(ERRORS, partial=True),
        "pairing": Part(PAIRINGS, partial=True),
        "draw": Part(DRAWS),
    }

    weight: Weight = uniform_output
    draw: Draw = UNIFORM
    error: Callable[..., Any] = l2
    pairing: Pairing = independent
    condition_dropout: ConditionDropout = 0.0
    uncertainty: bool = False
    hybrid: float = 0.0
    steps: int = 1000
    bound: bool = False

    def __post_init__(self):
        by_name = "names are for configs only"
        known = f"those of diffjax.weights, objectives.ERRORS, objectives.PAIRINGS; {by_name}"
        functions = {"weight": self.weight, "error": self.error, "pairing": self.pairing}
        checks.function(known, **functions)
        checks.instance(Draw, f"diffjax.draws.Uniform(); {by_name}", draw=self.draw)
        object.__setattr__(self, "condition_dropout", hashable(self.condition_dropout))
        checks.finite(hybrid=self.hybrid)
        if not self.hybrid >= 0:
            raise ValueError(f"hybrid={self.hybrid}: needs hybrid >= 0")
        checks.whole(2, steps=self.steps)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("noise",) if self.pairing is stored else ()

    @property
    def drops_conditions(self) -> bool:
        return drops(self.condition_dropout)

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError where weight, draw and error are incompatible with model or data."""
        self.draw.check(model.sde)
        one = jnp.ones(1)
        jax.eval_shape(lambda: (self.weight(model, one * model.sde.t_min), self.error(one)))
        exact = self.weight is elbo and self.error is l2 and not self.uncertainty
        if self.bound and not (exact and self.draw.importance):
            raise ValueError(
                "bound=True is the variational bound only with weight='elbo', error='l2', no "
                "uncertainty, and a draw whose density is divided out: uniform, or importance=True"
            )
        if self.pairing is not independent and (self.bound or self.hybrid):
            raise ValueError(
                "bound, hybrid: need independent noise; allowed: pairing='independent'"
            )
        if model.sde.schedule.init() and not self.bound:
            raise ValueError(
                "a learned schedule needs weight='elbo' and bound=True: other losses fall when "
                "the schedule shrinks"
            )
        self._check_task(task)

    def _check_task(self, task: Task) -> None:
        check_conditions(self.condition_dropout, task.conditions)
        if task.second_output is not None and bool(self.hybrid) != task.second_output:
            raise ValueError(
                f"hybrid={self.hybrid:g}: trains the second output of a network, but "
                f"config.network.learn_variance={task.second_output}; allowed: both or neither"
            )
        if task.form and task.form.ends and self.hybrid:
            raise ValueError(
                f"hybrid={self.hybrid:g}: is a mean over all values, which includes the padding of "
                f"data with lengths; allowed: 0"
            )
        if task.form and task.form.ends and self.pairing is not independent:
            raise ValueError(
                "pairing: compares whole items with noises, but the data have lengths; allowed: "
                "pairing='independent'"
            )
        if self.bound and task.dequantized:
            raise ValueError("bound=True: has its own decoder; allowed: data.dequantize=False")
        if self.bound and task.form and task.form.dtype != "uint8":
            raise ValueError(
                f"bound=True: needs images in grey levels; the data are {task.form.kind} "
                f"{task.form.shape} of {task.form.dtype}"
            )
        if self.reads and task.fields is not None and "noise" not in task.fields:
            raise ValueError(
                f"pairing='stored': the data have no condition 'noise', only "
                f"{', '.join(task.fields) or 'none'}; diffjax.tools.pairs writes such data"
            )
        if self.reads and task.changes:
            raise ValueError(
                f"pairing='stored': {task.changes} changes items and not their noise; allowed: "
                f"neither augment nor dequantize"
            )
        others = [name for name in task.conditions or () if name != "label"]
        if self.pairing not in (independent, stored) and others:
            raise ValueError(
                f"pairing: pairs items within a class, so the noise would depend on the condition "
                f"{others[0]!r}; allowed: pairing='independent'"
            )
        if task.noisy and self.pairing is not independent:
            raise ValueError(
                f"pairing: does not train a score, but {task.noisy} adds noise; allowed: "
                f"pairing='independent', or ddim, heun and other ODE samplers without a corrector"
            )

    def init(self, model: Model, key: Key[Array, ""], x: Float[Array, "b *d"]) -> Params:
        return {"uncertainty": jnp.zeros(COSINES)} if self.uncertainty else {}

    def init_state(self, model: Model) -> State:
        return self.draw.init()

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Add the quantiles u of all times, which may be stratified over the whole batch."""
        return {**batch, "u": self.draw.positions(key, len(batch["x"]))}

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        params, batch, state = context.params, context.batch, context.state
        check_batch(batch)
        model = context.model.bind(params)
        key_t, key_eps, key_drop, key_network = jax.random.split(context.key, 4)
        x0 = batch["x"]
        u = batch["u"] if "u" in batch else self.draw.positions(key_t, len(x0))
        t, factor = self.draw(model.sde, u.astype(x0.dtype), state)
        if self.reads and "noise" not in batch:
            raise ValueError("pairing='stored': needs batch['noise'], the noise of each item")
        drawn = jax.random.normal(key_eps, x0.shape, x0.dtype)
        noise = batch["noise"].astype(x0.dtype) if self.reads else drawn
        eps = self.pairing(x0, noise, batch.get("cond", {}).get("label"))
        x0, eps = (model.space.project(a, batch.get("mask")) for a in (x0, eps))
        x = model.sde.perturb(x0, eps, t)
        rates = 0.0 if context.evaluating else self.condition_dropout
        cond = drop(batch.get("cond", {}), key_drop, rates)
        cond = {**cond, **batch.get("kept", {})}
        output, log_var = model.output(params, x, t, cond, key_network)

        a, b = model.parameterization.target(model.sde, t)
        target = expand(a, x0) * x0 + expand(b, x0) * eps
        error = self.error(output - target)
        weighted = self.weight(model, t) * model.space.mean(error, batch.get("mask"))
        weight = batch.get("weight", 1.0)
        counted = weight * factor
        metrics = {
            "loss": (counted * weighted).mean(),
            "loss_at_logsnr": _by_logsnr(model, t, weighted),
        }
        value = metrics["loss"] + model.sde.schedule.variance(t, weighted, factor)
        if self.uncertainty:
            u = _cosines(model, t) @ params["loss"]["uncertainty"]
            value = (counted * (weighted * jnp.exp(-u) + u)).mean()
        if self.bound:
            ends = likelihood.prior_kl(model.sde, x0) + likelihood.end_nll(model.sde, x0, eps)
            metrics["bound"] = (weight * ends).mean() / x0[0].size
            value += metrics["bound"]
        if self.hybrid:
            metrics["hybrid"] = (counted * self._variance(model, x0, x, t, output, log_var)).mean()
            value += metrics["hybrid"]
        views = model.views(output, x, t)
        scores = (views[1] / expand(model.sde.sigma(t), x)) ** 2
        score = model.space.mean(scores, batch.get("mask"))
        state = self.draw.update(state, model.sde, t, weighted, score)
        return value, metrics, state

    def _variance(
        self, model: Model, x0: Array, x: Array, t: Array, output: Array, log_var: Array | None
    ) -> Array:
        """Return `hybrid` times the bound of `steps` steps, estimated from the step at t, (B,).

        It is in bits per dimension.
        """
        if log_var is None:
            raise ValueError(f"hybrid={self.hybrid}: the network has no second output; allowed: 0")
        s = t - 1 / self.steps
        s = jnp.where(s < 0.5 / self.steps, 0.0, s)
        # The bound trains the variance only, as in the paper; F follows the weighted error.
        held = jax.lax.stop_gradient(output)
        seen = Prediction(held, *model.views(held, x, t), log_var)
        nats = likelihood.step_nll(model.sde, x0, x, s, t, seen)
        return self.hybrid * self.steps / (x0[0].size * math.log(2)) * nats


def _cosines(model: Model, t: Array) -> Array:
    """Return cos(pi k y), k < COSINES, with y in (0, 1) a sigmoid of the log-SNR: (B, COSINES)."""
    y = jax.nn.sigmoid(model.sde.logsnr(t) / 4)
    return jnp.cos(jnp.pi * y[:, None] * jnp.arange(COSINES)[None])


def _by_logsnr(model: Model, t: Array, loss: Array) -> Array:
    """Return the sums of the losses in each bin of log-SNR, and their counts: (2, bins)."""
    inside = likelihood.at_level(model.sde, t)
    return jax.lax.stop_gradient(jnp.stack([loss @ inside, inside.sum(0)]))
