"""Feature networks as metrics use them: all items, in order, whatever the batch."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import Memory, digits
from diffjax.evaluation import EXTRACTORS, Judge, extract
from diffjax.nets.classifier import classifier

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def real():
    """Digits, and a judge that was not fitted."""
    train = digits("train")
    x, rng = jnp.zeros((1, 8, 8, 1)), np.random.default_rng(0)
    shapes = jax.eval_shape(classifier(10).init, jax.random.key(0), x)
    params = jax.tree.map(lambda a: 0.1 * rng.standard_normal(a.shape, np.float32), shapes)
    return SimpleNamespace(train=train, classes=10, judge=Judge(params, 10, 300))


def test_features_are_those_of_each_item_in_every_batch(real):
    """A last batch that is filled up could leave what fills it, or another order."""
    x, made = real.train.x[:29], EXTRACTORS["classifier"](real)
    few, whole = extract(made, x, batch_size=16), extract(made, x)
    assert few["pool"].shape == (29, 128)
    for name, value in whole.items():
        np.testing.assert_allclose(few[name], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(few["logits"].argmax(1), real.judge.predict(x))


def test_pixels_are_the_values_themselves(real):
    x = real.train.x[:3]
    made = extract(EXTRACTORS["pixels"](real), x)
    np.testing.assert_array_equal(made["pool"], x.reshape(3, -1).astype(np.float32) / 255)


def test_a_classifier_needs_classes(real):
    with pytest.raises(ValueError, match="no classes"):
        EXTRACTORS["classifier"](SimpleNamespace(train=Memory(real.train.x), classes=0, judge=None))


def test_its_fingerprint_is_that_of_its_weights(real):
    """Results of different networks would be compared as if they were of one."""
    made = EXTRACTORS["classifier"](real)
    params = jax.tree.map(lambda a: a + 1e-6, real.judge.params)
    changed = SimpleNamespace(**vars(real) | {"judge": Judge(params, 10, 300)})
    prints = [EXTRACTORS["classifier"](r).fingerprint for r in (real, changed)]
    assert prints[0] == made.fingerprint != prints[1]
    assert all(len(text) == 12 for text in prints)


@pytest.mark.parametrize("name", sorted(set(EXTRACTORS) - {"pixels", "classifier"}))
def test_weights_that_are_not_those_of_the_network_are_refused_by_name(name, real, tmp_path):
    """Half a network would be filled with zeros, or a traceback be all that one sees."""
    from safetensors.numpy import save_file

    save_file({"other": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not the tensors of this network: missing: ") as refused:
        EXTRACTORS[name](real, weights=str(tmp_path / "other.safetensors"))
    assert "\n" not in str(refused.value)


def test_a_file_of_other_weights_gives_features_and_says_so(real, tmp_path, monkeypatch):
    """From a file to features: and none may pass for those that everybody publishes."""
    monkeypatch.syspath_prepend(PARITY)
    from make_features import drawn
    from safetensors.numpy import save_file

    stored = np.load(PARITY / "features.npz")
    shapes = json.loads(str(stored["dinov2/shapes"]))
    save_file({k: drawn(k, tuple(s)) for k, s in shapes.items()}, tmp_path / "dino.safetensors")
    made = EXTRACTORS["dinov2_b14"](real, weights=str(tmp_path / "dino.safetensors"))
    found = extract(made, real.train.x[:3])
    assert found["pool"].shape == (3, 128)
    assert np.isfinite(found["pool"]).all()
    assert "not the standard weights" in made.about
    data = (tmp_path / "dino.safetensors").read_bytes()
    assert made.fingerprint == hashlib.sha256(data).hexdigest()[:12]
    with pytest.raises(
        ValueError, match=r"dinov2_b14: items \(2,\) of float32; needs uint8 images"
    ):
        extract(made, np.zeros((3, 2), np.float32))
