"""Sample k of a run depends on (seed, k) and its label, not on its batch."""

import gc
import weakref
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax.analytic import Mixture
from diffjax.arrays import keys_at, stream
from diffjax.generation import program
from diffjax.generation.program import Generation, generate
from diffjax.grids import uniform
from diffjax.guidance import Conditional, Guided
from diffjax.samplers import ancestral, initial, sample
from diffjax.samplers.plan import Plan
from diffjax.schedules import Linear
from diffjax.sde import VE, VP, levels

pytestmark = pytest.mark.typed

SDE, SHAPE = VP(Linear()), (2,)
LABEL = np.array([0, 1, 0, 1, 1, 0, -1, 1])


def denoise():
    mean = jnp.array([[-1.0, 0.5], [1.0, 0.0]])
    return Mixture(jnp.array([0.7, 0.3]), mean, 0.1 + 0.1 * mean**2).denoiser(SDE)


def plan(guidance=Conditional()):
    return Plan(ancestral(SDE, uniform(SDE, 6)), guidance)


def run(seed=0, num=8, batch_size=8, label=LABEL):
    cond = {} if label is None else {"label": label[:num]}
    made = list(Generation(denoise(), plan(), seed, num, SHAPE, cond, batch_size))
    assert all(len(x) == batch_size for x in made[:-1])
    return np.concatenate(made)


def test_samples_do_not_depend_on_the_batch_size():
    """Another device, or another batch size, would give other pictures."""
    whole = run()
    assert whole.shape == (8, *SHAPE) and whole.dtype == np.float32
    for size in (1, 3):
        np.testing.assert_allclose(run(batch_size=size), whole, atol=1e-4)


@pytest.mark.thorough
def test_samples_do_not_depend_on_the_devices():
    """A larger machine would give other samples, or keep those that fill its last batch."""
    mesh = Mesh(np.reshape(jax.devices(), (4, 2)), ("data", "model"))
    made = [*Generation(denoise(), plan(), 0, 5, SHAPE, {"label": LABEL[:5]}, 3, mesh)]
    assert len(made) == 1 and made[0].shape == (5, *SHAPE)
    np.testing.assert_allclose(made[0], run(num=5), atol=1e-4)


def test_samples_do_not_depend_on_their_number():
    """A larger number of samples would change the first of them."""
    np.testing.assert_allclose(run(num=5, batch_size=3), run()[:5], atol=1e-4)
    np.testing.assert_array_equal(run(num=2, batch_size=256, label=LABEL), run(num=2, batch_size=2))
    rest = [*Generation(denoise(), plan(), 0, 8, SHAPE, {"label": LABEL}, 3, start=4)]
    assert [len(x) for x in rest] == [3, 1]
    np.testing.assert_allclose(np.concatenate(rest), run()[4:], atol=1e-4)


def test_another_table_of_as_many_rows_is_not_compiled_again():
    """A sweep over guidance weights or samplers would compile for each of them."""
    compiled, counts = [], []
    count = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    weighted = lambda w: Plan(replace(plan().table, weight=np.full(6, w)), Guided())
    jax.monitoring.register_event_duration_secs_listener(count)
    for guided in (weighted(2.0), weighted(3.0)):
        made = Generation(denoise(), guided, 0, 8, SHAPE, {"label": LABEL}, batch_size=7)
        counts.append(len(compiled))
    jax.monitoring.unregister_event_duration_listener(count)
    assert counts[0] == counts[1] > 0
    assert np.isfinite(next(iter(made))).all()


def test_samples_depend_on_seed_and_label():
    """Two seeds would give one run, or a sample have the class of its neighbour."""
    same, other = run(), run(seed=1)
    assert np.abs(same - other).max(1).min() > 1e-3
    assert len(np.unique(same)) == same.size
    flipped = run(label=np.where(np.arange(8) == 2, 1, LABEL))
    moved = np.abs(flipped - same).max(1) > 1e-3
    np.testing.assert_array_equal(moved, np.arange(8) == 2)
    without = run(label=None)
    assert np.abs(without - same)[6].max() < 1e-4 < np.abs(without - same)[2].max()


def test_generate_is_prior_and_sampler():
    """`generate` would differ from its parts, which the library offers too."""
    key, index = stream(0, "sample"), jnp.arange(8)
    x, keys = initial(SDE, keys_at(key, index), SHAPE)
    cond = {"label": jnp.asarray(LABEL)}
    parts = sample(denoise(), plan().table, x, keys, cond=cond)
    made = generate(denoise(), plan(), key, index, cond, shape=SHAPE)
    np.testing.assert_allclose(made.x, parts, atol=1e-4)
    assert int(made.bad) == -1 and made.path is None
    np.testing.assert_allclose(run(), parts, atol=1e-4)


def test_initial_draws_from_the_prior():
    """Sampling would start from the wrong variance, or reuse the key of the prior for its noise."""
    sde = VE(Linear())
    keys = jax.random.split(jax.random.key(0), 2000)
    x, rest = initial(sde, keys, (4,))
    sigma = levels(sde, np.array([1.0])).sigma[0]
    assert np.std(x) == pytest.approx(sigma, rel=5 / np.sqrt(2 * x.size))
    assert len({tuple(k) for k in np.asarray(jax.random.key_data(rest)).tolist()}) == 2000
    assert (jax.random.key_data(rest) != jax.random.key_data(keys)).any(1).all()


def test_broken_network_is_not_sampled():
    """Pictures of NaN would be returned as if they were samples."""
    net = denoise()
    bad = replace(net, data=replace(net.data, mean=jnp.full((2, 2), jnp.nan)))
    with pytest.raises(FloatingPointError, match=r"row 0 of 6, t = 1"):
        list(Generation(bad, plan(), 0, 4, SHAPE, {"label": LABEL[:4]}, 2))


def test_generated_path_ends_in_the_samples():
    """The trajectory would end in another sample than the one returned."""
    index, cond = jnp.arange(3), {"label": jnp.asarray(LABEL[:3])}
    made = generate(denoise(), plan(), stream(0, "sample"), index, cond, shape=SHAPE, path=True)
    assert made.path[0].shape == made.path[1].shape == (6, 3, *SHAPE)
    np.testing.assert_array_equal(made.path[0][-1], made.x)
    np.testing.assert_allclose(made.x, run()[:3], atol=1e-4)


def test_idle_rows_are_no_passes():
    """A padded table would report passes that never ran."""
    padded = Plan(plan().table.pad(9), Guided())
    assert padded.passes == 6


def test_plan_counts_rows_and_passes():
    """A report would hide the second pass of guidance."""
    assert (plan().rows, plan().passes) == (6, 6)
    assert plan(Guided()).passes == 6
    plan().table.weight[:] = 3.0
    guided = plan(Guided())
    guided.table.weight[2:] = 3.0
    assert (guided.rows, guided.passes) == (6, 10)


def test_a_plan_whose_rows_are_all_guided_has_no_branch_for_the_others():
    """Two networks would be compiled, or guidance run in rows that need none."""
    guided = plan(Guided())
    assert guided.settled() is guided  # all of its weights are 1
    settled = replace(guided, table=replace(guided.table, weight=np.full(6, 3.0))).settled()
    assert settled.guidance == Guided().steady() and settled.passes == 12
    some = replace(guided, table=replace(guided.table, weight=np.arange(6.0))).settled()
    assert some.guidance == Guided() and some.passes == 11
    cond, keys = {"label": jnp.asarray(LABEL)}, keys_at(stream(0, "sample"), jnp.arange(8))
    x, keys = initial(SDE, keys, SHAPE)
    ask = lambda guidance: sample(denoise(), settled.table, x, keys, cond=cond, guidance=guidance)
    np.testing.assert_allclose(ask(settled.guidance), ask(Guided()), atol=1e-5)


def test_programs_of_networks_that_are_no_longer_used_are_not_kept():
    """A process that trains a hundred networks would keep the compiled programs of each."""
    first = weakref.ref(program._program("network 0", SHAPE, None))
    for k in range(program.PROGRAMS):
        assert first() is not None
        program._program(f"network {k + 1}", SHAPE, None)
    gc.collect()
    assert first() is None
