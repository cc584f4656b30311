"""Annotations in the picture of a kind: classes, ranges, and the ends of items."""

import numpy as np

from diffjax.data import KINDS
from diffjax.data.kinds import drawing, figures


def figure_of(monkeypatch, draw):
    """The figure behind a picture, which is not rendered."""
    taken = []
    monkeypatch.setattr(figures, "drawn", taken.append)
    draw()
    return taken[0]


def test_colours_of_points_are_explained(monkeypatch):
    """Nobody would know which class is which."""
    x, label = np.zeros((6, 2), np.float32), np.array([0, 1, -1] * 2)
    names = ("cat", "dog")
    draw = lambda: KINDS["points"].picture(x, label, class_names=names)
    (legend,) = figure_of(monkeypatch, draw).legends
    assert [text.get_text() for text in legend.get_texts()] == ["none", "cat", "dog"]


def test_columns_that_are_not_drawn_are_counted(monkeypatch):
    """A table would seem to have five columns, or its bars and points to be on different levels."""
    numbers = {f"x{i}": np.arange(4.0) for i in range(5)}
    columns = {"sort": np.array(["z", "a", "z", "b"])} | numbers
    figure = figure_of(monkeypatch, lambda: figures.pairs(columns))
    assert figure.get_suptitle() == "4 samples; the first 5 of 6 columns"
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [1, 1, 2] and figure.axes[1].get_xlim() == (-0.5, 2.5)


def test_a_curve_ends_where_its_item_ends():
    """A line down to zero at the end of an item would look like a value."""
    x = np.full((1, 8, 1), 0.5, np.float32)
    x[:, 5:] = np.nan
    coloured = drawing.lines(x)[0, :, :, 0] == drawing.COLOURS[0, 0]
    assert coloured.any(0).sum() > 50 and set(np.flatnonzero(coloured.any(1))) == {0}


def test_the_range_of_curves_is_written_below():
    """Noise and silence would look alike, as curves fill their tile whatever their size."""
    for name in ("sequence", "audio", "vector"):
        x = np.random.default_rng(0).uniform(-0.4, 0.4, (2, 16, 1)).astype(np.float32)
        x = x[..., 0] if name == "vector" else x
        one, two = (KINDS[name].picture(a) for a in (x, 2 * x))
        assert one.shape == two.shape and (one[:-16] == two[:-16]).all()
        assert (one[-16:] != two[-16:]).any()


def test_a_long_curve_shows_its_peaks():
    """Only every hundredth value of a sound would be drawn, and its clicks would be lost."""
    x = np.zeros((1, 5000, 1), np.float32)
    x[0, 1234] = 1.0
    x[0, 4000:] = np.nan
    coloured = drawing.lines(x)[0, :, :, 0] == drawing.COLOURS[0, 0]
    assert coloured[:31].any(0).sum() == 1 and coloured[:31, 23].all()
    assert coloured.any(0)[:76].all() and not coloured.any(0)[78:].any()
