"""Pictures: a wrong tile, order or colour would show other samples than were made."""

import io

import numpy as np
import pytest
from PIL import Image

from diffjax import plot, samplers
from diffjax.schedules import Linear
from diffjax.sde import VE, VP

pytestmark = pytest.mark.typed
WHITE = 255


def numbered(n: int, h: int = 4, w: int = 4, c: int = 1) -> np.ndarray:
    """Return images of one grey level each, which is their number."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, h, w, c)).copy()


def tiles(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the grey level in the middle of each tile, (rows, columns)."""
    h, w = (picture.shape[0] - 2) // rows, (picture.shape[1] - 2) // columns
    return picture[2 + h // 2 - 1 :: h, 2 + w // 2 - 1 :: w, 0][:rows, :columns]


@pytest.mark.parametrize(("n", "columns"), [(6, 3), (6, 2), (1, 1), (9, 3)])
def test_images_stand_row_by_row(n, columns):
    picture = plot.grid(numbered(n), columns)
    expected = np.arange(n).reshape(-1, columns)
    np.testing.assert_array_equal(tiles(picture, *expected.shape), expected)


@pytest.mark.parametrize(("n", "rows", "columns"), [(5, 2, 3), (7, 3, 3), (2, 1, 2)])
def test_a_last_row_that_is_not_full_is_left_white(n, rows, columns):
    found = tiles(plot.grid(numbered(n)), rows, columns).ravel()
    np.testing.assert_array_equal(found[:n], np.arange(n))
    assert (found[n:] == WHITE).all()


def test_a_picture_is_uint8_with_three_colours_and_white_gaps():
    picture = plot.grid(numbered(4))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == WHITE).all()


def test_small_images_are_enlarged_without_blurring():
    image = np.array([[0, 50], [100, 150]], np.uint8).reshape(1, 2, 2, 1)
    picture = plot.grid(image, tile=8)
    assert picture.shape == (12, 12, 3)
    np.testing.assert_array_equal(
        picture[2:10, 2:10, 0], image[0, :, :, 0].repeat(4, 0).repeat(4, 1)
    )


def test_large_images_keep_their_size():
    assert plot.grid(numbered(1, 100, 80)).shape == (104, 84, 3)


def test_colours_stay_and_a_fourth_channel_is_left_out():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 4), dtype=np.uint8)
    np.testing.assert_array_equal(plot.grid(image)[2:-2, 2:-2], image[0, ..., :3])
    np.testing.assert_array_equal(plot.grid(image[..., :3])[2:-2, 2:-2], image[0, ..., :3])


def test_labels_in_turn_stand_in_one_column_per_class():
    label = np.arange(12) % 3
    picture = plot.samples(numbered(12), label)
    np.testing.assert_array_equal(tiles(picture, 4, 3), np.arange(12).reshape(4, 3))


@pytest.mark.parametrize(
    "label",
    [None, np.zeros(9, int), np.array([0, 0, 1, 1, 2, 2, 0, 1, 2]), np.arange(9)],
    ids=["none", "one class", "not in turn", "each once"],
)
def test_other_labels_give_a_square(label):
    found = tiles(plot.samples(numbered(9), label), 3, 3)
    np.testing.assert_array_equal(found, np.arange(9).reshape(3, 3))


@pytest.mark.parametrize("label", [None, np.arange(50) % 2], ids=["unlabelled", "labelled"])
def test_points_become_a_picture_with_ink_where_they_are(label):
    points = np.full((50, 2), 1.0) + np.linspace(0, 0.2, 50)[:, None]
    picture = plot.samples(points, label, "points")
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[2] == 3
    coloured = np.ptp(picture[:420].astype(int), axis=2) > 30  # the legend is below the axes
    y, x = np.nonzero(coloured)
    assert len(x) > 20
    assert x.min() > picture.shape[1] / 2
    assert y.max() < picture.shape[0] / 2


def test_points_are_coloured_by_label():
    points = np.random.default_rng(0).normal(size=(200, 2)) * 0.5
    colours = [
        len(np.unique(p[np.ptp(p.astype(int), axis=2) > 60] // 64, axis=0))
        for p in (plot.scatter(points), plot.scatter(points, np.arange(200) % 5))
    ]
    assert colours[1] > colours[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_picture_reads_back_as_it_was(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    path = tmp_path / "new" / "a.png"
    plot.save(path, image)
    read = np.asarray(Image.open(path))
    np.testing.assert_array_equal(read, image[..., 0] if channels == 1 else image)


def test_samples_stand_above_the_training_items_that_they_are_close_to():
    """A sample would appear above the wrong training item."""
    levels = np.arange(40, 200, 40, dtype=np.uint8)[:, None, None, None]
    samples = np.broadcast_to(levels, (4, 8, 8, 1)).copy()
    picture = plot.closest(samples, 255 - samples, np.arange(4.0), columns=3)
    high, wide = (picture.shape[0] - 2) // 2, (picture.shape[1] - 2) // 3
    for i, level in enumerate(levels.ravel()):
        y, x = 2 + i // 3 * high, 2 + i % 3 * wide
        above, below = (
            picture[y + high // 3, x + wide // 2],
            picture[y + high * 4 // 5, x + wide // 2],
        )
        assert (above == level).all() and (below == 255 - level).all()
    caption = picture[2 : 2 + high // 5, 2 : 2 + wide // 2]
    assert (caption > 160).any()  # white ink on the first sample, which is dark


def test_pictures_are_shown_side_by_side():
    """A notebook would show one picture only, another size, or the text of an array."""
    left, right = plot.grid(numbered(4)), plot.grid(numbered(1, 30, 20))
    shown = plot.show(left, right)
    read = np.asarray(Image.open(io.BytesIO(shown._repr_png_())).convert("RGB"))
    assert read.shape == (max(len(left), len(right)), left.shape[1] + right.shape[1], 3)
    np.testing.assert_array_equal(read[: len(left), : left.shape[1]], left)
    np.testing.assert_array_equal(read[: len(right), left.shape[1] :], right)
    assert (read[len(right) :, left.shape[1] :] == WHITE).all()
    assert repr(shown) == f"picture of {read.shape[1]} x {read.shape[0]}"


def test_a_plane_is_row_by_row_upwards():
    """A density would be drawn rotated."""
    expected = [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_array_equal(plot.plane(2, side=1.0), np.float32(expected))


def ink(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places of coloured pixels, as shares of height (from below) and width."""
    y, x = np.nonzero(np.ptp(picture.astype(int), axis=2) > 60)
    return 1 - y / picture.shape[0], x / picture.shape[1]


CORNER = np.full((40, 2), 2.0) + np.linspace(0, 0.3, 40)[:, None]


@pytest.mark.parametrize(
    "picture",
    [
        plot.clouds([CORNER], ["t = 0"], np.arange(40) % 2),
        plot.paths(np.stack([CORNER - 0.5, CORNER])),
        plot.lines({"a": (np.array([7.0, 8.0]), np.array([7.0, 8.0])), "": ([0.0], [0.0])}),
    ],
    ids=["clouds", "paths", "lines"],
)
def test_figures_have_their_ink_where_the_points_are(picture):
    """Axes would be swapped, or nothing drawn."""
    up, right = ink(picture)
    assert len(up) > 20 and up.max() > 0.75 and right.max() > 0.75


def test_arrows_point_along_the_vectors():
    """A field would be rotated or mirrored: arrows that point inwards leave the edges free."""
    points = plot.plane(6)
    inwards, outwards = (ink(plot.field(points, s * points))[1] for s in (-1.0, 1.0))
    assert inwards.min() > outwards.min()


def test_noised_images_are_those_of_the_process():
    """Pictures would have another noise level, noise that differs by row, or no clean image."""
    x0 = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 1)).astype(np.float32)
    one = plot.noised({"a": VP(Linear())}, x0, [0.01, 1.0])
    two = plot.noised({"a": VP(Linear()), "b": VE(Linear())}, x0, [0.01, 1.0])
    assert two.shape[0] > 1.8 * one.shape[0]  # rows per process; VE is scaled to the same picture
    middle = two.shape[0] // 2
    a, b = two[60 : middle - 60, 100:].astype(int), two[middle + 60 :, 100:].astype(int)
    size = min(len(a), len(b))
    assert a[:size].std() > 20 and b[:size].std() > 20


@pytest.mark.parametrize(
    ("kind", "shape"), [("points", (30, 2)), ("image", (3, 8, 8, 1))], ids=["points", "images"]
)
def test_a_trajectory_is_a_picture(kind, shape):
    """A notebook could not show it."""
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    picture = plot.trajectory(x, x, np.linspace(1, 0, 5), kind)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 10


@pytest.mark.parametrize("name", ["ddim", "ancestral"])
def test_a_table_is_a_picture_of_its_coefficients(name):
    """A sampler with noise has columns of it, and one without has none."""
    table = samplers.SAMPLERS[name](VP(Linear()), np.linspace(1.0, 0.1, 8))
    picture = plot.table(table)
    assert picture.dtype == np.uint8 and picture.std() > 10
    none = plot.table(samplers.ddim(VP(Linear()), np.linspace(1.0, 0.1, 8)))
    assert (picture.shape[1] > none.shape[1]) == (name == "ancestral")


def test_few_values_are_drawn_as_a_matrix_of_pairs():
    """Points in space would be seen from one side, and vectors of five numbers as five pixels."""
    x = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    label = np.arange(50) % 2
    assert plot.samples(x[:, :2], label, "vector").shape == (300, 300, 3)
    assert plot.samples(x[:, :3], label, "points").shape == (420, 420, 3)
    six, one = (plot.samples(x[:, :d], None, "vector") for d in (6, 1))
    assert six.shape == one.shape  # tiles of curves


def test_the_last_row_of_a_grid_has_blank_cells():
    """A row that is not full would be cut, or repeat items."""
    picture = plot.grid(numbered(7), 3)
    assert picture.shape[0] == plot.grid(numbered(9), 3).shape[0]
    assert (picture[-60:, -120:] == WHITE).all()
