"""The engine: samples that join and leave at any row equal those that run alone."""

import random
import threading
import time
from concurrent.futures import CancelledError

import jax
import numpy as np
import pytest
from redrawn import redrawn

from diffjax import builder, config
from diffjax.devices.mesh import layout
from diffjax.generation.engine import Engine, Full
from diffjax.runs.editing import masked
from diffjax.runs.trained import Trained
from diffjax.samplers import SAMPLERS

SLOTS = 3


@pytest.fixture(scope="module")
def trained():
    """Return an untrained network of labelled points whose output is not 0."""
    e = builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    return redrawn(e)


@pytest.fixture(scope="module")
def engine(trained):
    with Engine(trained.job(guidance=2.0), slots=SLOTS) as engine:
        yield engine


def linear(trained):
    """Return a job of each sampler that a network without a second time or output can use."""
    jobs = {}
    for name in SAMPLERS:
        try:
            job = trained.job(sampler=name, steps=4, guidance=2.0, seed=len(jobs), label=1)
        except config.ConfigError:
            continue
        if job.plan.rows and not job.plan.table.langevin:
            jobs[name] = job
    return jobs


def test_samples_of_all_samplers_have_equal_bits_alone_and_among_others(trained, engine):
    """An image would depend on who else asks."""
    jobs = linear(trained)
    assert len(jobs) > 20
    alone = {}
    for name, job in jobs.items():
        (ticket,) = engine.submit(job, 1)
        alone[name] = ticket.result(60)
    for seed in range(3):
        order = random.Random(seed).sample([*jobs], len(jobs))
        tickets = {}
        for name in order:
            (tickets[name],) = engine.submit(jobs[name], 1)
            if seed:
                time.sleep(random.Random(f"{seed}{name}").random() * 0.003)
        for name, ticket in tickets.items():
            assert np.array_equal(ticket.result(60), alone[name]), name
    for name in ("ddim", "ancestral", "dpmpp_3m", "heun"):
        batch = jobs[name].samples(1).x[0]
        assert np.allclose(alone[name], batch, atol=1e-5), name


def test_slots_are_shared_by_devices(trained, engine):
    """A server with eight devices would use one of them."""
    job = trained.job(guidance=2.0, steps=4, seed=3)
    with Engine(trained.job(guidance=2.0), slots=SLOTS, mesh=layout().mesh) as several:
        assert several.slots == len(jax.devices()) == 8
        assert len(several._groups[0].registers.x.devices()) == 8
        found = [t.result(60) for t in several.submit(job, 10)]
        assert len(several._groups[0].registers.x.devices()) == 8
    assert np.allclose(found, job.samples(10).x, atol=2e-5)


def test_groups_without_samples_cost_nothing_and_bits_depend_on_the_group_alone(trained, engine):
    """A request would wait for idle slots, or another image follow from more of them."""
    jobs = [trained.job(steps=4 + k % 3, guidance=2.0, seed=k, label=k % 2) for k in range(10)]
    alone = [engine.submit(job, 1)[0].result(60) for job in jobs]
    with Engine(trained.job(guidance=2.0), slots=8, group=SLOTS) as several:
        assert (several.slots, several.group) == (9, SLOTS)
        several.submit(jobs[0], 1)[0].result(60)
        assert several.stats.ticks == several.stats.rows == 4  # of one group of three
        tickets = [several.submit(job, 1)[0] for job in jobs]
        assert all(np.array_equal(t.result(60), x) for t, x in zip(tickets, alone, strict=True))
        assert several._free() == [*range(9)]
        several._places[4] = tickets[0]
        assert several._free() == [3, 5, 0, 1, 2, 6, 7, 8]
        several._places[4] = None
    with pytest.raises(ValueError, match="group=4: needs at most slots=3"):
        Engine(trained.job(), slots=3, group=4)


def test_weights_steps_and_conditions_differ_side_by_side(trained, engine):
    """A request would be guided by the weight of its neighbour."""
    job = trained.job(weight=[1.0, 1.5, 4.0], label=[0, 1], steps=6, seed=[3, 8])
    tickets = engine.submit(job, 6)
    longer = engine.submit(trained.job(steps=11, guidance=1.0), 2)
    assert np.allclose([t.result(60) for t in tickets], job.samples(6).x, atol=2e-5)
    unguided = trained.job(steps=11, guidance=1.0).samples(2).x
    assert np.allclose([t.result(60) for t in longer], unguided, atol=2e-5)
    start = trained.job(start=np.array([[0.5, -0.2]]), strength=0.5, steps=8, guidance=2.0)
    (ticket,) = engine.submit(start, 1)
    assert np.allclose(ticket.result(60), start.samples(1).x[0], atol=2e-5)


def test_negatives_and_kept_parts_differ_side_by_side(trained, engine):
    """A request would be led away from what its neighbour named, or keep a part of its image."""
    away = lambda label: {"weight": 3.0, "reference": {"name": "negative", "label": label}}
    start = np.array([[0.5, -0.2]])
    free = trained.job(start=start, strength=1.0, steps=6, guidance=2.0, label=1, seed=4)
    jobs = [trained.job(guidance=away(k), steps=6, label=1) for k in (0, -1)]
    jobs += [trained.job(guidance=3.0, steps=6, label=1), free]
    jobs += [masked(free, np.array([mask], np.float32)) for mask in ((0, 1), (0.5, 0), (1, 1))]
    together = [engine.submit(job, 1)[0] for job in jobs]
    found = [ticket.result(60) for ticket in together]
    for job, item in zip(jobs, found, strict=True):
        assert np.array_equal(engine.submit(job, 1)[0].result(60), item)
        assert np.allclose(item, job.samples(1).x[0], atol=2e-5)
    assert np.array_equal(found[1], found[2]) and not np.allclose(found[0], found[1], atol=1e-3)
    assert np.allclose([found[4][0], found[5][1]], start[0], atol=1e-6)
    assert np.array_equal(found[3], found[6]) and abs(found[4][1] - start[0, 1]) > 1e-3


def test_a_sample_that_is_not_finite_touches_no_other(trained, engine):
    """One user's overflow would blacken the images of all."""
    good = trained.job(guidance=2.0, steps=9)
    expected = [t.result(60) for t in engine.submit(good, 2)]
    failed = engine.stats.failed
    (bad,) = engine.submit(trained.job(weight=3e38, steps=9), 1)
    beside = engine.submit(good, 2)
    with pytest.raises(FloatingPointError, match=r"not finite at row \d of 9"):
        bad.result(60)
    assert np.array_equal([t.result(60) for t in beside], expected)
    assert engine.stats.failed == failed + 1


def test_events_count_rows_and_show_the_prediction(trained, engine):
    """A page would show no progress, or the last preview would not be the result."""
    (ticket,) = engine.submit(trained.job(steps=5, guidance=2.0, sampler="ddim"), 1, every=2)
    events = [*ticket.events()]
    assert [(e.row, e.rows, e.x0 is not None) for e in events] == [
        *((1, 5, False), (2, 5, True), (3, 5, False), (4, 5, True), (5, 5, True))
    ]
    assert np.allclose(events[-1].x0, ticket.result(), atol=1e-3)


def test_cancelled_requests_leave_their_slot(trained, engine):
    """A user who closes the page would keep the device busy."""
    (long,) = engine.submit(trained.job(steps=900, guidance=2.0), 1)
    (waiting,) = engine.submit(trained.job(steps=900, guidance=2.0), 1)
    next(long.events())
    for ticket in (long, waiting):
        ticket.cancel()
        with pytest.raises(CancelledError):
            ticket.result(60)
    (after,) = engine.submit(trained.job(steps=3, guidance=2.0), 1)
    after.result(60)
    assert engine.stats.running == engine.stats.waiting == 0
    assert 0 < long.row < 900


def test_many_threads_submit_and_cancel(trained, engine):
    """A race would lose a request, or hand an image to another user."""
    jobs = [trained.job(steps=3 + k, seed=k, guidance=2.0, label=k % 2) for k in range(8)]
    alone = [engine.submit(job, 1)[0].result(60) for job in jobs]
    wrong = []

    def user(k):
        rng = random.Random(k)
        for _ in range(12):
            pick = rng.randrange(len(jobs))
            (ticket,) = engine.submit(jobs[pick], 1)
            if rng.random() < 0.25:
                ticket.cancel()
                continue
            if not np.array_equal(ticket.result(60), alone[pick]):
                wrong.append((k, pick))

    threads = [threading.Thread(target=user, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not wrong


def test_requests_that_cannot_be_computed_are_refused_by_name(trained, engine):
    """The engine would stop for all users, or compute something else."""
    other = Trained(
        trained.experiment.denoiser(trained.experiment.parameters()), trained.experiment
    )
    cases = [
        (trained.job(sampler="adaptive"), "adaptive steps differ between samples; an engine"),
        (other.job(guidance=2.0), "another network"),
        (trained.job(guidance={"weight": 2.0, "rule": "apg"}), "the request has the guidance"),
        (trained.job(noise="brownian", sampler="ancestral", guidance=2.0), "Brownian path"),
    ]
    for job, message in cases:
        with pytest.raises(ValueError, match=message):
            engine.submit(job, 1)
    assert len(engine.submit(trained.job(steps=2))) == 1
    assert len(engine.submit(trained.job(steps=2, seed=[3, 5]))) == 2
    with pytest.raises(ValueError, match="num=0"):
        engine.submit(trained.job(guidance=2.0), 0)


def test_a_full_or_closed_engine_takes_nothing_and_a_closing_one_ends_what_it_has(trained):
    """Work would be lost at a shutdown, or grow without bound."""
    job = trained.job(steps=200)
    engine = Engine(job, slots=1, limit=2)
    running = engine.submit(job, 1)
    next(running[0].events())
    waiting = engine.submit(job, 2)
    with pytest.raises(Full, match="2 samples wait; 1 more exceed 2"):
        engine.submit(job, 1)
    engine.close()
    assert all(t.result(0).shape == (2,) for t in running + waiting)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(job, 1)
    engine = Engine(job, slots=1)
    tickets = engine.submit(trained.job(steps=900), 3)
    engine.close(drain=False)
    for ticket in tickets:
        with pytest.raises(CancelledError):
            ticket.result(0)


def test_a_failure_of_the_device_ends_all_requests(trained, monkeypatch):
    """Users would wait for ever."""
    job = trained.job(steps=50)
    engine = Engine(job, slots=1)

    def broken(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "_tick", broken)
    tickets = engine.submit(job, 2)
    for ticket in tickets:
        with pytest.raises(RuntimeError, match="the engine failed: out of memory"):
            ticket.result(60)
    with pytest.raises(RuntimeError, match="closed: out of memory"):
        engine.submit(job, 1)


def test_cancelled_requests_make_room_in_a_full_queue(trained):
    """Visitors who left would keep others out until a slot is free."""
    engine = Engine(trained.job(), slots=1, limit=2)
    (long,) = engine.submit(trained.job(steps=900), 1)
    next(long.events())
    for ticket in (left := engine.submit(trained.job(steps=900), 2)):
        ticket.cancel()
    later = engine.submit(trained.job(steps=2), 2)
    for ticket in left:
        with pytest.raises(CancelledError):
            ticket.result(0)
    long.cancel()
    assert all(t.result(60).shape == (2,) for t in later)
    engine.close()


def test_a_caller_that_raises_stops_nobody(trained, engine, capfd):
    """A mistake in one callback would hang the requests of all."""

    def notify(ticket, event):
        raise KeyError("mistake")

    (ticket,) = engine.submit(trained.job(steps=3), 1, notify=notify)
    (beside,) = engine.submit(trained.job(steps=3), 1)
    assert np.array_equal(ticket.result(60), beside.result(60))
    assert "KeyError: 'mistake'" in capfd.readouterr().err
    assert [*ticket.events()] == []


def test_an_error_in_a_block_cancels_what_is_left(trained):
    """Ctrl-C would wait for a thousand samples."""
    engine = Engine(trained.job(), slots=1)
    tickets = engine.submit(trained.job(steps=900), 50)
    engine.__exit__(KeyboardInterrupt, None, None)
    assert all(ticket.ended for ticket in tickets) and engine.stats.cancelled >= 49


def test_prompts_have_the_length_of_the_texts_of_the_run():
    """The first prompt would stop the engine for all users."""
    tiny = ["network.width=16", "network.depth=1", "network.heads=2"]
    e = builder.experiment(config.override(config.load("emoji_text"), tiny))
    trained = redrawn(e)
    with Engine(trained.job(weight=1.0), slots=1) as engine:
        (ticket,) = engine.submit(trained.job(prompt="red apple", steps=1, weight=2.0), 1)
        assert ticket.result(60).shape == (32, 32, 3)
        asked = {"prompt": "red apple", "steps": 1}
        alone, same, empty, away = (
            engine.submit(trained.job(**asked, **more), 1)[0].result(60).astype(int)
            for more in (
                {"weight": 1.0},
                {"weight": 2.0, "negative": "red apple"},
                {"weight": 2.0, "negative": ""},
                {"weight": 2.0, "negative": "cat"},
            )
        )
        assert abs(alone - same).max() <= 1  # cond + w (cond - cond)
        assert np.array_equal(empty, ticket.result(0)) and abs(away - empty).max() > 1
        short = trained.job(cond={"text": [1, 2]}, steps=1)
        with pytest.raises(ValueError, match=r"conditions \{'text': \(2,\)\}; the engine has"):
            engine.submit(short, 1)
