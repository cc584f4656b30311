"""Samples of other programs are read unchanged, or refused by a line that states the reason."""

import re

import numpy as np
import pytest
from PIL import Image

from diffjax.data.form import labelled
from diffjax.evaluation.elsewhere import read
from diffjax.generation import Generated
from diffjax.runs import output

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 8, 8, 3), np.uint8)
LABEL = np.arange(6) % 3
RGB = labelled("image", (8, 8, 3), 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_sample_writes_is_read_back(tmp_path, channels):
    """`sample --out` would not be in the layout that is scored here and elsewhere."""
    made = Generated(X[..., :channels], {"label": LABEL}, LABEL, LABEL, RGB)
    output.write(tmp_path / "a.npz", made)
    output.write(tmp_path / "folder", made)
    form = labelled("image", (8, 8, channels), 3)
    found = read(tmp_path / "a.npz", form)
    np.testing.assert_array_equal(found.x, made.x)
    np.testing.assert_array_equal(found.label, LABEL)
    assert found.label is not None and found.label.dtype == np.int32
    np.testing.assert_array_equal(read(tmp_path / "folder", form).x, made.x)
    few = read(tmp_path / "folder", form, most=4)
    assert few.label is None and len(few.x) == 4


def test_the_file_is_what_other_evaluators_read(tmp_path):
    """Other evaluators could not read the files.

    They read the first array by name, as uncompressed uint8 (N, H, W, 3) in C order, and any file
    with the ending .png in a folder.
    """
    output.write(tmp_path / "a.npz", Generated(X, {"label": LABEL}, LABEL, LABEL, RGB))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file.files == ["arr_0", "arr_1"]
        assert file["arr_0"].dtype == np.uint8 and file["arr_0"].flags.c_contiguous
        assert {info.compress_type for info in file.zip.infolist()} == {0}
    output.write(tmp_path / "folder", Generated(X, {}, LABEL, LABEL, RGB))
    paths = sorted((tmp_path / "folder").glob("*.png"))
    assert len(paths) == len(X)
    with Image.open(paths[0]) as image:
        assert (image.mode, image.size) == ("RGB", (8, 8))


def test_points_and_latents_are_read(tmp_path):
    """Points and latents would be refused: only images have a fixed range."""
    x = RNG.normal(size=(5, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x)
    np.testing.assert_array_equal(read(tmp_path / "a.npz", labelled("points", (2,))).x, x)


def test_an_npy_file_and_grey_images_without_channels_are_read(tmp_path):
    """An .npy file would be reported as missing, or grey images be refused."""
    np.save(tmp_path / "a.npy", X)
    found = read(tmp_path / "a.npy", RGB)
    np.testing.assert_array_equal(found.x, X)
    assert found.label is None
    grey = labelled("image", (8, 8, 1), 3)
    for name, save in (("g.npy", np.save), ("g.npz", np.savez)):
        save(tmp_path / name, X[..., 0])
        np.testing.assert_array_equal(read(tmp_path / name, grey).x, X[..., :1])


@pytest.mark.parametrize("dtype", ["uint8", ">i2", "uint64"])
def test_labels_are_read_as_a_column_of_any_type(tmp_path, dtype):
    np.savez(tmp_path / "a.npz", X, LABEL.astype(dtype)[:, None])
    found = read(tmp_path / "a.npz", RGB).label
    assert found is not None and found.dtype == np.int32
    np.testing.assert_array_equal(found, LABEL)


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        (
            {"arr_0": X.astype(np.float32) / 255},
            "float32 of shape (6, 8, 8, 3); needs uint8 of shape (N, 8, 8, 3)",
        ),
        ({"arr_0": X.transpose(0, 3, 1, 2)}, "(6, 3, 8, 8); needs uint8 of shape (N, 8, 8, 3)"),
        ({"arr_0": X[..., :1]}, "(6, 8, 8, 1)"),
        ({"arr_0": X[:, :4, :4]}, "(6, 4, 4, 3)"),
        ({"arr_0": (X > 127).astype(np.uint8)}, "up to 1; needs grey levels, 0 to 255"),
        ({"arr_0": X, "arr_1": LABEL[:3]}, "arr_1 is int64 of shape (3,); needs (6,)"),
        ({"arr_0": X, "arr_1": LABEL / 2}, "arr_1 is float64"),
        ({"arr_0": X, "arr_1": LABEL + 1}, "classes 0 to 2"),
        ({"mu": X, "sigma": X}, "holds mu, sigma; needs arr_0"),
        ({"arr_0": np.array([{}], object)}, "Object arrays"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, part):
    """Metrics would be computed on images that do not exist."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape(part)):
        read(tmp_path / "a.npz", RGB)


def test_floats_that_are_not_finite_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", np.full((5, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        read(tmp_path / "a.npz", labelled("points", (2,)))


def test_files_of_another_form_are_refused(tmp_path):
    """One image of another size, or a truncated file, would raise a traceback."""
    cases = {"no such": tmp_path / "none.npz", "no images": tmp_path / "empty"}
    (tmp_path / "empty").mkdir()
    cases["neither an .npy nor an .npz"] = tmp_path / "a.txt"
    cases["neither an .npy nor an .npz"].write_text("text")
    output.write(tmp_path / "b.npz", Generated(X, {"label": LABEL}, LABEL, LABEL, RGB))
    raw = bytearray((tmp_path / "b.npz").read_bytes())
    raw[200:260] = bytes(60)
    cases["cannot be read"] = tmp_path / "b.npz"
    cases["cannot be read"].write_bytes(raw)
    output.write(tmp_path / "size", Generated(X[:2], {}, LABEL, LABEL, RGB))
    Image.fromarray(X[0, :4]).save(tmp_path / "size" / "z.png")
    cases["z.png has the shape (4, 8, 3); needs (8, 8, 3)"] = tmp_path / "size"
    output.write(tmp_path / "cut", Generated(X[:2], {}, LABEL, LABEL, RGB))
    (tmp_path / "cut" / "z.png").write_bytes((tmp_path / "cut" / "000000.png").read_bytes()[:60])
    cases["z.png"] = tmp_path / "cut"
    for part, path in cases.items():
        with pytest.raises(ValueError, match=re.escape(part)):
            read(path, RGB)
    with pytest.raises(ValueError, match=r"points items \(2,\) are read from an .npz"):
        read(tmp_path / "size", labelled("points", (2,)))
