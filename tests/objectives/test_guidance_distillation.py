"""Distilled guidance: the fixed point is the guided teacher, and weight 1 is the teacher."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic, builder, guidance, schedules
from diffjax.arrays import expand
from diffjax.config import ConfigError, load, override
from diffjax.denoiser import Denoiser, Model
from diffjax.nets import Network, mlp
from diffjax.nets.conditions import Guidance, Label
from diffjax.objectives import (
    MAP_RULES,
    PAIRS,
    Context,
    FlowMapDistillation,
    GuidanceDistillation,
    Task,
)
from diffjax.parameterization import V
from diffjax.sde import VP

SDE = VP(schedules.Cosine(), t_max=0.99)
WEIGHTS, GUIDED = (1.0, 4.0), guidance.Guided()


def data():
    """Return a mixture of two classes, in the type that is enabled."""
    parts = [0.4, 0.6], [[-1.0], [0.8]], [[0.04], [0.09]]
    return analytic.Mixture(*map(jnp.asarray, parts))


@dataclass(frozen=True)
class Exact:
    """The output of the exact denoiser of the mixture, guided by the condition `guidance`."""

    def __call__(self, params, x, t, cond, *, key=None):
        denoise, label = data().denoiser(SDE), cond["label"]
        x = x / expand(V(c_noise=exact_time).c_in(SDE, t), x)
        p, q = denoise(x, t, {"label": label}), denoise(x, t, {"label": jnp.full_like(label, -1)})
        w = cond.get("guidance", jnp.ones(len(x)))[:, None]
        a, b = V().target(SDE, t)
        views = [free + w * (given - free) for given, free in ((p.x0, q.x0), (p.eps, q.eps))]
        output = expand(a, x) * views[0] + expand(b, x) * views[1]
        return output + params["shift"] * (1 + w * params["slope"])


def exact_time(sde, t):
    return t


def model(apply):
    network: Any = Network
    return Model(SDE, V(c_noise=exact_time), network(lambda *_: {}, apply))


def context(objective, shift=0.0, slope=0.0):
    label = jnp.arange(64) % 2
    x = 0.3 * jax.random.normal(jax.random.key(1), (64, 1)) + 2.0 * label[:, None] - 1
    params = {"network": {"shift": shift, "slope": slope}}
    held = {"teacher": {"network": {"shift": 0.0, "slope": 0.0}}}
    batch = {"x": x, "cond": {"label": label}}
    return Context(model(Exact()), params, batch, jax.random.key(2), held=held)


def test_the_guided_denoiser_is_the_optimum_and_others_are_not(x64):
    """The student would learn another weight, or guidance by its own predictions (F16)."""
    objective = GuidanceDistillation(teacher=model(Exact()), weights=WEIGHTS)
    value = jax.jit(lambda shift: objective(context(objective, shift, 0.5))[0])
    assert value(0.0) < 1e-20 < 1e-3 < value(0.1)


@pytest.mark.thorough
def test_progressive_distillation_passes_the_weight_to_both_networks(x64):
    """The student of a guided student would learn the weight 1 alone."""
    pair = PAIRS["rows"](steps=1, times=(0.9, 0.899, 0.0))
    settings = {"rule": MAP_RULES["progressive"](), "pair": pair, "diagonal": 0.0}
    objective = FlowMapDistillation(teacher=model(Exact()), weights=WEIGHTS, **settings)
    near = objective(context(objective))[0]
    ignoring = FlowMapDistillation(teacher=model(unguided), weights=WEIGHTS, **settings)
    assert near < 0.05 * ignoring(context(ignoring))[0]


def unguided(params, x, t, cond, *, key=None):
    return Exact()(params, x, t, {"label": cond["label"]})


def test_a_new_student_is_its_teacher_and_weight_1_always_is():
    """Training would begin at random, and samples without guidance change with its weight."""
    x, t, label = jnp.ones((4, 2)), jnp.full(4, 0.5), jnp.array([0, 0, 0, 0])
    network = mlp(8, 1, conditions=(Label(2), Guidance()))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, t, {"label": label})
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(a.dtype), shapes)
    apply = jax.jit(lambda params, w: network.apply(params, x, t, {"label": label, "guidance": w}))
    weights = np.array([1.0, np.nan, 2.0, 3.0], np.float32)
    one, missing, two, three = apply(params, weights)
    np.testing.assert_array_equal(one, missing)
    assert np.abs(two - one).max() > 1e-3 < np.abs(three - two).max()
    params["Embedding_0"]["guidance_out"]["kernel"] *= 0  # as it is initialised
    one, *others = apply(params, weights)
    for other in others:
        np.testing.assert_array_equal(other, one)


def test_sampling_sets_the_weight_in_one_pass():
    """`--guidance` would run a second pass, or leave the condition out."""
    query = guidance.Query(
        Denoiser(model(Exact()), {"network": {"shift": 0.0, "slope": 0.0}}),
        jnp.array([[0.3], [-0.4]]),
        jnp.full(2, 0.5),
        {"label": jnp.array([0, 1])},
    )
    by = jax.jit(lambda of, query, w: of(query, w, of.init(query.x))[0].x0)
    one, two = (by(of, query, jnp.array([3.0, 1.0])) for of in (guidance.Distilled(), GUIDED))
    np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-5)
    changes = ["network.width=8", "network.depth=1", "data.size=50", "sampling.steps=2"]
    config = override(load("moons_vp"), changes)
    config["network"]["conditions"] = {"guidance": {"size": 1}}
    config["loss"] = {"name": "guidance_distillation", "teacher": "runs/none", "weights": (1, 3)}
    config["sampling"]["guidance"] = 2.5
    e = builder.experiment(config)
    plan: Any = e.plan(e.model.sde)
    assert plan.guidance == guidance.Distilled() and plan.passes == 2 and not builder.doubts(e)
    assert "weight [4.0]" in "".join(builder.doubts(e, [4.0]))
    config["sampling"]["guidance"] = {"weight": 2.0, "rule": "apg"}
    with pytest.raises(ConfigError, match="weight of distilled guidance"):
        builder.experiment(config)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: GuidanceDistillation(weights=(3.0, 1.0)), "weights="),
        (lambda: FlowMapDistillation(weights=(1.0,)), "two guidance weights"),
        (lambda: checked(GuidanceDistillation, conditions=()), "no condition to guide by"),
        (lambda: checked(GuidanceDistillation, takes_weight=False), "'guidance': {'size': 1}"),
        (lambda: checked(FlowMapDistillation, takes_weight=True), "needs its range"),
        (lambda: Guidance(size=2), "needs size=1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()


def checked(objective, **task):
    of = model(Exact())
    return objective(teacher=of).check(of, Task(**task))
