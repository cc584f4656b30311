"""Guidance with a weight for each sample: each is guided as if it were alone."""

from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture
from diffjax.grids import uniform
from diffjax.guidance import (
    APG,
    REFERENCES,
    RULES,
    Cached,
    CFGZero,
    Classifier,
    Conditional,
    Dynamic,
    Guided,
    Thresholded,
)
from diffjax.guidance.base import everywhere
from diffjax.samplers import ancestral, initial, sample
from diffjax.samplers.adaptive import adaptive
from diffjax.samplers.plan import Plan
from diffjax.schedules import Linear
from diffjax.sde import VP

SDE = VP(Linear(), t_max=0.99)
MEAN = jnp.array([[-1.0, 0.5], [1.0, 0.0]])
DATA = Mixture(jnp.array([0.7, 0.3]), MEAN, 0.1 + 0.1 * MEAN**2)
WEIGHTS = np.array(  # a row per sample: none, all, late, to the reference, early
    [[1, 1, 1, 1, 1], [2, 2, 2, 2, 2], [1, 3, 1, 3, 3], [0, 0, 0, 0, 0], [4, 2, 2, 1, 1]], float
).T
ROWS, B = WEIGHTS.shape
COND = {"label": jnp.asarray([0, 1, 1, 0, 1])}


def log_p(x, t, cond):
    """Return log p(label | x) of some classifier, (B,)."""
    return jax.nn.log_sigmoid(jnp.where(cond["label"] == 1, 1.0, -1.0) * x[:, 0])


def guidances():
    """Return every reference and every rule of the catalogues, and those with a memory."""
    wider = replace(DATA, var=2 * DATA.var).denoiser(SDE)
    count = max(len(REFERENCES), len(RULES))
    made = {}
    for name, rule in zip(islice(cycle(REFERENCES), count), cycle(RULES), strict=False):
        reference = REFERENCES[name](**({"denoise": wider} if name == "network" else {}))
        made[f"{name}, {rule}"] = Guided(reference, RULES[rule]())
    made["cached, momentum"] = Guided(Cached(every=2), APG(momentum=0.5))
    made["still rows"] = Guided(rule=CFGZero(still=1))
    made["threshold"] = Thresholded(Guided(), Dynamic(share=0.5, bound=0.5))
    made["classifier"] = Classifier(log_p=jax.tree_util.Partial(log_p))
    return made


def table():
    return replace(ancestral(SDE, uniform(SDE, ROWS)), weight=WEIGHTS)


def start():
    return initial(SDE, jax.random.split(jax.random.key(0), B), (2,))


@pytest.fixture(scope="module")
def both():
    """Return results of all guidances, for a batch of samples and one by one."""
    entries, (x, keys) = guidances(), start()

    def alone(guidance, x, key, label, weight):
        own = {"cond": {"label": label[None]}, "guidance": guidance}
        rows = replace(table(), weight=weight)
        return sample(DATA.denoiser(SDE), rows, x[None], key[None], **own)[0]

    @jax.jit
    def all_of_them(entries, x, keys):
        rows, denoise, made = table(), DATA.denoiser(SDE), {}
        for name, guidance in entries.items():
            whole = sample(denoise, rows, x, keys, cond=COND, guidance=guidance)
            each = (x, keys, COND["label"], jnp.asarray(WEIGHTS.T, x.dtype))
            ones = jax.lax.map(lambda one, g=guidance: alone(g, *one), each)
            made[name] = whole, ones
        return made

    return all_of_them(entries, x, keys)


@pytest.mark.thorough
@pytest.mark.parametrize("name", guidances())
def test_samples_are_guided_as_if_alone(both, name):
    """A sample would be guided with the weight of another one, or a memory count rows of others."""
    whole, ones = both[name]
    assert np.isfinite(whole).all() and len(np.unique(np.round(whole, 4), axis=0)) == B
    np.testing.assert_allclose(whole, ones, rtol=1e-5, atol=1e-5)


class Calls(list):
    """Batch sizes of the calls so far; a program holds the list by identity."""

    __hash__ = object.__hash__


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Counted:
    """A denoiser that records, at run time, the batch size of each call."""

    denoise: Any
    calls: Any = field(metadata={"static": True})

    @property
    def sde(self):
        return self.denoise.sde

    def __call__(self, x, t, cond=None, *, key=None):
        size = x.shape[0]
        jax.debug.callback(lambda: self.calls.append(size))
        return self.denoise(x, t, cond, key=key)


def test_rows_without_a_guided_sample_make_one_pass():
    """All rows would cost two passes, or samples report the passes of other samples."""
    (x, keys), calls = start(), Calls()
    weights = WEIGHTS.copy()
    weights[[0, 3]] = 1.0
    plan = Plan(replace(table(), weight=weights), Guided())
    made = plan.run(Counted(DATA.denoiser(SDE), calls), x, keys, COND)
    jax.block_until_ready(made)
    jax.effects_barrier()
    assert calls == [B, 2 * B, 2 * B, B, 2 * B]
    assert plan.spent(made).tolist() == [5, 8, 7, 8, 7] and plan.passes is None
    assert "w = 0 to 3" in str(plan.table)


def test_a_mapped_question_stays_one_question():
    """Adaptive steps, which are mapped over samples, would compute both branches in every pass."""
    branch = lambda w: jax.lax.cond(everywhere(w == 1), lambda: w, lambda: 2 * w)
    mapped = jax.make_jaxpr(jax.vmap(jax.vmap(branch)))(jnp.ones((2, 3)))
    assert "cond[" in str(mapped) and "select" not in str(mapped)
    doubled = jax.vmap(branch)(jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(doubled, [2.0, 4.0])
    np.testing.assert_array_equal(jax.vmap(branch)(jnp.ones(2)), [1.0, 1.0])


@pytest.mark.thorough
def test_adaptive_steps_take_a_weight_of_each_sample():
    """All samples would have the weight of the first one, or passes be counted wrongly."""
    x, keys = start()
    weights = np.array([1.0, 2.0, 3.0, 0.0, 1.0])
    one = adaptive(SDE, guidance=Guided(), rtol=1e-2, atol=1e-2)

    @jax.jit
    def both(many, x):
        denoise = DATA.denoiser(SDE)

        def alone(each):
            x, key, label, weight = each
            own = replace(one, weight=weight)
            return own.run(denoise, x[None], key[None], {"label": label[None]})

        ones = jax.lax.map(alone, (x, keys, COND["label"], jnp.asarray(weights, x.dtype)))
        return many.run(denoise, x, keys, COND), ones

    many = one.weighted(weights)
    made, ones = both(many, x)
    np.testing.assert_allclose(made.x, ones.x[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(made.calls, ones.calls[:, 0])
    np.testing.assert_array_equal(many.spent(made), made.calls * np.array([1, 2, 2, 2, 1]))


@pytest.mark.parametrize(
    ("guidance", "weight", "part"),
    [
        (Conditional(), [2.0], "uses no weight"),
        (Thresholded(Conditional(), Dynamic()), [2.0], "uses no weight"),
        (Guided(), [2.0, np.nan], "finite"),
        (Guided(), 2.0, r"\(B,\)"),
    ],
)
def test_weights_that_weigh_nothing_are_refused(guidance, weight, part):
    """Requested guidance would silently be left out."""
    for made in (Plan(table(), guidance), adaptive(SDE, guidance=guidance)):
        with pytest.raises(ValueError, match=part):
            made.weighted(np.asarray(weight))


def test_weights_follow_the_ramp_of_the_plan():
    """The interval or ramp of the config would not hold for the weights that samples bring."""
    ramp = np.array([0.0, 0.5, 1.0, 2.0, 0.0])
    plan = Plan(table(), Guided(), ramp).weighted(np.array([1.0, 3.0]))
    np.testing.assert_array_equal(plan.table.weight.T, [[1, 1, 1, 1, 1], [1, 2, 3, 5, 1]])
