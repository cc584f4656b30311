"""Maps of images: oracles, and what every entry of the catalogue must keep."""

import numpy as np
import pytest

from diffjax.builder import construct_data, construct_maps
from diffjax.config import ConfigError
from diffjax.data import MAPS, Batches, Reading, digits
from diffjax.data.conditions import on_grid
from diffjax.data.maps import SOUNDS, Mapped, blur, edges, small, thickness
from diffjax.nets.unet import fold

X = np.random.default_rng(0).uniform(-1, 1, size=(3, 8, 12, 3)).astype(np.float32)


@pytest.mark.parametrize("name", sorted(set(MAPS) - set(SOUNDS)))
def test_every_map_is_a_pure_function_of_one_image(name):
    """A map would depend on its batch, leave the grid, or not turn over with its image."""
    whole = MAPS[name](X)
    assert whole.dtype == np.float32 and whole.shape[:3] == X.shape[:3]
    assert np.isfinite(whole).all() and whole.min() >= 0
    np.testing.assert_allclose(MAPS[name](X[1:2]), whole[1:2], atol=1e-6)
    for axis in (1, 2):
        turned = MAPS[name](np.flip(X, axis))
        np.testing.assert_allclose(np.flip(turned, axis), whole, atol=1e-5)


def test_oracles_of_maps():
    """Edges, widths and means would have another unit."""
    ramp = np.broadcast_to(np.linspace(-1, 1, 11).reshape(1, 1, 11, 1), (1, 6, 11, 1))
    np.testing.assert_allclose(edges(ramp)[0, :, 1:-1], 0.2, atol=1e-6)  # 0.1 a pixel, over two
    assert set(edges(X, threshold=0.5).ravel().tolist()) == {0.0, 1.0}
    for width in (2, 5):
        bar = np.full((1, 20, 20, 1), -1.0)
        bar[:, 7 : 7 + width] = 1
        np.testing.assert_allclose(4 * thickness(bar), width, rtol=1e-6)
    assert not thickness(np.ones((1, 4, 4, 1))).any()
    means = (X.reshape(3, 4, 2, 6, 2, 3).mean((2, 4)) + 1) / 2
    np.testing.assert_allclose(small(X)[:, ::2, ::2], means, atol=1e-6)
    dot = np.full((1, 15, 15, 1), -1.0)
    dot[0, 7, 7] = 1
    spread = blur(dot, width=1.5)[0, :, :, 0]
    row = np.arange(15) - 7
    np.testing.assert_allclose(spread.sum(), 1, rtol=1e-3)
    np.testing.assert_allclose((spread.sum(0) * row**2).sum(), 1.5**2, rtol=0.02)


def test_maps_travel_with_their_images():
    """A flipped image would keep the map of the image before, or a network get no map."""
    source, reading = construct_data(
        {"name": "digits", "maps": ("edges", "small:factor=4"), "flip": True}, "config.data"
    )
    form = reading.form(source("train"))
    assert [(s.name, s.kind, s.size) for s in form.conditions] == [
        ("edges", "map", 1),
        ("small", "map", 1),
    ]
    batch = Batches(source("train"), 8, 0, Reading(flip=True))[3]
    plain = Batches(source("train"), 8, 0)[3]
    assert not np.array_equal(batch["x"], plain["x"])
    x = np.float32(batch["x"]) / 127.5 - 1
    np.testing.assert_allclose(batch["edges"], edges(x), atol=1e-6)
    kept = source("test").kept()
    np.testing.assert_array_equal(kept[np.arange(3)]["small"], source("test")[[0, 1, 2]]["small"])


def test_what_has_no_maps_is_refused():
    """Points, floats and unknown maps would end in a traceback."""
    with pytest.raises(ConfigError, match="needs images of uint8; the items are points"):
        construct_data({"name": "moons", "maps": ("edges",)}, "config.data")[0]("train")
    with pytest.raises(ConfigError, match=r"config\.data\.maps: factor=3: must divide the sides"):
        construct_data({"name": "digits", "maps": ("small:factor=3",)}, "config.data")[0]("test")
    with pytest.raises(ConfigError, match="edges occurs twice"):
        construct_maps(["edges", "edges:threshold=0.1"], "config.data.maps")
    assert Mapped(digits("test"), {"edges": edges}).captions([0, 1]) == [[], []]


def test_pictures_of_maps_go_to_the_grid_of_latents():
    """The squares of pixels would be in another order than a network unfolds."""
    picture = X[:1]
    folded = on_grid(picture, 4 * 4 * 3, (2, 3))
    np.testing.assert_array_equal(folded, np.asarray(fold(picture, 4)))
    grey = on_grid(picture, 1, (8, 12))
    np.testing.assert_allclose(grey[..., 0], picture @ np.float32([0.299, 0.587, 0.114]), atol=1e-6)
    assert on_grid(X, 5, (8, 12)) is X
