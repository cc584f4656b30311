"""How predictions combine, and how often the network is really called."""

from dataclasses import dataclass, field, replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture, MixtureDenoiser
from diffjax.grids import uniform
from diffjax.guidance import GUIDANCES, ClassifierFree, Conditional
from diffjax.samplers import ddim, sample
from diffjax.samplers.generate import Plan
from diffjax.schedules import Linear
from diffjax.sde import VP

SDE = VP(Linear())
LABEL = np.array([0, 1, 1, 0, -1])
B = len(LABEL)


class Calls(list):
    """Batch sizes of the calls that were made; a program holds it by identity."""

    __hash__ = object.__hash__


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Counted:
    """A denoiser that writes down, at run time, the size of each batch that it is given."""

    denoise: MixtureDenoiser
    calls: Any = field(metadata={"static": True})

    @property
    def sde(self):
        return self.denoise.sde

    def __call__(self, x, t, cond=None, *, key=None):
        size = x.shape[0]
        jax.debug.callback(lambda: self.calls.append(size))
        return self.denoise(x, t, cond, key=key)


def exact():
    mean = jnp.array([[-1.0, 0.5], [1.0, 0.0]])
    return Mixture(jnp.array([0.7, 0.3]), mean, 0.1 + 0.1 * mean**2).denoiser(SDE)


def inputs():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, 2)), jnp.float32)
    return x, jnp.linspace(0.1, 0.9, B), {"label": jnp.asarray(LABEL)}


@jax.jit
def guide(guidance, denoise, x, t, cond, weight):
    return guidance(denoise, x, t, cond, weight, guidance.init(x))


@jax.jit
def ask(denoise, x, t, cond=None):
    return denoise(x, t, cond)


@pytest.mark.parametrize("name", GUIDANCES)
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_every_guidance_keeps_the_protocol(name, weight):
    """The sampling loop would fail to carry its memory, or report passes that were not made."""
    guidance, calls = GUIDANCES[name](), Calls()
    x, t, cond = inputs()
    p, memory = guide(guidance, Counted(exact(), calls), x, t, cond, jnp.asarray(weight))
    jax.effects_barrier()
    chex.assert_equal_shape([p.x0, p.eps, x])
    chex.assert_tree_all_finite(p)
    chex.assert_trees_all_equal_shapes_and_dtypes(memory, guidance.init(x))
    assert sum(calls) == guidance.passes(weight) * B
    if weight == 1:
        chex.assert_trees_all_equal(p, ask(exact(), x, t, cond))


@pytest.mark.fast
def test_weights_1_and_0_are_the_conditional_and_the_reference():
    """T27: weights would be the paper's omega, off by one."""
    x, t, cond = inputs()
    at = lambda weight: guide(ClassifierFree(), exact(), x, t, cond, jnp.asarray(weight))[0]
    chex.assert_trees_all_equal(at(1.0), ask(exact(), x, t, cond))
    chex.assert_trees_all_close(at(0.0), ask(exact(), x, t), rtol=1e-5, atol=1e-6)
    assert np.abs(at(1.0).x0 - at(0.0).x0).max() > 0.1


@pytest.mark.parametrize("weight", [-0.5, 0.3, 2.0, 7.5])
def test_guided_views_are_extrapolated_from_the_reference(weight, x64):
    """x_ref + w (x_cond - x_ref) would fail, or the two views no longer be those of one x_t."""
    x, t, cond = inputs()
    x = x.astype(jnp.float64)
    p, _ = guide(ClassifierFree(), exact(), x, t, cond, jnp.asarray(weight))
    with_label, without = ask(exact(), x, t, cond), ask(exact(), x, t)
    for view in ("output", "x0", "eps"):
        a, b = getattr(with_label, view), getattr(without, view)
        np.testing.assert_allclose(getattr(p, view), b + weight * (a - b), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(SDE.perturb(p.x0, p.eps, t), x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(p.x0[-1], without.x0[-1], rtol=1e-9)  # no label: nothing to guide


@pytest.mark.fast
def test_passes_of_a_run_are_those_that_were_made():
    """Guidance would call the network twice where a row has weight 1, or in two batches."""
    calls, x = Calls(), inputs()[0]
    rows = ddim(SDE, uniform(SDE, 5))
    plan = Plan(replace(rows, weight=np.array([1.0, 2.0, 0.0, 1.0, 3.0])), ClassifierFree())
    keys = jax.random.split(jax.random.key(0, impl="unsafe_rbg"), B)
    run = lambda plan: jax.block_until_ready(
        sample(
            Counted(exact(), calls), plan.table, x, keys, cond=inputs()[2], guidance=plan.guidance
        )
    )
    run(plan)
    jax.effects_barrier()
    assert calls == [B, 2 * B, 2 * B, B, 2 * B]
    assert sum(calls) == plan.passes * B and plan.passes == 8 and plan.rows == 5
    assert Plan(plan.table, Conditional()).passes == 5


@pytest.mark.parametrize("cond", [None, {}])
def test_guidance_without_a_condition_is_refused(cond):
    """Both passes would be the same, at twice the cost and without effect."""
    x, t, _ = inputs()
    with pytest.raises(ValueError, match="needs a condition"):
        guide(ClassifierFree(), exact(), x, t, cond, jnp.asarray(2.0))
