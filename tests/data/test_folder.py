"""Image files of every size and kind: the right pixels with the right label, or a clear refusal."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.config import ConfigError
from diffjax.data import folder, load

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def save(path: Path, x, **settings) -> None:
    """Write an image, a colour for a whole image, or bytes that are no image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(x, bytes):
        path.write_bytes(x)
        return
    x = np.full((8, 8, 3), x, np.uint8) if isinstance(x, int | tuple) else x
    image = x if isinstance(x, Image.Image) else Image.fromarray(x)
    image.save(path, **settings)


def only(path: Path, **settings) -> np.ndarray:
    """The one image in a folder."""
    [x] = load(folder("train", path=str(path), holdout=0.0, **settings)).x
    return x


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_folders_are_the_classes_in_alphabetical_order(tmp_path):
    for name, grey in (("cat", 30), ("ape", 10), ("bee", 20)):
        save(tmp_path / name / "1.png", grey)
        save(tmp_path / name / "more" / "2.PNG", grey + 1)
    data = load(folder("train", path=str(tmp_path), holdout=0.0))
    assert data.classes == 3
    assert data.shape == (8, 8, 3)
    grey = data.x[:, 0, 0, 0]
    assert sorted(grey) == [10, 11, 20, 21, 30, 31]
    np.testing.assert_array_equal(data.label, grey // 10 - 1)


def test_images_in_no_folder_have_no_labels(tmp_path):
    save(tmp_path / "a.png", 1)
    save(tmp_path / "b.bmp", 2)
    save(tmp_path / "notes.txt", b"not an image, and not taken for one")
    data = folder("train", path=str(tmp_path), holdout=0.0)
    assert data.classes == 0
    assert data[np.arange(2)].keys() == {"x"}
    assert load(data).x[:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_folders_named_as_splits_are_the_splits(tmp_path, name):
    for i in range(20):
        save(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", i)
    for i in range(20, 24):
        save(tmp_path / name / "ab"[i % 2] / f"{i}.png", i)
    for split, numbers in (("train", range(20)), ("test", range(20, 24))):
        data = load(folder(split, path=str(tmp_path)))
        assert data.classes == 2
        assert sorted(data.x[:, 0, 0, 0]) == list(numbers)
        np.testing.assert_array_equal(data.label, data.x[:, 0, 0, 0] % 2)


def test_a_class_without_held_out_images_does_not_shift_the_labels(tmp_path):
    """`bee` would be class 1 in training and class 0 in the test split."""
    save(tmp_path / "train" / "ape" / "1.png", 1)
    save(tmp_path / "train" / "bee" / "2.png", 2)
    save(tmp_path / "test" / "bee" / "3.png", 3)
    data = load(folder("test", path=str(tmp_path)))
    assert data.classes == 2
    assert data.label.tolist() == [1]


def test_a_held_out_class_that_is_not_trained_on_is_refused(tmp_path):
    save(tmp_path / "train" / "ape" / "1.png", 1)
    save(tmp_path / "test" / "bee" / "2.png", 2)
    with pytest.raises(ValueError, match=r"bee.*ape"):
        folder("test", path=str(tmp_path))


@pytest.mark.parametrize("shape", [(16, 40, 3), (40, 16, 3)])
def test_the_centre_is_kept_and_the_borders_are_cut(tmp_path, shape):
    x = np.full(shape, RED, np.uint8)
    top, left = (shape[0] - 16) // 2, (shape[1] - 16) // 2
    x[top : top + 16, left : left + 16] = noise(16, 16, 3)
    save(tmp_path / "a.png", x)
    np.testing.assert_array_equal(only(tmp_path, size=16), noise(16, 16, 3))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_images_of_several_sizes_are_brought_to_one(tmp_path, ending):
    """The green centre would not fill the result. JPEG may be decoded at a smaller size."""
    for i, (h, w) in enumerate([(8, 8), (16, 16), (20, 60), (90, 30), (400, 700), (6, 6)]):
        x = np.full((h, w, 3), RED, np.uint8)
        side = min(h, w)
        top, left = (h - side) // 2, (w - side) // 2
        x[top : top + side, left : left + side] = GREEN
        save(tmp_path / f"{i}.{ending}", x, quality=95)
    data = load(folder("train", path=str(tmp_path), size=16, holdout=0.0))
    assert data.x.shape == (6, 16, 16, 3)
    middle = data.x[:, 3:13, 3:13].astype(int)
    assert np.abs(middle - GREEN).max() < 30


def test_an_image_of_the_size_asked_for_is_not_resampled(tmp_path):
    save(tmp_path / "a.png", noise(16, 16, 3))
    np.testing.assert_array_equal(only(tmp_path, size=16), noise(16, 16, 3))


def test_grey_is_one_channel_or_three_equal_ones(tmp_path):
    x = noise(8, 9)
    save(tmp_path / "a.png", x)
    np.testing.assert_array_equal(only(tmp_path, channels=1), x[..., None])
    np.testing.assert_array_equal(only(tmp_path), np.stack([x] * 3, -1))


def test_colours_become_grey_by_their_luminance(tmp_path):
    save(tmp_path / "a.png", GREEN)
    assert only(tmp_path, channels=1).shape == (8, 8, 1)
    np.testing.assert_allclose(only(tmp_path, channels=1), 0.587 * 255, atol=1)


def test_the_colours_of_a_palette_are_looked_up(tmp_path):
    """The numbers of the palette would be taken for grey levels: noise."""
    image = Image.fromarray(noise(8, 8, 3)).quantize(16)
    save(tmp_path / "a.png", image)
    np.testing.assert_array_equal(only(tmp_path), np.asarray(image.convert("RGB")))


def test_what_is_transparent_is_white(tmp_path):
    """Transparent areas would have the arbitrary, often black, colour below them."""
    x = np.zeros((8, 8, 4), np.uint8)
    x[4:] = (*GREEN, 255)
    x[0, 0] = (0, 0, 0, 51)
    save(tmp_path / "a.png", x)
    seen = only(tmp_path)
    assert (seen[4:] == GREEN).all()
    assert (seen[1:4] == WHITE).all()
    np.testing.assert_allclose(seen[0, 0], 204, atol=1)
    assert only(tmp_path, channels=1)[1, 1] == 255


def test_what_is_transparent_in_a_palette_is_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, *GREEN])
    image.paste(1, (0, 0, 8, 4))
    save(tmp_path / "a.png", image, transparency=0)
    seen = only(tmp_path)
    assert (seen[:4] == GREEN).all()
    assert (seen[4:] == WHITE).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, channels):
    """All levels above 255 of 65,535 would be white, as by Pillow alone."""
    save(tmp_path / "a.png", noise(8, 8).astype(np.uint16) * 257)
    np.testing.assert_array_equal(
        only(tmp_path, channels=channels)[..., :1], noise(8, 8)[..., None]
    )


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
def test_photographs_are_turned_upright(tmp_path, ending, orientation, turn):
    """People would lie on their side: a camera writes the orientation beside the pixels."""
    x = np.full((16, 32, 3), RED, np.uint8)
    x[:, :16] = GREEN
    image = Image.fromarray(x)
    image.getexif()[0x0112] = orientation
    save(tmp_path / f"a.{ending}", image, exif=image.getexif(), quality=95)
    seen, upright = only(tmp_path).astype(int), np.rot90(x, turn).astype(int)
    assert seen.shape == upright.shape
    assert np.abs(seen - upright).mean() < 20


def test_images_of_another_shape_are_refused_by_name_where_no_size_is_given(tmp_path):
    save(tmp_path / "a.png", noise(8, 8, 3))
    save(tmp_path / "b.png", noise(8, 9, 3))
    data = folder("train", path=str(tmp_path), holdout=0.0)
    with pytest.raises(ConfigError, match=r"b\.png: is 8 x 9 x 3.*8 x 8 x 3.*config\.data\.size"):
        data[np.arange(2)]


def test_a_folder_without_images_is_refused(tmp_path):
    save(tmp_path / "notes.txt", b"")
    with pytest.raises(ValueError, match=r"no images in it; known endings: \.png"):
        folder("train", path=str(tmp_path))


@pytest.mark.parametrize("path", ["", "no/such/folder"])
def test_a_folder_that_is_not_there_is_refused(path):
    with pytest.raises(ValueError, match=f"path={path!r}: no such folder.*folder:PATH"):
        folder("train", path=path)


def test_an_image_beside_class_folders_is_refused(tmp_path):
    """The image, which has no class, would be left out without notice."""
    save(tmp_path / "ape" / "1.png", 1)
    save(tmp_path / "2.png", 2)
    with pytest.raises(ValueError, match=r"2\.png: lies beside the class folders ape"):
        folder("train", path=str(tmp_path))


@pytest.fixture
def damaged(tmp_path):
    """ape/1, ape/2 (damaged), bee/3, bee/4 (damaged); the grey level is the number."""
    for i in (1, 2, 3, 4):
        save(tmp_path / ("ape" if i < 3 else "bee") / f"{i}.png", i)
    whole = (tmp_path / "ape" / "2.png").read_bytes()
    save(tmp_path / "ape" / "2.png", whole[: len(whole) - 30])
    save(tmp_path / "bee" / "4.png", b"not an image")
    return str(tmp_path)


def test_an_unreadable_image_is_refused_by_name(damaged):
    data = folder("train", path=damaged, holdout=0.0)
    message = r"ape.2\.png: unreadable.*: 1, allowed: config\.data\.unreadable=0"
    with pytest.raises(ConfigError, match=message):
        data[np.array([0, 1])]


def test_an_unreadable_image_is_replaced_by_the_next_one_with_its_label(damaged, capsys):
    """The pixels of one image would be trained with the label of another."""
    data = folder("train", path=damaged, holdout=0.0, unreadable=1)
    for _ in range(2):
        items = data[np.array([1, 0, 2])]
        assert items["x"][:, 0, 0, 0].tolist() == [3, 1, 3]
        assert items["label"].tolist() == [1, 0, 1]
    assert capsys.readouterr().err.count("2.png: unreadable") == 1


def test_more_unreadable_images_than_allowed_are_refused(damaged):
    data = folder("train", path=damaged, holdout=0.0, unreadable=1)
    with pytest.raises(ConfigError, match=r"4\.png.*so far: 2, allowed: config.*unreadable=1"):
        load(data)


def test_the_last_image_is_replaced_by_the_first(damaged):
    data = folder("train", path=damaged, holdout=0.0, unreadable=2)
    assert load(data).x[:, 0, 0, 0].tolist() == [1, 3, 3, 1]
    assert load(data).label.tolist() == [0, 1, 1, 0]


def test_a_folder_of_unreadable_images_alone_is_refused(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", b"")
    with pytest.raises(ConfigError, match=r"0\.png: neither this image nor any other"):
        folder("train", path=str(tmp_path), unreadable=9, holdout=0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": -1}, "size=-1: needs size >= 0"),
        ({"channels": 2}, "channels=2: needs 1 (grey) or 3 (RGB)"),
        ({"unreadable": -1}, "unreadable=-1: needs unreadable >= 0"),
        ({"holdout": 1.0}, "holdout=1.0: needs 0 <= holdout < 1"),
        ({"holdout": -0.1}, "holdout=-0.1: needs 0 <= holdout < 1"),
    ],
)
def test_settings_out_of_range_are_refused(tiny_folder, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        folder("train", path=str(tiny_folder), **settings)


def test_a_split_that_holds_nothing_is_refused(tiny_folder):
    with pytest.raises(ValueError, match=r"puts none of 40 items into split 'test'"):
        folder("test", path=str(tiny_folder), holdout=0.0)


def test_the_held_out_images_stay_so_when_files_are_added(tmp_path):
    """Training images would become test images of the next run."""
    before: dict[str, set[int]] = {"train": set(), "test": set()}
    for some in (range(0, 120, 2), range(1, 120, 2)):
        for i in some:
            save(tmp_path / f"{i}.png", i)
        for split in before:
            data = load(folder(split, path=str(tmp_path), holdout=0.3))
            now = set(data.x[:, 0, 0, 0].tolist())
            assert len(now) == len(data)
            assert before[split] <= now
            before[split] = now
        assert not before["train"] & before["test"]
    assert before["train"] | before["test"] == set(range(120))
    assert 20 < len(before["test"]) < 52


def test_a_class_without_a_training_image_is_named(tmp_path, capsys):
    """Samples would be requested of a class that the network never saw."""
    for name, count in (("a", 5), ("c", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{i}.png")
    folder("train", path=str(tmp_path), holdout=0.1)
    assert "no training item" not in capsys.readouterr().err
    source = folder("train", path=str(tmp_path), holdout=0.5)
    assert source.classes == 2 and 1 not in source.labels()
    assert f"{tmp_path}: no training items of class c" in capsys.readouterr().err
