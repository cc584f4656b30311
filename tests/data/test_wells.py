"""Particles of known energy: exact integrals of DW4, and what must hold for their samples."""

import functools

import numpy as np
import pytest

from diffjax.data import dw4, lj13
from diffjax.data.particles import SYSTEMS, double_well, metropolis, squares, system_of

DW4, LJ13 = SYSTEMS["dw4"], SYSTEMS["lj13"]


@functools.cache
def exact(step=0.125, side=128, rows=100, reach=8.0):
    """Return distances r, their density in DW4, and log Z in units of the literature.

    Place the first particle at 0 and the second at (r, 0), which leaves 2 pi r for the angle. With
    w(d) = exp(-pair energy) and f(y) = w(|y|) w(|y - (r, 0)|), the integral over the two others is
    that of f(y) w(|y - z|) f(z), a convolution in the plane. The trapezoidal rule is exact up to
    rounding for functions as smooth as these, which vanish before the edge. Relative coordinates
    of N points have 1 / N times the volume of centred ones for each axis, squared for both axes:
    the determinant of their Gram matrix is 1 / N.
    """
    weight = lambda a, b: np.exp(-double_well(a**2 + b**2))
    axis = (np.arange(side) - side / 2) * step
    x, y = np.meshgrid(axis, axis, indexing="ij")
    wide = np.fft.ifftshift((np.arange(2 * side) - side) * step)
    kernel = np.fft.rfft2(weight(*np.meshgrid(wide, wide, indexing="ij")))
    distances, values = (np.arange(rows) + 0.5) * reach / rows, []
    for r in distances:
        f = np.zeros((2 * side, 2 * side))
        f[:side, :side] = weight(x, y) * weight(x - r, y)
        both = np.fft.irfft2(np.fft.rfft2(f) * kernel) * f
        values.append(2 * np.pi * r * weight(r, 0) * both.sum() * step**4 / 4)
    total = np.sum(values) * reach / rows
    return distances, np.array(values) / total, np.log(total)


def test_the_entropy_of_dw4_is_that_of_the_quadrature():
    """NLL minus entropy would not be the divergence. 7.13 +- 0.02 nats by importance sampling."""
    r, density, log_z = exact()
    energy = 6 * (density * double_well(r**2)).sum() * (r[1] - r[0])  # six pairs of one law
    assert abs(log_z - 29.667232232904) < 1e-9 and abs(energy - -22.541509603479) < 1e-9
    assert abs(energy + log_z - 7.1257226294) < 1e-9
    assert abs(DW4.log_z - (log_z - DW4.rank * np.log(DW4.scale))) < 1e-9
    np.testing.assert_allclose(exact(step=0.16, side=100)[2], log_z, atol=1e-8)


def test_importance_sampling_finds_the_same_constant():
    """The quadrature would integrate another measure than that of centred points."""
    rng, num, width = np.random.default_rng(0), 500_000, 1.05
    x = width * rng.normal(size=(num, 4, 2))
    x -= x.mean(1, keepdims=True)
    log_q = -(x**2).sum((1, 2)) / (2 * width**2) - 3 * np.log(2 * np.pi * width**2)
    weights = np.exp(-DW4.energy(x) - log_q - 20)
    error = weights.std() / weights.mean() / num**0.5
    assert error < 0.08
    assert abs(np.log(weights.mean()) + 20 - DW4.log_z) < 4 * error


def test_samples_of_dw4_have_the_exact_distances_and_energy():
    """The chains would not have converged, or the items depend on each other."""
    x = dw4("train").x.astype(np.float64) * DW4.scale
    first, second = np.triu_indices(4, 1)
    found = np.sqrt(squares(x[:, first], x[:, second]))
    r, density, _ = exact()
    cdf, step = np.cumsum(density) * (r[1] - r[0]), (r[1] - r[0]) / 2
    shares = (found[..., None] < r + step).mean((0, 1))
    assert np.abs(shares - cdf).max() < 0.008  # about 4 deviations for 10,000 items
    energy = DW4.energy(x / DW4.scale)
    assert abs(energy.mean() - -22.5415096) < 4.5 * energy.std() / 100
    assert abs(x.mean(1)).max() < 1e-5 and 0.9 < (x**2).sum() / (6 * 4 * len(x)) < 1.3


@pytest.mark.parametrize(("name", "size"), [("dw4", 10_000), ("lj13", 1000)])
def test_samples_fulfil_the_virial_theorem(name, size):
    """E[x . grad U] is the number of dimensions, for any U: the divergence of x p is 0."""
    system = SYSTEMS[name]
    x = metropolis(system, size, np.random.default_rng(3))
    h = 1e-5
    virial = (system.energy((1 + h) * x) - system.energy((1 - h) * x)) / (2 * h)
    assert abs(virial.mean() - system.rank) < 4.5 * virial.std() / size**0.5
    assert system.rank == {"dw4": 6, "lj13": 36}[name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_energies_do_not_depend_on_place_orientation_or_order(name):
    system, rng = SYSTEMS[name], np.random.default_rng(0)
    x = 3 * rng.normal(size=(5, system.particles, system.axes))
    before = system.energy(x)
    q = np.linalg.qr(rng.normal(size=(system.axes, system.axes)))[0]
    for other in (x + 1.0, x @ q, x[:, ::-1]):
        np.testing.assert_allclose(system.energy(other), before, rtol=1e-10)


def test_energies_are_those_of_the_formulas():
    """By hand: DW4 of a square with sides 3; LJ13 of two particles at distance 1, ten far away."""
    square = np.array([[[0, 0], [3, 0], [3, 3], [0, 3.0]]])
    pair = lambda d: 0.9 * (d - 4) ** 4 - 4 * (d - 4) ** 2
    known = 4 * pair(3.0) + 2 * pair(3 * 2**0.5)
    np.testing.assert_allclose(DW4.energy(square / DW4.scale), known)
    line = np.zeros((1, 13, 3))
    line[0, :, 0] = np.arange(13) * 1e3
    line[0, 1, 0] = 1.0
    trap = ((line - line.mean(1)) ** 2).sum() / 2
    np.testing.assert_allclose(LJ13.energy(line / LJ13.scale), trap - 1, rtol=1e-12)


def test_a_form_names_its_system_and_other_sizes_are_refused():
    """The divergence would be that of other particles, or be missing from the result."""
    assert system_of(lj13("test", size=5).form) == LJ13 and np.isnan(LJ13.log_z)
    assert not np.array_equal(dw4("train", size=5).x, dw4("test", size=5).x)
    for size in (0, -1):
        with pytest.raises(ValueError, match="size="):
            dw4("train", size=size)
