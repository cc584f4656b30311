"""Energies of particles: samples of the exact law, and of another temperature."""

import functools
from pathlib import Path

import numpy as np
import pytest

from diffjax import data
from diffjax.data.particles import SYSTEMS
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.energies import apart, energies


@functools.cache
def real():
    return Real(functools.partial(data.dw4, size=2000), data.Reading(), 2000, Path())


def test_exact_samples_are_at_the_floor_and_shrunk_ones_are_not():
    """A network that places particles a little too near to each other would look perfect."""
    system, held = SYSTEMS["dw4"], real().test.x
    whole = energies(real(), Samples(real().train.x[:1000], None), resamples=3)
    assert whole["energy"] == whole["floor_energy"] < 0.08 and whole["floor_distances"] < 0.05
    low, high = whole["intervals"]["energy"]
    assert low < whole["energy"] < high
    assert whole["median_held_out"] == np.median(system.energy(held))
    near = energies(real(), Samples(0.95 * held, None), resamples=0)
    assert near["energy"] > 0.15 and near["median"] > whole["median_held_out"] + 0.5
    np.testing.assert_allclose(apart(system, 0.5 * held), 0.5 * apart(system, held), rtol=1e-6)


def test_items_without_an_energy_are_refused():
    points = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    with pytest.raises(ValueError, match="energies: needs particles of known energy"):
        energies(points, Samples(points.test.x, None))
