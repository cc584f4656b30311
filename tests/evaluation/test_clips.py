"""Metrics of clips: exact on real ones, and on those out of order as bad as they should be."""

import functools

import numpy as np
import pytest

from diffjax import data
from diffjax.data.moving_digits import reflected
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.beforehand import Counts, enough
from diffjax.evaluation.clips import (
    centres,
    exchanged,
    fitted,
    judge_of_frames,
    motion,
    one_class,
    paths,
    predicted,
    shuffled,
    throughout,
)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return Real(functools.partial(data.moving_digits, size=300), data.Reading(), 300, folder)


@pytest.mark.parametrize("frames", [8, 32])
def test_paths_of_real_clips_are_exact(frames):
    """The residual of a perfect network would not be 0, or its speeds would be those of a fit."""
    source = data.moving_digits("test", size=200, frames=frames)
    index = np.arange(200)
    found = fitted(centres(source[index]["x"]), source.room)
    assert found.residual.max() < 0.005  # that of rounding to grey levels
    speed = np.sqrt((source.velocity**2).sum(1))
    np.testing.assert_allclose(found.speed, speed, atol=0.002)


def test_noise_on_a_path_leaves_the_residual_of_its_degrees_of_freedom():
    """The residual would be a number of no unit, or the fit follow the noise."""
    rng, t = np.random.default_rng(0), np.arange(32)[:, None]
    start, velocity = rng.uniform(0, 8, (100, 1, 2)), rng.uniform(0.3, 1.4, (100, 1, 2))
    place = reflected(start + velocity * t, 8.0) + rng.normal(0, 0.2, (100, 32, 2))
    residual = np.sqrt((fitted(place, 8.0).residual ** 2).mean())
    assert abs(residual / (0.2 * np.sqrt(2 * 29 / 32)) - 1) < 0.05  # three parameters an axis


def test_clips_out_of_order_are_punished_and_real_ones_are_not(real):
    """A network that draws the right frames in the wrong order would look perfect."""
    held = real.test.x
    good, bad = (paths(real, Samples(x, None), resamples=3) for x in (held, shuffled(held)))
    assert good["residual"] == good["real_residual"] < 0.005 and good["speed"] == 0
    assert bad["residual"] == good["shuffled_residual"] > 1
    assert bad["speed"] == good["shuffled_speed"] > 10 * good["real_speed"]
    low, high = bad["intervals"]["residual"]
    assert low < bad["residual"] < high


def drifting(split, size=800, frames=6, rho=0.95):
    """Draw videos of 2 x 2 pixels, each a stationary AR(1) process in time."""
    z = np.random.default_rng(len(split)).normal(0, 0.1, (size, frames, 2, 2, 1))
    x = [z[:, 0]]
    for k in range(1, frames):
        x.append(rho * x[-1] + np.sqrt(1 - rho**2) * z[:, k])
    return data.Memory(np.stack(x, 1).astype(np.float32), kind="video")


def test_changes_see_the_order_of_frames_and_frames_do_not(tmp_path):
    """Flickering videos would be as near to the data as real ones."""
    real = Real(drifting, data.Reading(kind="video"), 800, tmp_path)
    held = real.test.x
    good, bad = (motion(real, Samples(x, None)) for x in (held, shuffled(held)))
    assert good["ratio"] == good["real"] < 2 < 20 < bad["ratio"] == good["shuffled"]
    assert good["frames"] < 2 and bad["frames"] < 2


def test_classes_of_frames_are_compared_within_a_clip():
    """The share would be that of frames, or of other clips."""
    classes = np.array([[3, 3, 3], [3, 3, 4], [4, 4, 4]])
    assert throughout(classes).tolist() == [True, False, True]
    clips = np.repeat(np.arange(50)[:, None], 8, 1)
    mixed = exchanged(clips)
    assert (np.sort(mixed, 0) == clips).all() and not throughout(mixed).any()
    assert (np.sort(shuffled(mixed), 1) == np.sort(mixed, 1)).all()


@pytest.mark.thorough
def test_a_judge_of_frames_sees_one_class_in_real_clips(real):
    """The share would be limited by the judge, and mixed clips would not be found."""
    held = real.test
    found = one_class(real, Samples(held.x, held.label), resamples=3)
    assert found["share"] == found["real"] > 0.5 > 0.05 > found["exchanged"]
    right = (predicted(judge_of_frames(real), held.x) == held.label[:, None]).mean()
    assert found["frames"] == pytest.approx(right) and right > 0.8
    assert set(one_class(real, Samples(held.x, None), resamples=0)) == {
        "share",
        "real",
        "exchanged",
    }


def test_items_that_have_no_such_value_are_refused(real):
    points = Real(functools.partial(data.moons, size=40), data.Reading(), 40, real.folder)
    of_points = Samples(points.test.x, None)
    for metric in (one_class, motion):
        with pytest.raises(ValueError, match=f"{metric.__name__}: needs videos; .* points"):
            metric(points, of_points)
    with pytest.raises(ValueError, match="paths: needs clips that state their walls"):
        paths(points, of_points)
    counts = Counts(samples=10, real=10, held_out=10, kind="video")
    for metric in (paths, motion):
        enough(metric, counts)
        with pytest.raises(ValueError, match="needs videos; the items are image"):
            enough(metric, counts._replace(kind="image"))
        with pytest.raises(ValueError, match="no held-out items"):
            enough(metric, counts._replace(held_out=0))
    with pytest.raises(ValueError, match="the samples have no classes"):
        enough(one_class, counts)
    enough(one_class, counts._replace(classes=10))
