"""Images and points in .npy and .npz files: every documented form is read, all else refused."""

import numpy as np
import pytest

from diffjax.data import array, load


def images(size: int = 50, *shape: int) -> np.ndarray:
    """uint8 images whose first pixel is their number."""
    x = np.random.default_rng(0).integers(0, 256, (size, *(shape or (4, 5, 3))), np.uint8)
    x.reshape(size, -1)[:, 0] = np.arange(size)
    return x


def both(path) -> tuple[np.ndarray, np.ndarray]:
    """Return all items of a file, and the numbers (first values) of the held-out ones."""
    train, test = (load(array(split, path=str(path))) for split in ("train", "test"))
    first = [d.x.reshape(len(d), -1)[:, 0] for d in (train, test)]
    x = np.concatenate([train.x, test.x])
    return x[np.argsort(np.concatenate(first))], first[1]


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (images(), (4, 5, 3)),
        (images(50, 4, 5, 1), (4, 5, 1)),
        (images(50, 4, 5), (4, 5, 1)),
        (np.linspace(-1, 1, 50 * 20).reshape(50, 4, 5, 1).astype(np.float32), (4, 5, 1)),
        (np.linspace(-1, 1, 50 * 20).reshape(50, 4, 5, 1), (4, 5, 1)),
        (np.linspace(-9, 9, 100).reshape(50, 2), (2,)),
    ],
    ids=["uint8", "grey", "no channels", "float32", "float64", "points"],
)
def test_images_and_points_are_read_from_npy(tmp_path, x, shape):
    np.save(tmp_path / "a.npy", x)
    data = array("train", path=str(tmp_path / "a.npy"))
    assert data.shape == shape
    assert data.dtype == (np.uint8 if x.dtype == np.uint8 else np.float32)
    assert data.classes == 0
    assert data[np.arange(3)].keys() == {"x"}
    seen, held_out = both(tmp_path / "a.npy")
    np.testing.assert_array_equal(seen, x.reshape(50, *shape).astype(data.dtype))
    assert 0 < len(held_out) < 15


@pytest.mark.parametrize(
    "names",
    [("x", "y"), ("images", "labels"), ("image", "label"), ("data", "target"), ("arr_0", "arr_1")],
)
def test_labels_travel_with_their_images(tmp_path, names):
    """Images and labels would be split differently. `arr_0` is the layout that `sample` writes."""
    label = np.arange(50) * 7 % 10
    np.savez(tmp_path / "a.npz", **dict(zip(names, (images(), label), strict=True)))
    for split in ("train", "test"):
        data = array(split, path=str(tmp_path / "a.npz"), holdout=0.3)
        items = data[np.arange(len(data))]
        assert items["label"].dtype == np.int32
        np.testing.assert_array_equal(items["label"], label[items["x"][:, 0, 0, 0]])
        assert data.classes == 10


def test_an_npz_file_may_hold_images_alone(tmp_path):
    np.savez(tmp_path / "a.npz", x=images())
    assert array("train", path=str(tmp_path / "a.npz")).classes == 0


def test_an_npz_file_may_hold_its_own_splits(tmp_path):
    """Items would be held out although the file has its own splits."""
    parts = {"x_train": images(), "y_train": np.arange(50) % 4}
    parts |= {"x_test": images(6), "y_test": np.array([0, 1, 0, 1, 0, 6])}
    np.savez(tmp_path / "a.npz", **parts)
    for split in ("train", "test"):
        data = array(split, path=str(tmp_path / "a.npz"))
        items = data[np.arange(len(data))]
        np.testing.assert_array_equal(items["x"], parts[f"x_{split}"])
        np.testing.assert_array_equal(items["label"], parts[f"y_{split}"])


def test_classes_are_counted_over_both_splits(tmp_path):
    """Training and evaluation would build networks of different sizes."""
    few, many = np.zeros(50, int), np.array([0, 6])
    np.savez(tmp_path / "a.npz", x_train=images(), x_test=images(2), y_train=few, y_test=many)
    rare = np.zeros(50, int)
    rare[0] = 6  # item 0 is in one split only
    np.savez(tmp_path / "b.npz", x=images(), y=rare)
    for name in ("a.npz", "b.npz"):
        assert [array(s, path=str(tmp_path / name)).classes for s in ("train", "test")] == [7, 7]


def test_the_held_out_items_stay_so_when_items_are_added(tmp_path):
    np.save(tmp_path / "a.npy", images(40))
    np.save(tmp_path / "b.npy", images(80))
    _, few = both(tmp_path / "a.npy")
    _, more = both(tmp_path / "b.npy")
    assert set(few) == {i for i in more if i < 40}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((9, 4, 4, 3), 1.5, np.float32), r"up to 1\.5; needs finite images in \[-1, 1\]"),
        (np.full((9, 4, 4, 3), 255.0), r"up to 255"),
        (np.full((9, 4, 4, 3), np.nan, np.float32), "nan"),
        (np.full((9, 2), np.inf), "inf"),
        (np.full((9, 2), np.nan), "nan"),
        (np.zeros((9, 4, 4, 3), np.int64), "x is int64"),
        (np.zeros((9, 4, 4, 3), bool), "x is bool"),
        (np.zeros((9, 2), np.uint8), "x is uint8"),
        (np.zeros(9, np.float32), r"x has shape \(9,\)"),
        (np.zeros((9, 3, 4, 4), np.uint8), r"x .*has shape \(9, 3, 4, 4\)"),
        (np.zeros((9, 4, 4, 4), np.uint8), r"x .*has shape \(9, 4, 4, 4\)"),
        (np.zeros((9, 2, 4, 4, 4), np.uint8), r"x .*has shape \(9, 2, 4, 4, 4\)"),
        (np.zeros((9, 2, 2, 4, 4, 3), np.uint8), r"needs 1 to 4 axes"),
        (np.float32(3), "x has shape"),
        (np.zeros((0, 4, 4, 3), np.uint8), "none of 0 items|x has shape"),
        (np.array([{}]), "cannot be read"),
    ],
)
def test_what_is_neither_images_nor_points_is_refused(tmp_path, x, message):
    """Out-of-range values would show only in bad samples."""
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(ValueError, match=message):
        array("train", path=str(tmp_path / "a.npy"))


@pytest.mark.parametrize(
    "label",
    [np.zeros(49, int), np.zeros(50), np.full(50, -1), np.zeros((50, 2), int), np.full(50, "cat")],
    ids=["length", "float", "negative", "shape", "text"],
)
@pytest.mark.parametrize("names", [("x", "y"), ("x_train", "y_train")])
def test_labels_that_are_none_are_refused(tmp_path, label, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (images(), label), strict=True)))
    with pytest.raises(ValueError, match=r"a\.npz: labels .*needs integers >= 0 of shape \(50,\)"):
        array("train", path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("path", ["", "no/such/file.npz"])
def test_a_file_that_is_not_there_is_refused(path):
    with pytest.raises(ValueError, match=f"path={path!r}: no such file.*array:PATH"):
        array("train", path=path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        array("train", path=str(tmp_path))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by np.load
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: cannot be read"):
        array("train", path=str(tmp_path / name))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by np.load
def test_a_file_that_ends_too_early_is_refused_by_name(tmp_path):
    for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
        save(tmp_path / name, images())
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=rf"{name}: cannot be read"):
            array("train", path=str(tmp_path / name))


def test_names_that_are_not_known_are_refused_with_the_known_ones(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=images())
    with pytest.raises(ValueError, match=r"holds pictures; needs one of x, image.* or x_train"):
        array("train", path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("holdout", [1.0, -0.1])
def test_a_share_that_is_none_is_refused(tiny_array, holdout):
    with pytest.raises(ValueError, match=f"holdout={holdout}: needs 0 <= holdout < 1"):
        array("train", path=str(tiny_array), holdout=holdout)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", ">i4", "int64", "uint64"])
@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_integer_labels_are_read_as_a_row_or_a_column_of_any_type(tmp_path, dtype, shape):
    """CIFAR-10 as published, with a column of labels, would be refused."""
    label = np.arange(50) % 3
    np.savez(tmp_path / "a.npz", x=images(), y=label.astype(dtype).reshape(shape))
    data = load(array("train", path=str(tmp_path / "a.npz"), holdout=0.0))
    assert data.classes == 3 and data.label.dtype == np.int32
    np.testing.assert_array_equal(data.label, label)


def test_labels_that_are_too_large_are_refused(tmp_path):
    """Labels would wrap around to classes below 0."""
    np.savez(tmp_path / "a.npz", x=images(), y=np.full(50, 2**31))
    with pytest.raises(ValueError, match="the largest label is 2147483648"):
        array("train", path=str(tmp_path / "a.npz"))
