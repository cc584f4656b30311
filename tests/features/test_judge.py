"""The classifier that judges samples must be accurate, independent of them and reproducible."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from diffjax.data import Form, Memory, digits, moons
from diffjax.features import EXTRACTORS, extract, fit
from diffjax.features import judge as module
from diffjax.features.judge import judged
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


def tones(count, low, high, seed, rate=8000):
    """Return sounds of 0.1 s, tones that are low for even items and high for odd ones, and noise.

    Their frequencies vary by a tenth, and their levels by 20 dB.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(count, dtype=np.int32) % 2
    hertz = np.where(label, high, low) * rng.uniform(0.95, 1.05, count)
    phase = 2 * np.pi * (hertz[:, None] * np.arange(800) / rate + rng.uniform(size=(count, 1)))
    x = rng.uniform(0.05, 0.5, (count, 1)) * np.sin(phase) + 1e-3 * rng.normal(size=phase.shape)
    levels = np.round(32767 * x[..., None]).astype(np.int16)
    return Memory(levels, label, 2, kind="audio", units=(("rate", rate),))


def test_sounds_are_judged_by_their_mel_bands(monkeypatch):
    """A judge of the waveforms would have to learn every phase, and features of it as well."""
    monkeypatch.setattr(module, "LEAST", 50)
    monkeypatch.setattr(module, "EPOCHS", 10)
    monkeypatch.setattr(module, "BATCH", 32)
    monkeypatch.setattr(module, "classifier", on_the_host)
    train, test = tones(160, 600, 900, 0), tones(40, 600, 900, 1)
    judge = fit(train)
    assert judge.right(test.x, test.label).all()
    assert not judge.right(-test.x, 1 - test.label).any()
    real = SimpleNamespace(train=train, classes=2, judge=judge)
    pool = extract(EXTRACTORS["classifier"](real), test.x, batch_size=32)["pool"]
    middle = [pool[test.label == k].mean(0) for k in (0, 1)]
    far = np.linalg.norm(pool[:, None] - np.stack(middle), axis=2)
    np.testing.assert_array_equal(far.argmin(1), test.label)


def test_items_without_a_picture_are_not_judged():
    """`evaluate` would start a fit that fails, or leave out the classifier of sounds."""
    rate = (("rate", 8000),)
    assert judged(Form("image", (8, 8, 1), (), "uint8")) and judged(Form("points", (2,)))
    assert judged(Form("audio", (800, 2), (), "int16", rate))
    for other in (Form("audio", (800, 1)), Form("audio", (100, 1), (), "int16", rate)):
        assert not judged(other)
    assert not judged(Form("sequence", (16, 3)))
    with pytest.raises(ValueError, match="needs their rate"):
        fit(Memory(np.zeros((4, 800, 1), np.int16), np.zeros(4, int), 2))
