"""Lengths in sources other than archives, and in kinds whose items have none."""

import numpy as np
import pytest

from diffjax.data import array, folder, latents

N, L = 20, 6
LENGTH = 1 + np.arange(N) % L
X = np.random.default_rng(0).normal(size=(N, L, 2)).astype(np.float16)


def written(path, **arrays):
    for name, values in ({"latents": X} | arrays).items():
        np.save(path / f"{name}.npy", values)
    return str(path)


@pytest.mark.parametrize("by", ["length", "mask"])
def test_memory_maps_of_padded_sequences(tmp_path, by):
    """The network would be trained on the padding of an encoder's outputs."""
    inside = np.arange(L) < LENGTH[:, None]
    path = written(tmp_path, **{by: LENGTH if by == "length" else inside})
    source = latents("train", path, scale=2.0, kind="sequence")
    items = source[np.arange(len(source))]
    rows = source.index
    assert source.form.ends and source.form.kind == "sequence"
    assert items["length"].dtype == np.uint32
    np.testing.assert_array_equal(items["length"], LENGTH[rows])
    expected = np.where(inside[..., None], 2 * X.astype(np.float32), np.nan)[rows]
    np.testing.assert_array_equal(items["x"], expected)


@pytest.mark.parametrize(
    ("kind", "arrays", "message"),
    [
        (
            "latent",
            {"length": LENGTH},
            "length: latents have a fixed size; kinds with lengths: seq",
        ),
        (
            "latent",
            {"mask": LENGTH[:, None] > np.arange(L)},
            "mask: latents have a fixed size; kinds",
        ),
        ("sequence", {"length": LENGTH - 1}, "length: 0 is not a length; needs 1 to 6"),
        ("sequence", {"length": LENGTH[1:]}, r"length: has the shape \(19,\); needs \(20,\)"),
    ],
)
def test_other_lengths_of_memory_maps_are_refused(tmp_path, kind, arrays, message):
    with pytest.raises(ValueError, match=message):
        latents("train", written(tmp_path, **arrays), kind=kind)


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (X.astype(np.float32), "latent"),
        (np.zeros((N, L, 4), np.uint8), ""),
        (np.zeros((N, L, 4, 4, 1), np.uint8), "video"),
        (X[:, :, 0].astype(np.float32), "vector"),
    ],
    ids=["latent", "grey images", "video", "vector"],
)
def test_lengths_of_kinds_that_have_none_are_refused(tmp_path, x, kind):
    """Their padding would be treated as data without notice."""
    np.savez(tmp_path / "a.npz", x=x, length=LENGTH)
    with pytest.raises(ValueError, match=r"length: \w+s have a fixed size; kinds with lengths"):
        array("train", str(tmp_path / "a.npz"), kind=kind)


def test_a_folder_of_sounds_is_refused_by_name(tmp_path):
    """Sound files, which differ in length and are no images, would be read as images."""
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"left out: files 1 \(\.wav 1\); for sounds and arrays use .*array:"
    ):
        folder("train", path=str(tmp_path))
