"""The sources `winds` and `relief` on small files of known values, made here."""

from typing import Any

import numpy as np
import pytest
from scipy.io import netcdf_file

from diffjax.data import Batches, Reading, relief, winds

HOURS = 730.5
YEARS = 6
"""Years of months, as in the file: from January 1982 on."""


def written(path, axes, **variables):
    """Write float variables over axes of these sizes, by name: (names of axes, values)."""
    with netcdf_file(path, "w") as file:
        for name, size in axes.items():
            file.createDimension(name, size)
        for name, (over, values) in variables.items():
            variable = file.createVariable(name, values.dtype.newbyteorder(">"), over)
            variable[:] = values
            if values.dtype.itemsize == 4:
                variable.missing_value = np.float32(-99.9)
    return str(path)


def months(path, u, v):
    """Write winds (T, H, W) like those of the package, from south to north."""
    axes = {"T": len(u), "Y": u.shape[1], "X": u.shape[2]}
    wind = lambda x: (("T", "Y", "X"), x.astype(np.float32))
    time = 17598 + HOURS * np.arange(len(u))
    return written(path, axes, UWND=wind(u), VWND=wind(v), TIME=(("T",), time))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(0)
    season = 10 * np.sin(2 * np.pi * np.arange(12 * YEARS) / 12)[:, None, None]
    u, v = (season + rng.normal(size=(12 * YEARS, 7, 8)) for _ in range(2))
    return months(tmp_path_factory.mktemp("winds") / "w.cdf", u, 5 + 2 * v), u, 5 + 2 * v


def test_winds_are_anomalies_of_their_month_and_come_back_in_metres_per_second(file):
    """A forecast could not be read in m/s, or held-out months would set the scale."""
    path, u, v = file
    train, test = (winds(s, path, factor=2, months=12) for s in ("train", "test"))
    assert train.form == test.form and train.form.shape == (3, 4, 2)
    assert (len(train), len(test)) == (12 * YEARS - 13, 12)
    assert test.form.class_names[0] == "January" and test.labels().tolist() == [*range(12)]
    mean, std = (np.array(dict(train.form.units)[k]) for k in ("mean", "std"))
    squares = lambda x: x[:, ::-1][:, :6].reshape(-1, 3, 2, 4, 2).mean((2, 4))
    true = np.stack([squares(u), squares(v)], -1)
    for source, first in ((train, 1), (test, 12 * (YEARS - 1))):
        items = source[np.arange(len(source))]
        years = 1 if source is test else (YEARS - 1) / (YEARS - 2)
        back = items["x"] / years * std + mean[items["label"]]
        np.testing.assert_allclose(back, true[first : first + len(source)], atol=2e-3)
        earlier = items["map"] / years * std + mean[(items["label"] - 1) % 12]
        later = slice(source is test, None)  # the first held-out pair begins with a training month
        wanted = true[first - 1 :][: len(source)]
        np.testing.assert_allclose(earlier[later], wanted[later], atol=2e-3)
    north = items["latitude"]
    assert (np.diff(north[0, :, 0, 0]) < 0).all() and north.shape == (12, 3, 4, 1)
    assert north[0, 0, 0, 0] == pytest.approx(np.sqrt(2) * (1 + np.sin(np.pi / 3)) / 2)
    whole = np.concatenate([train[np.array([0])]["map"], train[np.arange(len(train))]["x"]])
    np.testing.assert_allclose(whole.reshape(YEARS - 1, 12, 3, 4, 2).mean(0), 0, atol=1e-5)
    freedom = (YEARS - 1) * 12 - 12
    others = (YEARS - 1) / (YEARS - 2)
    np.testing.assert_allclose((whole**2).sum(0) / freedom, others**2, rtol=1e-4)
    march = squares(u)[2 : 12 * (YEARS - 1) : 12]
    apart = march[0] - march[1:].mean(0)
    np.testing.assert_allclose(train[np.array([1])]["x"][0, ..., 0] * std[..., 0], apart, atol=2e-3)


def test_the_globe_is_turned_with_its_earlier_month_in_training_alone(file):
    """Places of a month and of the next one would no longer correspond."""
    source = winds("train", file[0], factor=1, months=12, turned=True)
    index = np.arange(6)
    plain, kept = source[index], source.kept()
    drawn = source.draw(index, np.arange(6), seed=0)
    turns = []
    for k in index:
        same = [
            n
            for n in range(8)
            if all((np.roll(plain[a][k], n, 1) == drawn[a][k]).all() for a in ("x", "map"))
        ]
        assert len(same) == 1
        turns += same
    assert len(set(turns)) > 1 and kept is source
    batch = Batches(source, 4, 0, Reading(labels=True, conditions=("map",)))[3]
    again = Batches(source, 4, 0, Reading(labels=True, conditions=("map",)))[3]
    np.testing.assert_array_equal(batch["x"], again["x"])
    still = winds("train", file[0], factor=1, months=12)
    np.testing.assert_array_equal(still.draw(index, index, 0)["x"], plain["x"])


def test_squares_of_relief_lie_side_by_side_from_the_north(tmp_path):
    """Squares would overlap, stand upside down, or be of the poles."""
    y = np.linspace(-90, 90, 19)
    heights = (100 * np.arange(19)[:, None] + np.arange(12)).astype(np.float32)
    axes = {"Y": 19, "X": 12}
    path = written(tmp_path / "e.cdf", axes, ROSE=(("Y", "X"), heights), ETOPO05_Y=(("Y",), y))
    train, test = (relief(s, path, side=4, holdout=0.3) for s in ("train", "test"))
    assert len(train) + len(test) == 3 * 3 and train.form.shape == (4, 4, 1)
    units = dict(train.form.units)
    assert train.x.mean() == pytest.approx(0, abs=1e-5) and train.x.std() == pytest.approx(1)
    assert units == dict(test.form.units)
    metres = np.concatenate([train.x, test.x]) * units["std"] + units["mean"]
    corners = sorted(metres[:, 0, 0, 0].round().astype(int).tolist())
    assert corners == sorted(100 * row + column for row in (15, 11, 7) for column in (0, 4, 8))
    np.testing.assert_allclose(np.diff(metres[..., 0], axis=1), -100, rtol=1e-3)


def test_files_that_are_absent_or_others_are_refused_in_one_line(tmp_path, file):
    (other := tmp_path / "a.cdf").write_bytes(b"CDF\x01")
    for make in (winds, relief):
        with pytest.raises(ValueError, match=r"no such file.*apt-get download ferret-datasets"):
            make("train", str(tmp_path / "none.cdf"))
        with pytest.raises(ValueError, match=r"a\.cdf: is no NetCDF file for"):
            make("train", str(other))
    with pytest.raises(ValueError, match=r"holds UWND, VWND, TIME; needs ROSE"):
        relief("train", file[0])
    bad: list[tuple[dict[str, Any], str]] = [
        ({"factor": 3}, "factor=3: must divide the 8 columns"),
        ({"factor": 0}, "factor=0"),
        ({"months": 100, "factor": 2}, "months=100"),
        ({"months": 0, "factor": 2}, "months=0"),
    ]
    for settings, part in bad:
        with pytest.raises(ValueError, match=part):
            winds("train", file[0], **settings)
    holes = np.full((72, 2, 2), -99.9)
    with pytest.raises(ValueError, match="missing winds"):
        winds("train", months(tmp_path / "b.cdf", holes, holes), factor=1)
