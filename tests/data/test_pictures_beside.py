"""Pictures beside the images of a folder: the right one, on the grid of its image, or a refusal."""

import json

import numpy as np
import pytest
from PIL import Image

from diffjax.config import ConfigError
from diffjax.data import folder, load
from diffjax.data.pipeline import Batches, Reading


@pytest.fixture
def described(tmp_path):
    """A function that writes six images, each with a picture, and their metadata."""

    def write(sides=(8, 6), grey=True, names="edges", **changes):
        rng, rows = np.random.default_rng(0), []
        for folder_ in ("", "maps"):
            (tmp_path / folder_).mkdir(exist_ok=True)
        for k in range(6):
            x = rng.integers(0, 256, (*sides, 3), np.uint8)
            Image.fromarray(x).save(tmp_path / f"{k}.png")
            beside = 255 - x[..., 0] if grey else 255 - x
            Image.fromarray(beside).save(tmp_path / "maps" / f"of_{k}.png")
            rows.append({"file_name": f"{k}.png", names: f"maps/of_{k}.png"} | changes)
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / "metadata.jsonl").write_text(lines)
        return str(tmp_path)

    return write


def opened(path, **settings):
    return folder("train", path=path, holdout=0.0, **settings)


@pytest.mark.parametrize("grey", [True, False])
def test_each_image_comes_with_its_picture(described, grey):
    """A control would learn from the edges of another image."""
    source = opened(described(grey=grey), pictures=("edges",))
    assert len(source) == 6  # the pictures are no images of their own
    [spec] = source.form.conditions
    assert (spec.name, spec.kind, spec.size) == ("edges", "map", 1 if grey else 3)
    items = source[np.array([4, 1])]
    wanted = 1 - items["x"][..., : spec.size].astype(np.float32) / 255
    np.testing.assert_allclose(items["edges"], wanted, atol=1e-6)
    kept = load(source)
    np.testing.assert_array_equal(kept[np.array([4, 1])]["edges"], items["edges"])


def test_pictures_are_resized_and_mirrored_with_their_images(described):
    """The control would see the edges where the image has none."""
    source = opened(described(sides=(12, 16)), pictures=("edges",), size=8)
    reading = Reading(conditions=("edges",), flip=True, crop=6)
    batch = Batches(source, 12, seed=0, reading=reading)[0]
    assert batch["edges"].shape == (12, 6, 6, 1)
    # Lanczos overshoots, and is cut off at black and at white, so inversion is exact within these.
    grey = batch["x"][..., :1].astype(np.float32) / 255
    inside = (grey > 0) & (grey < 1)
    np.testing.assert_allclose(batch["edges"][inside], 1 - grey[inside], atol=0.01)
    with_crop = {tuple(row) for row in batch["x"][:, 0, :, 0].tolist()}
    assert len(with_crop) > 6  # images came mirrored, or cropped elsewhere, in their second epoch


def test_pictures_belong_to_upright_images(described, tmp_path):
    """The map of a photo that a camera has turned would lie across it."""
    path = described(sides=(12, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    x = np.zeros((16, 12, 3), np.uint8)  # upright; stored on its side
    Image.fromarray(np.rot90(x).copy()).save(tmp_path / "0.png", exif=exif)
    source = opened(path, pictures=("edges",), size=4)
    with pytest.raises(ConfigError, match=r"of_0.png: is 12 x 16, and its image is 16 x 12"):
        source[np.array([0])]
    Image.new("L", (12, 16), 255).save(tmp_path / "maps" / "of_0.png")
    assert source[np.array([0])]["edges"].min() == 1


def test_a_picture_that_proved_unreadable_as_an_image_takes_its_replacement(described, tmp_path):
    """The replacement of an unreadable image would have the picture of the other one."""
    path = described()
    (tmp_path / "2.png").write_bytes(b"damaged")
    items = opened(path, pictures=("edges",), unreadable=1)[np.array([2])]
    np.testing.assert_allclose(items["edges"], 1 - items["x"][..., :1] / 255, atol=1e-6)


def test_what_does_not_fit_is_refused_by_name(described, tmp_path):
    """Training would go wrong later, or on the wrong maps."""
    path = described()
    with pytest.raises(ValueError, match=r"no row for maps.*edges names it: pictures=\('edges',\)"):
        opened(path)
    with pytest.raises(ValueError, match=r"pictures=egdes: .* no such texts; known: edges"):
        opened(path, pictures=("egdes",))
    Image.new("L", (8, 8)).save(tmp_path / "maps" / "of_3.png")
    with pytest.raises(ConfigError, match=r"of_3.png: is 8 x 8, and its image is 8 x 6"):
        opened(path, pictures=("edges",))[np.arange(6)]
    with pytest.raises(ConfigError, match="needs the same proportions"):
        opened(path, pictures=("edges",), size=4)[np.arange(6)]
    (tmp_path / "maps" / "of_3.png").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"edges: .*of_3.png: unreadable"):
        opened(path, pictures=("edges",))[np.arange(6)]
    (tmp_path / "maps" / "of_3.png").unlink()
    with pytest.raises(ValueError, match=r"3.png: edges: .*of_3.png: no such file"):
        opened(path, pictures=("edges",))
    (tmp_path / "metadata.jsonl").unlink()
    with pytest.raises(ValueError, match=r"pictures=.*holds none of metadata"):
        opened(path, pictures=("edges",))
