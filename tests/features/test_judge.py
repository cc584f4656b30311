"""The classifier that judges samples must be accurate, independent of them and reproducible."""

import jax
import numpy as np
import pytest

from diffjax.data import Memory, digits, moons
from diffjax.features import fit
from diffjax.features import judge as module
from diffjax.nets.network import Features

pytestmark = pytest.mark.optimized


ORIGINAL = module.classifier


def on_the_host(classes):
    """Yield the classifier with initial parameters that need no program of random bits."""
    net = ORIGINAL(classes)

    def init(key, x):
        rng = np.random.default_rng(0)

        def draw(path, a):
            if path[-1].key != "kernel":
                return np.full(a.shape, path[-1].key == "scale", a.dtype)
            return (rng.normal(size=a.shape) / np.sqrt(np.prod(a.shape[:-1]))).astype(a.dtype)

        return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(net.init, key, x))

    return Features(init, net.apply)


def briefly(train, **settings):
    """Run `fit` with half of the usual epochs, which suffices for these data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "classifier", on_the_host)
        patch.setattr(module, "EPOCHS", 14)
        patch.setattr(module, "LEAST", 100)
        return fit(train, **settings)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    return folder, briefly(digits("train"), cache=folder)


@pytest.mark.thorough
def test_it_is_right_on_held_out_digits(fitted):
    """A judge that errs on real images says nothing about samples."""
    test = digits("test")
    assert fitted[1].right(test.x, test.label).mean() > 0.97


@pytest.mark.thorough
def test_fitted_as_usual_it_is_right_on_held_out_digits():
    """The default initial parameters, or the default number of steps, would not suffice."""
    test = digits("test")
    assert fit(digits("train")).right(test.x, test.label).mean() > 0.97


@pytest.mark.thorough
def test_samples_of_the_wrong_class_do_not_agree(fitted):
    test = digits("test")
    assert fitted[1].right(test.x, (test.label + 1) % 10).mean() < 0.03


@pytest.mark.thorough
def test_it_is_kept_for_the_same_data_only(fitted, monkeypatch):
    """Fitting would cost minutes each time, or samples be judged by classes of another data set."""
    folder, judge = fitted
    again = lambda *_, **__: pytest.fail("fitted again")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_advance", again)
        same = fit(digits("train"), cache=folder)
    x = digits("test").x
    np.testing.assert_array_equal(same.predict(x), judge.predict(x))
    whole = digits("train")
    other = Memory(whole.x, (whole.label + 1) % 10, 10)
    names = {
        module._fingerprint(data.x, data, flip) for data in (whole, other) for flip in (False, True)
    }
    assert len(names) == 4


def test_points_are_judged_as_well(tmp_path, monkeypatch):
    """The classifier of points is fitted once: a second call reads the file."""
    train, test = moons("train", size=2000), moons("test", size=500)
    judge = briefly(train, cache=tmp_path)
    assert judge.right(test.x, test.label).mean() > 0.98
    monkeypatch.setattr(module, "_advance", lambda *_, **__: pytest.fail("fitted again"))
    again = briefly(train, cache=tmp_path)
    np.testing.assert_array_equal(again.predict(test.x), judge.predict(test.x))


def test_images_are_shifted_and_mirrored_one_by_one():
    """All would move alike, or be mirrored where they should not; points stay."""
    ramp = np.broadcast_to(np.arange(16.0, dtype=np.float32)[None, None, :, None], (32, 16, 16, 1))
    key = jax.random.key(0)
    moved = np.asarray(module._augment(ramp, key, True))[:, 8, 6:10, 0]
    mirrored = moved[:, 0] > moved[:, -1]
    assert 0 < mirrored.sum() < 32
    moved = np.asarray(module._augment(ramp, key, False))[:, 8, 6:10, 0] - ramp[:, 8, 6:10, 0]
    assert {*moved.ravel().tolist()} == {-1.0, 0.0, 1.0}  # at most 16 // 16 pixels
    points = ramp[:, 0, :2, 0]
    assert module._augment(points, key, True) is points
