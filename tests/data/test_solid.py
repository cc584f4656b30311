"""Balls in space: places, covering and turning of pictures, files, and the page in a browser."""

import numpy as np
import pytest
from browser import PROGRAM, Browser
from PIL import Image, ImageSequence

from diffjax.data import Form
from diffjax.data.kinds.cloud import CLOUD
from diffjax.data.kinds.solid import MARGIN, Solid, page, picture, turned, turning
from diffjax.data.kinds.storing import places
from diffjax.runs import starts

RED, BLUE = (255, 0, 0), (0, 0, 255)


def balls(*positions, colours=None, radius=0.2, bonds=()):
    colours = np.array(colours or [(0, 0, 0)] * len(positions), np.uint8)
    radii = np.full(len(positions), radius)
    return Solid(np.array(positions, float), colours, radii, np.array(bonds, int).reshape(-1, 2))


def middle(drawn):
    """Row and column of the middle of what is not white."""
    return np.argwhere((drawn < 250).any(-1)).mean(0)


def test_balls_stand_where_they_are():
    """A cloud would be shown mirrored or upside down."""
    side, reach = 100, 2.0
    scale = side / (2 * MARGIN * reach)
    for x, y in ((0, 0), (1, 0), (0, 1), (-0.5, -0.7)):
        drawn = picture(balls((x, y, 0)), side, reach)
        expected = [side / 2 - scale * y - 0.5, side / 2 + scale * x - 0.5]
        np.testing.assert_allclose(middle(drawn), expected, atol=0.5)
        area = (255 - drawn[..., 0].astype(float)).sum() / (255 - drawn.min())
        np.testing.assert_allclose(area, np.pi * (0.2 * scale) ** 2, rtol=0.1)


def test_nearer_balls_cover_others_and_are_darker():
    colours = [RED, BLUE]
    for near, seen in ((1, (0, 0, 1)), (-1, (1, 0, 0))):
        drawn = picture(balls((0, 0, 0), (0, 0, near), colours=colours, radius=0.5), 48)
        assert (drawn[24, 24].argmax() == np.argmax(seen)).all()
    back, front = (picture(balls((0, 0, z), (0, 1.5, 0)), 48, 2.0)[24, 24, 0] for z in (-1, 1))
    assert front < back


def test_bonds_join_their_balls():
    pair = ((-1, 0, 0), (1, 0, 0))
    apart, joined = (picture(balls(*pair, bonds=b), 64) for b in ((), ((0, 1),)))
    assert (apart[32, 32] == 255).all() and (joined[32, 32] < 200).all()
    assert (joined[20, 32] == 255).all()


def test_a_turn_is_one_about_the_vertical():
    x = np.random.default_rng(0).normal(size=(5, 3))
    for angle, tilt in ((0.3, 0.0), (2.0, 0.8)):
        moved = turned(x, angle, tilt)
        np.testing.assert_allclose(moved @ moved.T, x @ x.T, atol=1e-12)
    np.testing.assert_allclose(turned(x, 1.0)[:, 1], x[:, 1])
    top = turned(np.array([[0.0, 1, 0]]), 0.0, 0.5)[0]
    np.testing.assert_allclose(top, [0, np.cos(0.5), np.sin(0.5)])  # nearer: seen from above
    frames = turning([balls((1, 0, 0), (0, 1, 0)), balls((0, 0, 0))], frames=4, side=32)
    assert frames[0].shape == (36, 70, 3)
    assert (frames[0] != frames[1]).any() and (frames[0][:, 36:] == frames[1][:, 36:]).all()


def test_files_show_clouds(tmp_path):
    """sample --out=clouds.gif would show nothing, or a picture that stands still."""
    x = np.random.default_rng(0).normal(size=(20, 30, 3)).astype(np.float32)
    for ending in (".gif", ".html"):
        CLOUD.whole()[ending].write(tmp_path / "new" / f"a{ending}", x, {}, {})
    with Image.open(tmp_path / "new" / "a.gif") as film:
        assert len([*ImageSequence.Iterator(film)]) == 36  # 16 of the 20, four by four
        assert film.size == (4 * 98 + 2, 4 * 98 + 2)
    text = (tmp_path / "new" / "a.html").read_text()
    assert "20 clouds" in text and "http" not in text.replace("http-equiv", "")
    assert "</script><b>" not in page([balls((0, 0, 0))], "</script><b>")


def test_samples_do_not_start_from_what_only_shows_clouds(tmp_path):
    """--from=clouds.gif would end in a traceback."""
    x = np.zeros((2, 3, 3), np.float32)
    for ending, part in ((".html", r"\.html only shows clouds"), (".gif", r"\.gif only shows")):
        CLOUD.whole()[ending].write(tmp_path / f"a{ending}", x + np.eye(3, dtype="f4"), {}, {})
        with pytest.raises(ValueError, match=part):
            starts.read(tmp_path / f"a{ending}", Form("cloud", (3, 3)))
    CLOUD.whole()[".ply"].write(tmp_path / "a.ply", x, {}, {})
    assert starts.read(tmp_path / "a.ply", Form("cloud", (3, 3))).shape == (2, 3, 3)


def test_a_ply_file_has_the_clouds_side_by_side(tmp_path):
    """Other programs would show all clouds in one heap."""
    x = np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)
    CLOUD.whole()[".ply"].write(tmp_path / "a.ply", x, {}, {})
    header, _, body = (tmp_path / "a.ply").read_text().partition("end_header\n")
    assert "element vertex 20\n" in header and header.startswith("ply\nformat ascii 1.0\n")
    rows = np.array([line.split() for line in body.splitlines()], float)
    np.testing.assert_array_equal(rows[:, 6], np.repeat(np.arange(5), 4))
    np.testing.assert_allclose(rows[:, :2] - places(5).repeat(4, 0)[:, :2], x.reshape(-1, 2), 1e-5)
    assert (rows[:, 2] == 0).all() and len(np.unique(places(5), axis=0)) == 5


@pytest.mark.thorough
@pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
def test_the_page_turns_by_dragging_and_by_keys(tmp_path):
    """A reader would see a cloud from one side only."""
    solids = [balls((1, 0, 0), (-1, 0, 0), colours=[RED, BLUE], bonds=[(0, 1)])] * 2
    (tmp_path / "a.html").write_text(page(solids, "Two"))
    frame = "new Promise(requestAnimationFrame)"
    shown = "document.querySelector('canvas').toDataURL()"
    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "a.html")

        def drawn():
            browser.run(f"{frame}.then(() => {frame}).then(() => null)")
            return browser.run(shown)

        def mouse(kind, x, **more):
            about = {"button": "left", "clickCount": 1, "x": x, "y": 150} | more
            browser.call("Input.dispatchMouseEvent", type=kind, **about)

        assert browser.run("document.querySelectorAll('canvas').length") == 2
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        first = drawn()
        browser.press("ArrowRight")
        by_key = drawn()
        assert by_key != first
        mouse("mousePressed", 60)
        mouse("mouseMoved", 100, buttons=1)
        mouse("mouseReleased", 100)
        by_drag = drawn()
        assert by_drag != by_key
        mouse("mouseMoved", 60, button="none")
        assert drawn() == by_drag  # no button is pressed
        browser.run("document.querySelector('canvas').dispatchEvent(new Event('dblclick'))")
        assert drawn() == first
