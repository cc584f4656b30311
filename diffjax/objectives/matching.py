"""Distribution matching: a generator whose noised samples have the distribution of noised data.

The generator is the student's map from noise to data in one network evaluation, or in a few with
fresh noise between them. A critic learns the denoiser of the generator's samples by the ordinary
denoising loss; the teacher is the denoiser of the data. Their difference moves the generator:

    DMD (arXiv:2311.18828, arXiv:2405.14867)   divergence kl
    SiD (arXiv:2404.04057)                     divergence fisher

There are no adversarial and no regression terms.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax.arrays import Cond, Params, catalogue, dims, expand
from diffjax.checks import finite, whole
from diffjax.denoiser import Denoiser, Model
from diffjax.draws import DRAWS, Draw, Uniform
from diffjax.grids import nested
from diffjax.objectives.base import Batch, Context, Metrics, Objective, Part, State, Task
from diffjax.objectives.denoising import Denoising
from diffjax.objectives.teachers import check_plain, check_teacher, taught
from diffjax.prediction import Denoise, Sample, Time
from diffjax.sde import SDE
from diffjax.weights import WEIGHTS, Weight, uniform_x0

UNIFORM = Uniform()


class Divergence(abc.ABC):
    """A loss `(x, real, fake) -> values (B, *d)` whose mean gradient lowers a divergence.

    x: generated samples (B, *d). real, fake: the denoised x_t of teacher and critic, (B, *d), with
    a derivative in x.
    """

    @abc.abstractmethod
    def __call__(self, x: Sample, real: Sample, fake: Sample) -> Sample: ...


@dataclass(frozen=True)
class KL(Divergence):
    """The reverse Kullback-Leibler divergence of the noised distributions, as in DMD.

    The value is (fake - real)^2 / 2, and its gradient in x is fake - real (arXiv:2405.14867, eq.
    2): with the weight `uniform_eps` it is that of the mean over t of KL(generated, data) at t, if
    the critic is at its optimum.

    >>> x, real = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> jax.grad(lambda x: KL()(x, real, 0 * real).sum())(x).tolist()  # moves x towards `real`
    [[-1.0]]
    """

    def __call__(self, x: Sample, real: Sample, fake: Sample) -> Sample:
        pull = jax.lax.stop_gradient(fake - real)
        return 0.5 * (x - jax.lax.stop_gradient(x) + pull) ** 2


@dataclass(frozen=True)
class Fisher(Divergence):
    """The Fisher divergence of the noised distributions, as in SiD (arXiv:2404.04057, eq. 23).

    The value is (real - fake) ((real - x) - a (real - fake)), with gradients through both denoisers
    into x. a = 1/2 has half the gradient of the divergence, with the weight `uniform_score`, if the
    critic is at its optimum; the paper uses 1 and 1.2, which have another gradient and the same
    fixed point.

    >>> Fisher()
    Fisher(a=1.0)
    """

    a: float = 1.0

    def __post_init__(self):
        finite(a=self.a)

    def __call__(self, x: Sample, real: Sample, fake: Sample) -> Sample:
        return (real - fake) * ((real - x) - self.a * (real - fake))


DIVERGENCES = catalogue(KL, Fisher)
KULLBACK_LEIBLER = KL()


class Match(NamedTuple):
    """The networks of one evaluation, of which only the generator is trained by its loss."""

    model: Model
    teacher: Denoise
    critic: Denoise
    cond: Cond


@dataclass(frozen=True)
class DistributionMatching(Objective):
    """Distillation into a generator by the difference of two denoisers: DMD and SiD.

    teacher: the path of a run, an export or a published checkpoint; a run that begins with its
    weights (`--resume_from`) has them in generator and critic, which is how the method is meant.
    divergence: see `DIVERGENCES`. weight: the weight of each noise level on the squared error of
    F, as in `Denoising`; by default that which is uniform in x0. draw: the distribution of the
    times at which generator and critic are trained. critic_steps: the number of steps of the critic
    per step of the generator, >= 1; between its steps the generator and its moments in the
    optimizer do not change. steps: the number of network evaluations of the generator. With more
    than one, each training sample ends after a random number of them, with fresh noise in between
    (arXiv:2405.14867, sec. 4.4); the sampler is then `consistency` on the grid `nested`.

    normalise: divide the loss of each sample by mean |x - real|, as published. The factor depends
    on x, so the mean gradient is no longer that of a divergence: even in one dimension it changes
    the sign of components of it, and moves the optimum where the critic is not exact.

    The data serve for their shape and conditions alone. The critic is `params["critic"]`, a network
    as that of the model; its learning rate has a factor of its own by `config.optimizer.rates`, a
    mapping such as {"^critic/": 2.0}. Samples, exports and averages contain the generator alone.
    The generator is trained as it is sampled, without dropout.

    Metrics: `loss_critic`; `loss_generator`, counted critic_steps times in the steps that train the
    generator and 0 in the others, so that it is right in the mean; and their sum, `loss`. Raises
    ValueError for settings out of range.

    >>> from diffjax.objectives import DIVERGENCES
    >>> sid = DistributionMatching(divergence=DIVERGENCES["fisher"](a=1.2), critic_steps=5)
    >>> [bool(sid.turns(step)["network"]) for step in range(5)]  # steps that train the generator
    [False, False, False, False, True]
    """

    parts: ClassVar[Mapping[str, Part]] = {
        "divergence": Part(DIVERGENCES),
        "weight": Part(WEIGHTS, partial=True),
        "draw": Part(DRAWS),
    }
    loads: ClassVar[tuple[str, ...]] = ("teacher",)
    companions: ClassVar[tuple[str, ...]] = ("critic",)

    teacher: Model | None = None
    divergence: Divergence = KULLBACK_LEIBLER
    weight: Weight = uniform_x0
    draw: Draw = UNIFORM
    critic_steps: int = 5
    steps: int = 1
    normalise: bool = False

    def __post_init__(self):
        whole(1, critic_steps=self.critic_steps, steps=self.steps)

    @property
    def drops_conditions(self) -> bool:
        return False

    def grids(self, sde: SDE, leads: bool) -> tuple[np.ndarray, ...]:
        return (nested(sde, self.steps),)

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError where teacher, draw or network do not suit the objective."""
        check_plain("distribution_matching", self.draw, model, task)
        if task.second_time:
            raise ValueError(
                "name='distribution_matching': trains no second time; allowed: "
                "config.network.conditions without 'to'"
            )
        check_teacher(self.teacher, model)

    def turns(self, step: int | Int[Array, ""]) -> Mapping[str, Bool[Array, ""]]:
        return {"network": jnp.asarray((step + 1) % self.critic_steps == 0)}

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Add the quantiles of the critic's times, which may be stratified over the batch."""
        return {**batch, "u": self.draw.positions(key, len(batch["x"]))}

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        batch, params = context.batch, context.params
        critic = {"network": params["critic"]}
        cond = {**batch.get("cond", {}), **batch.get("kept", {})}
        fixed = Denoiser(context.model, jax.lax.stop_gradient(critic))
        match = Match(context.model, taught(self.teacher, context), fixed, cond)
        key_x, key_critic, key_generator = jax.random.split(context.key, 3)
        x = jax.lax.stop_gradient(self._draw_x(match, params, batch, key_x))
        replaced = {"params": critic, "batch": {**batch, "x": x}, "key": key_critic, "state": ()}
        learned, _, _ = Denoising(draw=self.draw)(context._replace(**replaced))

        def descent(params: Params) -> Float[Array, ""]:
            """Return the loss of the generator."""
            key_x, key_t, key_eps = jax.random.split(key_generator, 3)
            x = self._draw_x(match, params, batch, key_x)
            u = self.draw.positions(key_t, len(x)).astype(x.dtype)
            t, factor = self.draw(match.model.sde, u, ())
            eps = jax.random.normal(key_eps, x.shape, x.dtype)
            factor *= batch.get("weight", 1.0)
            return (factor * self.descent(match, x, eps, t)).mean()

        if context.evaluating:
            value = scaled = descent(params)
        else:
            turn = self.turns(context.step)["network"]
            value = jax.lax.cond(turn, descent, lambda params: jnp.zeros(()), params)
            scaled = value * self.critic_steps
        metrics = {"loss_critic": learned, "loss_generator": scaled, "loss": learned + scaled}
        return learned + value, metrics, context.state

    def descent(self, match: Match, x: Sample, eps: Sample, t: Time) -> Float[Array, " b"]:
        """Return the generator's loss at samples x noised to t (B,), (B,)."""
        model = match.model
        x_t = model.sde.perturb(x, eps, t)
        real, fake = match.teacher(x_t, t, match.cond).x0, match.critic(x_t, t, match.cond).x0
        values = self.divergence(x, real, fake)
        if self.normalise:
            size = jnp.abs(x - real).mean(dims(x))
            values /= expand(jax.lax.stop_gradient(size), x)
        return self.weight(model, t) / uniform_x0(model, t) * values.mean(dims(values))

    def generate(
        self, model: Model, params: Params, noise: Array, last: Int[Array, " b"], cond: Cond
    ) -> Sample:
        """Return samples (B, *d) of the generator, each after `last` + 1 evaluations.

        noise: standard normal numbers (steps, B, *d), one draw per evaluation. No derivative passes
        from an evaluation to those before it.
        """
        sde, x = model.sde, jnp.zeros(noise.shape[1:], noise.dtype)
        for i, now in enumerate(nested(sde, self.steps)[:-1]):
            t = jnp.full(len(x), now, x.dtype)
            start = expand(sde.sigma(t), x) * noise[i]
            x_t = sde.perturb(jax.lax.stop_gradient(x), noise[i], t) if i else start
            x0, _ = model.views(model.output(params, x_t, t, cond, None)[0], x_t, t)
            x = jnp.where(expand(last >= i, x), x0, x)
        return x

    def _draw_x(self, match: Match, params: Params, batch: Batch, key: Key[Array, ""]) -> Sample:
        """Return as many samples of the generator as the batch has items."""
        key_noise, key_last = jax.random.split(key)
        x = batch["x"]
        noise = jax.random.normal(key_noise, (self.steps, *x.shape), x.dtype)
        last = jax.random.randint(key_last, (len(x),), 0, self.steps)
        return self.generate(match.model, params, noise, last, match.cond)
