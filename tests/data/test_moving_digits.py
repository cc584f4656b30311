"""Moving digits: exact paths, splits without a common digit or direction, and stills."""

import re

import jax
import numpy as np
import pytest

from diffjax.builder import experiment
from diffjax.config import load
from diffjax.data import digits, moving_digits
from diffjax.data.moving_digits import DIGIT, SECTORS, reflected
from diffjax.evaluation.clips import centres


def test_digits_move_exactly_as_stated():
    """The paths of samples would be compared with paths that the data do not have."""
    source, index = moving_digits("train", size=50, frames=24), np.arange(50)
    items, corners = source[index], source.corners(index)
    apart = centres(items["x"]) - corners
    np.testing.assert_allclose(apart, np.broadcast_to(apart[:, :1], apart.shape), atol=0.01)
    free = (np.minimum(corners[:, 1:-1], source.room - corners[:, 1:-1]) > 2).all(-1)
    steps = np.diff(corners, axis=1)
    assert free.any() and (corners >= 0).all() and (corners <= source.room).all()
    np.testing.assert_allclose(steps[:, 1:][free], steps[:, :-1][free], atol=1e-9)
    pace = np.abs(source.velocity)
    assert (np.abs(steps) <= pace[:, None] + 1e-9).all()
    speed = np.sqrt((source.velocity**2).sum(1))
    assert speed.min() > 0.5 and speed.max() < 2


def test_at_a_pixel_the_digit_is_its_image():
    """The digits would be blurred everywhere, or have another brightness."""
    source = moving_digits("train", size=20, speed=(0, 0))
    source.start[:] = np.round(source.start)
    for k, (row, column) in enumerate(source.start.astype(int)):
        frame = source[np.array([k])]["x"][0, 3, ..., 0].astype(int)
        inside = frame[row : row + DIGIT, column : column + DIGIT]
        np.testing.assert_array_equal(inside, source.image[source.which[k]])
        assert frame.sum() == inside.sum()


def test_splits_share_neither_digits_nor_directions():
    """A network that remembers digits and paths would look as good as one that knows them."""
    train, test = (moving_digits(split, size=5000) for split in ("train", "test"))
    assert len(train.image) == len(digits("train")) and len(test.image) == len(digits("test"))
    sectors = []
    for source in (train, test):
        angle = np.arctan2(source.velocity[:, 0], source.velocity[:, 1])
        sectors.append({*(angle / (2 * np.pi) * SECTORS % SECTORS).astype(int).tolist()})
    assert not sectors[0] & sectors[1] and len(sectors[1]) == SECTORS // 8
    assert len(sectors[0]) == SECTORS - SECTORS // 8


def test_a_clip_depends_on_its_number_alone():
    """Another size would be another data set, and more frames another clip."""
    small, large = moving_digits("test", size=10), moving_digits("test", size=99, frames=12)
    index = np.arange(10)
    np.testing.assert_array_equal(small[index]["x"], large[index]["x"][:, :8])
    assert moving_digits("train", size=50, only=(3,)).labels().tolist() == [3] * 50


def test_stills_are_unrelated_frames_and_marked():
    """Training on images would take them for clips."""
    source, index = moving_digits("train", size=400, frames=3, stills=0.25), np.arange(400)
    items = source[index]
    still = items["still"] == 1
    assert abs(still.mean() - 0.25) < 0.1 and items["still"].dtype == np.int32
    assert (items["label"][still] == -1).all() and (items["label"][~still] >= 0).all()
    assert [spec.kind for spec in source.form.conditions] == ["label", "still"]
    apart = lambda x: np.abs(np.diff(centres(x), axis=1)).max((1, 2))
    assert np.median(apart(items["x"][still])) > 2 > apart(items["x"][~still]).max()
    held_out = moving_digits("test", size=10, stills=0.25)
    assert held_out.form.names == ["label", "still"]
    assert not held_out[np.arange(10)]["still"].any()
    plain = moving_digits("train", size=400, frames=3)[index]
    np.testing.assert_array_equal(plain["x"][~still], items["x"][~still])


def test_reflections_keep_a_place_in_its_box():
    x = np.random.default_rng(0).normal(0, 30, 1000)
    inside = reflected(x, 5.0)
    assert inside.min() >= 0 and inside.max() <= 5
    np.testing.assert_allclose(reflected(-x, 5.0), inside, atol=1e-12)
    np.testing.assert_allclose(reflected(x + 10, 5.0), inside, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"side": 8}, "side=8"),
        ({"frames": 0}, "frames=0"),
        ({"speed": (2.0, 1.0)}, "speed=(2.0, 1.0): needs two numbers, 0 <= least <= largest"),
        ({"stills": 1.5}, "stills=1.5"),
        ({"only": (10,)}, "only: 10 is no digit"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        moving_digits("train", **settings)


def test_a_config_trains_on_stills_beside_clips():
    """The network would not be told which items are stills, or samples would be stills."""
    changes = {"size": 40, "stills": 0.5, "conditions": ("still",)}
    network = {"channels": 8, "multipliers": (1,), "attention": (), "time_attention": (8,)}
    spec = load("moving_digits")
    spec["data"] |= changes
    spec["network"] |= network
    run = experiment(spec)
    assert run.form.names == ["label", "still"]
    batch = run.batch(run.source("train")[np.arange(8)])
    assert {0, 1} == {*batch["cond"]["still"].tolist()}
    assert not run.conditions(20)["still"].any()
    state = jax.eval_shape(run.initialise)
    shaped = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
    after, _ = jax.eval_shape(run.step(), state, shaped)
    assert jax.tree.structure(after.params) == jax.tree.structure(state.params)
