"""Feature networks as metrics use them: all items, in order, for any batch size."""

import functools
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from diffjax.data import Memory, digits
from diffjax.features import EXTRACTORS, Judge, extract
from diffjax.features.classifier import classifier
from diffjax.features.extractors import captions

pytestmark = pytest.mark.typed

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
    """Padding of the last batch could remain, or the order of items change."""
    x, made = real.train.x[:29], EXTRACTORS["classifier"](real)
    first = extract(made, x, batch_size=16)
    assert first["pool"].shape == (29, 128)
    # Each item in another place, and most in another batch.
    moved = extract(made, np.roll(x, 5, 0), batch_size=16)
    for name, value in moved.items():
        np.testing.assert_allclose(first[name], np.roll(value, -5, 0), rtol=1e-4, atol=1e-5)


def test_pixels_are_the_values_themselves(real):
    x = real.train.x[:3]
    made = extract(EXTRACTORS["pixels"](real), x)
    np.testing.assert_array_equal(made["pool"], x.reshape(3, -1).astype(np.float32) / 255)


def test_a_classifier_needs_classes(real):
    with pytest.raises(ValueError, match="no classes"):
        EXTRACTORS["classifier"](SimpleNamespace(train=Memory(real.train.x), classes=0, judge=None))


def test_its_fingerprint_is_that_of_its_weights(real):
    """Results of different networks would be compared as if they came from one."""
    made = EXTRACTORS["classifier"](real)
    params = jax.tree.map(lambda a: a + 1e-6, real.judge.params)
    changed = SimpleNamespace(**vars(real) | {"judge": Judge(params, 10, 300)})
    prints = [EXTRACTORS["classifier"](r).fingerprint for r in (real, changed)]
    assert prints[0] == made.fingerprint != prints[1]
    assert all(len(text) == 12 for text in prints)


@pytest.mark.parametrize("name", sorted(set(EXTRACTORS) - {"pixels", "mel", "classifier"}))
def test_weights_that_are_not_those_of_the_network_are_refused_by_name(name, real, tmp_path):
    """Half a network would be filled with zeros, or the user would see only a traceback."""
    save_file({"other": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not the tensors of this network: missing: ") as refused:
        EXTRACTORS[name](real, weights=str(tmp_path / "other.safetensors"))
    assert "\n" not in str(refused.value)


def test_another_way_to_resize_is_refused_before_the_long_work(real):
    with pytest.raises(ValueError, match="resize='clean': unknown; known: 'tensorflow1', 'pytorch"):
        EXTRACTORS["inception"](real, resize="clean")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Write the file of a network of `make_features.py`, with some shapes changed."""
    monkeypatch.syspath_prepend(PARITY)
    from make_features import drawn

    def write(name, **changes):
        stored = np.load(PARITY / "features.npz")
        shapes = json.loads(str(stored[f"{name}/shapes"])) | changes
        path = tmp_path / f"{name}.safetensors"
        save_file({k: np.asarray(drawn(k, tuple(s))) for k, s in shapes.items()}, path)
        return path

    return write


def test_a_file_of_other_weights_gives_features_and_a_note(real, published):
    """Features of other weights would pass for those in published results."""
    path = published("dinov2")
    made = EXTRACTORS["dinov2_b14"](real, weights=str(path))
    found = extract(made, real.train.x[:3])
    assert found["pool"].shape == (3, 128)
    assert np.isfinite(found["pool"]).all()
    assert "not the standard weights" in made.about
    assert made.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    with pytest.raises(
        ValueError, match=r"dinov2_b14: items \(2,\) of float32; needs uint8 images"
    ):
        extract(made, np.zeros((3, 2), np.float32))


def test_captions_have_vectors_in_the_space_of_images(published, tmp_path):
    """A vector would not depend on the words and their order, or would depend on other captions."""
    words = {"text_model.embeddings.token_embedding.weight": [2 * 256 + 2 + 2, 64]}
    path, merges = published("clip", **words), tmp_path / "merges.txt"
    merges.write_text("#version: 0.2\nt h\nth e</w>\n")
    told = functools.partial(captions, weights=str(path), vocabulary=str(merges))
    made = told(["the cat on a mat", "a mat on the cat", "the cat on a mat"])
    assert made.shape == (3, 32)
    np.testing.assert_array_equal(made[0], made[2])
    assert np.abs(made[0] - made[1]).max() > 1e-3


def test_tensors_of_another_size_are_refused_by_name(real, published):
    """Tensors of another size would be cut or repeated to fit."""
    path = published("dinov2", **{"blocks.1.mlp.fc1.bias": [500]})
    with pytest.raises(ValueError, match="blocks/mlp_in/bias: does not follow from"):
        EXTRACTORS["dinov2_b14"](real, weights=str(path))
    path = published("dinov2", **{"norm.bias": [129]})
    with pytest.raises(
        ValueError, match=r"of other shapes: 1 \(last/bias \(129,\), needs \(128,\)\)"
    ):
        EXTRACTORS["dinov2_b14"](real, weights=str(path))
