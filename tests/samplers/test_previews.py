"""Previews: they show the states of `run`, and do not change them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture
from diffjax.grids import uniform
from diffjax.guidance import APG, Guided
from diffjax.samplers import dpmpp_2m, initial, previews, run, sa_solver, sample
from diffjax.schedules import Linear
from diffjax.sde import VP

SDE = VP(Linear(), t_max=0.99)
MEAN = jnp.array([[-1.0, 0.5], [1.0, 0.0]])
DATA = Mixture(jnp.array([0.7, 0.3]), MEAN, 0.1 + 0.1 * MEAN**2)
COND = {"label": jnp.array([0, 1, 1])}


def table(rows=7, make=sa_solver):
    made = make(SDE, uniform(SDE, rows))
    return replace(made, weight=np.linspace(1, 3, len(made)))


def start():
    return initial(SDE, jax.random.split(jax.random.key(0), 3), (2,))


HOW = {"cond": COND, "guidance": Guided(rule=APG(momentum=0.5))}


def test_previews_are_the_path_of_the_same_run():
    """A preview would show another row or view, or previewing change the sample.

    Registers, noise and the memory of guidance have to reach the next part.
    """
    rows, (x, keys), denoise = table(), start(), DATA.denoiser(SDE)
    whole = run(denoise, rows, x, keys, path=True, **HOW)
    states, predicted = whole.path
    plain = sample(denoise, rows, x, keys, **HOW)
    for every, stops in ((1, range(1, 8)), (3, (3, 6, 7)), (7, (7,)), (50, (7,))):
        seen = [*previews(denoise, rows, x, keys, every=every, **HOW)]
        assert [p.row for p in seen] == [*stops] and {p.rows for p in seen} == {7}
        for p in seen:
            np.testing.assert_array_equal(p.x, states[p.row - 1])
            np.testing.assert_array_equal(p.x0, predicted[p.row - 1])
            assert p.t == rows.t[p.row - 1]
        np.testing.assert_array_equal(seen[-1].x, plain)
    assert np.isfinite(x).all()  # the start is still the caller's


def test_all_parts_of_all_tables_of_a_length_are_one_program():
    """Every preview, or another distance between two, would compile again."""
    (x, keys), compiled = start(), []
    count = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    see = lambda rows, every: [*previews(DATA.denoiser(SDE), rows, x, keys, every=every, **HOW)]
    see(table(8), 2)
    jax.monitoring.register_event_duration_secs_listener(count)
    for every in (2, 3, 5, 8, 100):
        see(table(8), every)
    see(replace(table(8), weight=np.full(8, 2.0)), 4)
    see(table(8, dpmpp_2m), 4)
    jax.monitoring.unregister_event_duration_listener(count)
    assert not compiled


def test_what_is_not_finite_ends_the_previews_with_row_and_time():
    """A long run would continue with NaN to its last row."""
    (x, keys), rows = start(), table()
    bad = DATA.denoiser(SDE)
    bad = replace(bad, data=replace(DATA, mean=jnp.full((2, 2), jnp.nan)))
    with pytest.raises(FloatingPointError, match="row 0 of 7"):
        next(previews(bad, rows, x, keys, every=2, **HOW))
    with pytest.raises(ValueError, match="every=0"):
        next(previews(bad, rows, x, keys, every=0, **HOW))
