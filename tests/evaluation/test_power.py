"""Power spectra of fields against closed forms of random fields."""

from pathlib import Path

import numpy as np
import pytest

from diffjax.data import Memory, Reading
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.power import radial, spectrum

SIDE, MANY = 16, 4000


def waves(shape):
    """The length of the wave vector of each wave, in waves per shortest side."""
    numbers = np.meshgrid(*(np.fft.fftfreq(n) * min(shape) for n in shape), indexing="ij")
    return np.sqrt(sum(k**2 for k in numbers))


def fields(power, count, seed=0):
    """Draw Gaussian fields (count, *grid, 1) that repeat, with this power of each wave, (*grid)."""
    z = np.random.default_rng(seed).normal(size=(count, *power.shape))
    axes = tuple(range(1, z.ndim))
    return np.fft.ifftn(np.fft.fftn(z, axes=axes) * np.sqrt(power), axes=axes).real[..., None]


def windowed(power):
    """The expected power under the window, which spreads each wave to its neighbours.

    The squares of the Fourier coefficients of the Hann window are 1/16, 1/4, 1/16 of its mean
    square, 3/8.
    """
    power = np.where(waves(power.shape) == 0, 0, power)  # the mean is removed
    for axis in range(power.ndim):
        near = np.roll(power, 1, axis) + np.roll(power, -1, axis)
        power = (power / 4 + near / 16) * 8 / 3
    number = np.rint(waves(power.shape)).astype(int)
    return np.array([power[number == k].mean() for k in range(1, min(power.shape) // 2 + 1)])


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (SIDE, 24), (32,)])
def test_the_spectrum_of_a_gaussian_field_is_its_exact_one(shape):
    """A spectrum would be tilted, or those of other grids would not be comparable."""
    power = 10 / (1 + waves(shape)) ** 3
    found = radial(fields(power, MANY))
    exact = windowed(power)
    error = found.std(0) / MANY**0.5
    assert (np.abs(found.mean(0) - exact) < 5 * error).all()
    assert exact[0] / exact[-1] > 30


def test_a_border_that_does_not_repeat_adds_no_power():
    """A slope would look like fine structure: its jump at the border has waves of all lengths."""
    slope = np.arange(SIDE, dtype=float)[None, :, None, None] + np.zeros((1, SIDE, SIDE, 1))
    power = radial(slope)[0]
    assert power[3:].max() < 2e-4 * power[0]


def test_ratios_beside_those_of_held_out_fields():
    """A network would be blamed for the error of few samples, or its blur would hide."""
    power = 10 / (1 + waves((SIDE, SIDE))) ** 3
    splits = {"train": fields(power, MANY, 1), "test": fields(power, 400, 2)}
    source = lambda split: Memory(splits[split].astype(np.float32), kind="field")
    real = Real(source, Reading(kind="field"), MANY, Path())
    exact = spectrum(real, Samples(fields(power, 400, 3).astype(np.float32), None))
    assert exact["mean"] < 2.5 * exact["floor"] < 0.1 and exact["floor_worst"] < 0.15
    low, high = exact["intervals"]["mean"]
    assert low <= exact["mean"] <= high and len(exact["ratios"]) == SIDE // 2
    blurred = fields(power * (waves((SIDE, SIDE)) < 5), 400, 3).astype(np.float32)
    found = spectrum(real, Samples(blurred, None), resamples=0)
    assert found["worst"] > 0.9 and abs(found["ratios"][0] - 1) < 0.1
    assert 1.5 < found["decades"] < 3


def test_other_items_have_no_spectrum():
    source = lambda split: Memory(np.zeros((4, 2), np.float32), kind="points")
    real = Real(source, Reading(kind="points"), 4, Path())
    with pytest.raises(ValueError, match="spectrum: needs fields; the items are points"):
        spectrum(real, Samples(real.test.x, None))
