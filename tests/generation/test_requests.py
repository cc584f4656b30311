"""A seed, a guidance weight and conditions for each sample, in one program; previews on the way."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax.analytic import Mixture
from diffjax.arrays import stream, streams
from diffjax.config import ConfigError
from diffjax.data.form import Form
from diffjax.generation import Generation, Job, job, number
from diffjax.grids import uniform
from diffjax.guidance import Conditional, Guidance, Guided, Rescale
from diffjax.samplers import ancestral
from diffjax.samplers.adaptive import adaptive
from diffjax.samplers.plan import Plan
from diffjax.schedules import Linear
from diffjax.sde import VP

SDE, SHAPE, NUM = VP(Linear()), (2,), 7
SEEDS = np.array([0, 1, 2, 3, 2**31, 2**32 - 1, 1])
WEIGHTS = np.array([1.0, 2.0, 0.0, 3.5, 1.0, 2.0, -1.0])
LABELS = np.array([0, 1, 1, 0, -1, 1, 0])


def denoise():
    mean = jnp.array([[-1.0, 0.5], [1.0, 0.0]])
    return Mixture(jnp.array([0.7, 0.3]), mean, 0.1 + 0.1 * mean**2).denoiser(SDE)


def plan(guidance: Guidance = Guided(rule=Rescale())):
    return Plan(ancestral(SDE, uniform(SDE, 6)), guidance)


def generation(seed: Any = SEEDS, weight: Any = WEIGHTS, label=LABELS, how=None, **more):
    how, cond = how or plan(), {"label": label}
    return Generation(denoise(), how, seed, NUM, SHAPE, cond, 4, weight=weight, **more)


def made(*args, **more):
    return np.concatenate([*generation(*args, **more)])


class Compiled(list):
    """Lists the compilations that happen while it listens."""

    def __call__(self, event, *_, **__):
        if "backend_compile" in event:
            self.append(event)

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self)
        return self

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self)


def test_streams_are_those_of_the_seeds():
    """A request would give another picture beside others, or seeds above 2^31 be equal."""
    keys = streams(SEEDS.astype(np.uint32), "sample")
    for seed, key in zip(SEEDS.tolist(), keys, strict=True):
        alone = stream(seed, "sample")
        np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(alone))


def test_samples_are_those_of_the_runs_one_by_one():
    """A sample would depend on the requests that it is served with."""
    whole, one = generation(), np.zeros((NUM, *SHAPE), np.float32)
    x = np.concatenate([*whole])
    for k in range(NUM):
        how = replace(plan(), table=replace(plan().table, weight=np.full(6, WEIGHTS[k])))
        run = generation(int(SEEDS[k]), None, how=how)
        one[k] = np.concatenate([*run])[k]
        assert run.passes[k] == whole.passes[k]
    np.testing.assert_allclose(x, one, rtol=1e-5, atol=1e-5)
    plain = {"weight": None, "how": plan(Conditional())}
    each = made(SEEDS, **plain)
    for k in range(NUM):
        np.testing.assert_array_equal(each[k], made(int(SEEDS[k]), **plain)[k])


def test_other_requests_are_not_compiled_again():
    """A server would wait for the compiler at each new seed, weight or class."""
    made()
    made(preview=lambda seen: None, every=2)
    with Compiled() as compiled:
        others = [made(seed=SEEDS[::-1]), made(weight=WEIGHTS + 1), made(label=1 - abs(LABELS))]
        others += [made(start=4), made(weight=np.ones(NUM))]
        for every in (1, 4, 6):
            made(weight=WEIGHTS + 1, preview=lambda seen: None, every=every)
    assert not compiled
    assert len({x[-1, 0] for x in others}) == 5


@pytest.mark.thorough
def test_previews_of_a_generation():
    """A preview would be of another batch, include padding samples, or change the result."""
    seen = []
    x = made(preview=seen.append, every=4)
    np.testing.assert_array_equal(x, made())
    assert [(p.row, len(p.x0)) for p in seen] == [(4, 4), (6, 4), (4, 3), (6, 3)]
    np.testing.assert_array_equal(np.concatenate([seen[1].x, seen[3].x]), x)
    assert np.abs(seen[0].x0 - seen[1].x0).max() > 1e-3
    mesh, spread = Mesh(np.reshape(jax.devices(), (4, 2)), ("data", "model")), []
    split = made(preview=spread.append, every=5, mesh=mesh)
    np.testing.assert_allclose(split, x, atol=1e-4)
    assert [(p.row, len(p.x0)) for p in spread] == [(5, NUM), (6, NUM)]
    bad = replace(denoise(), data=replace(denoise().data, mean=jnp.full((2, 2), jnp.nan)))
    with pytest.raises(FloatingPointError, match="row 0 of 6"):
        next(iter(Generation(bad, plan(Conditional()), 0, 4, SHAPE, preview=seen.append, every=2)))


def test_a_job_hands_out_previews_and_counts_rows(monkeypatch, capsys):
    """Previews would be lost, or a long run without a terminal would print nothing."""
    monkeypatch.setattr(job, "LINES", 0.0)
    sampled = Job(denoise(), plan(Conditional()), Form("points", SHAPE), {}, {}, batch_size=4)
    seen, plain = [], sampled.samples(12).x  # 8 at a time: one for each device
    assert "row" not in capsys.readouterr().err
    np.testing.assert_array_equal(sampled.samples(12, preview=seen.append, every=4).x, plain)
    assert [(p.row, len(p.x)) for p in seen] == [(4, 8), (6, 8), (4, 4), (6, 4)]
    assert "sample 10/12 row" in capsys.readouterr().err


def test_numbers_of_samples_are_those_of_their_runs():
    """A single sample could not be drawn again without those before it."""
    plain, numbers = {"weight": None, "how": plan(Conditional())}, np.array([6, 2, 2, 0, 5, 1, 3])
    whole = made(3, label=np.zeros(NUM, int), **plain)
    some = made(3, label=np.zeros(NUM, int), index=numbers, **plain)
    np.testing.assert_array_equal(some, whole[numbers])
    seeds = np.full(NUM, 3)
    again = made(seeds, label=np.zeros(NUM, int), index=numbers[::-1], **plain)
    np.testing.assert_array_equal(again, whole[numbers[::-1]])


LABEL = {"label": np.zeros(1, int)}


def requested(guidance: Guidance = Guided(), **request) -> Job:
    about = {"trained": 0, "ema": "", "sampler": {"name": "ancestral"}, "guidance": 1.0}
    config = {"sde": {}, "parameterization": {}, "network": {}}
    form = Form("points", SHAPE)
    made = Job(denoise(), plan(guidance), form, config, about, cond=LABEL, batch_size=8, **request)
    made.__dict__["weights"] = "those of no network"
    return made


def test_seeds_numbers_and_weights_are_taken_in_turn():
    """A sample would depend on the seeds beside it, on its place, or on another sample's weight."""
    runs = {seed: requested(seed=seed).samples(8).x for seed in (1, 2)}
    near = {"rtol": 1e-5, "atol": 1e-5}
    both = requested(seed=(1, 2), weight=(1.0, 1.0, 3.0))
    samples, path = both.samples(8), both.path(3)
    alone = np.stack([runs[1 + k % 2][k // 2] for k in range(8)])
    guided = np.arange(8) % 3 == 2
    np.testing.assert_allclose(samples.x[~guided], alone[~guided], **near)
    assert np.abs(samples.x - alone)[guided].max(1).min() > 1e-3
    np.testing.assert_allclose(path.x[-1], samples.x[:3], **near)
    assert samples.passes.tolist() == np.where(guided, 12, 6).tolist()
    numbers = requested(seed=2, index=(5, 0, 7)).samples(8)
    np.testing.assert_allclose(numbers.x, runs[2][np.resize([5, 0, 7], 8)], **near)
    assert "6 to 12 network passes per sample, guidance 1, 1, 3 for samples in turn" in str(both)
    facts = {"weight": [1.0, 1.0, 3.0], "seed": [1, 2], "passes": 7.5}
    assert facts.items() <= both.protocol(samples).items()


def test_all_that_is_requested_is_in_the_name_of_the_job():
    """Stored samples of other seeds, numbers or weights would be reused for this job."""
    requests = [{}, {"seed": 1}, {"seed": (1, 2)}, {"seed": (2, 1)}, {"index": (1, 2)}]
    requests += [{"weight": (1.0, 2.0)}, {"weight": (2.0, 1.0)}, {"index": (2, 1)}]
    zeros = np.zeros((1, *SHAPE), np.float32)
    requests += [{"start": zeros}, {"start": zeros + 1}, {"start": zeros, "strength": 0.5}]
    keys = [requested(**request).key for request in requests]
    assert len({*keys}) == len(keys)


def test_values_that_no_sample_would_take_are_refused():
    """The last of three weights would silently be ignored."""
    with pytest.raises(ConfigError, match="--weight: 3 values for 2 samples; needs at most 2"):
        requested(weight=(1.0, 2.0, 3.0)).samples(2)


def test_as_many_samples_as_are_listed():
    """`--index=17` would draw 64 copies of one sample, or `--weight=2` a single sample."""
    assert [number(0), number(0, (), (2.0,)), number((5,))] == [64, 64, 64]
    assert [number(0, (17,)), number((1, 2, 3)), number(0, (17,), (1, 2, 4, 8))] == [1, 3, 4]
    assert [number(0, starts=1), number(0, starts=5)] == [64, 5]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"index": -WEIGHTS.astype(int)}, "index=-1: needs 0 <= index < 2..31"),
        ({"index": LABELS[:3]}, "index: 3 values for 7 samples"),
        ({"weight": WEIGHTS[:3]}, "weight: 3 values for 7 samples"),
        ({"seed": SEEDS[:3]}, "seed: 3 values"),
        ({"label": LABELS[:2]}, "label: 2 values"),
        ({"seed": SEEDS - 1}, "seed=-1: needs 0 <= seed"),
        ({"seed": SEEDS / 2}, "needs one integer"),
        ({"how": plan(Conditional())}, "uses no weight"),
        ({"preview": print, "every": 0}, "every=0"),
        ({"how": adaptive(SDE, 1.0, Guided()), "preview": print}, "previews need the rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_cannot_be_made_are_refused(wrong, line):
    with pytest.raises(ValueError, match=line):
        generation(**wrong)
