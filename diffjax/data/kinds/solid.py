"""Balls in space, with or without bonds between them: turning pictures, and a page that turns them.

Space is seen from the front: x points to the right, y upwards and z towards the viewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from diffjax import pages
from diffjax.data.kinds.drawing import grid
from diffjax.data.kinds.kind import Files, Texts, Units

SIDE, FRAMES, SECONDS = 96, 36, 3.6
"""Side of a picture in pixels; frames of a turn, and the time that it takes."""
MOST, MOST_TURNING = 64, 16
"""Largest number of items on a page, and in a turning picture."""
ZOOM = 2
"""Pictures are drawn this many times larger, and then reduced."""
TILT = 0.35
"""The angle in radians by which turning pictures are seen from above."""
MARGIN = 1.08
"""Half the side of a picture over the distance of the outermost ball from the middle."""
BOND, BEADS = np.array([144, 144, 144], np.uint8), 24
"""Colour of bonds, and the number of balls of which one is drawn."""
HIDDEN = 0.9
"""The share of the radius of a ball within which a bond is not drawn."""


@dataclass(frozen=True)
class Solid:
    """Balls in space.

    positions: (N, 3). colours: uint8 (N, 3). radii: (N,), in units of the positions. bonds: pairs
    of balls (M, 2) between which a stick is drawn.

    >>> Solid(np.zeros((1, 3)), np.zeros((1, 3), np.uint8), np.ones(1)).reach
    1.0
    """

    positions: np.ndarray
    colours: np.ndarray
    radii: np.ndarray
    bonds: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))

    @property
    def reach(self) -> float:
        """The distance from the middle of space to the far side of the outermost ball."""
        return float((np.linalg.norm(self.positions, axis=1) + self.radii).max(initial=0.0))


def turned(positions: np.ndarray, angle: float, tilt: float = 0.0) -> np.ndarray:
    """Return positions (N, 3) turned about y by an angle, then about x by a tilt, in radians.

    >>> turned(np.array([[0.0, 0.0, 1.0]]), np.pi / 2).round(6).tolist()
    [[1.0, 0.0, 0.0]]
    """
    c, s = np.cos(angle), np.sin(angle)
    about_y = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
    c, s = np.cos(tilt), np.sin(tilt)
    return positions @ about_y @ np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])


def picture(solid: Solid, side: int = SIDE, reach: float = 0.0) -> np.ndarray:
    """Draw balls from the front, uint8 (side, side, 3), on white.

    Nearer balls cover others, and those far away are paler. reach: the distance from the middle
    that fills the picture, by default that of the solid.

    >>> black = Solid(np.zeros((1, 3)), np.zeros((1, 3), np.uint8), np.ones(1))
    >>> picture(black)[48, 48].tolist(), picture(black)[0, 0].tolist()
    ([76, 76, 76], [255, 255, 255])
    """
    reach, wide = reach or solid.reach or 1.0, side * ZOOM
    scale = wide / (2 * MARGIN * reach)
    places, colours, radii = _pieces(solid, scale)
    light = np.clip(0.5 - places[:, 2] / (2 * reach * scale), 0, 1)[:, None] * 0.6
    shades = (colours + (255.0 - colours) * light).astype(np.uint8)
    canvas = np.full((wide * wide, 3), 255, np.uint8)
    most = int(np.ceil(radii.max(initial=0.0)))
    off = np.arange(-most, most + 1)
    down, across = (a.ravel() for a in np.meshgrid(off, off, indexing="ij"))
    centre = np.stack([wide / 2 - places[:, 1], wide / 2 + places[:, 0]], 1)
    pixel = np.floor(centre).astype(int)
    rows, columns = pixel[:, :1] + down[None], pixel[:, 1:] + across[None]
    square = (rows + 0.5 - centre[:, :1]) ** 2 + (columns + 0.5 - centre[:, 1:]) ** 2
    inside = (rows >= 0) & (rows < wide) & (columns >= 0) & (columns < wide)
    inside &= square <= radii[:, None] ** 2
    # Of equal indices the last one stays, so the nearest ball comes last.
    order = np.argsort(places[:, 2], kind="stable")
    index = (rows * wide + columns)[order]
    canvas[index[inside[order]]] = np.repeat(shades[order], inside[order].sum(1), 0)
    whole = canvas.reshape(side, ZOOM, side, ZOOM, 3).astype(np.float32)
    return np.round(whole.mean((1, 3))).astype(np.uint8)


def _pieces(solid: Solid, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places in pixels, colours and radii in pixels of balls; a bond is a row of balls."""
    places, radii = solid.positions * scale, np.maximum(solid.radii * scale, 1.0)
    if not len(solid.bonds):
        return places, solid.colours, radii
    first, last = (places[solid.bonds[:, k], None] for k in (0, 1))
    apart = np.maximum(np.linalg.norm(last - first, axis=2), 1e-9)
    # A bond runs from surface to surface, so that it does not cover balls as near as it is.
    begin, end = (np.minimum(HIDDEN * radii[solid.bonds[:, k], None] / apart, 0.5) for k in (0, 1))
    along = begin + np.linspace(0, 1, BEADS)[None] * (1 - end - begin)
    rows = (first + along[..., None] * (last - first)).reshape(-1, 3)
    thin = np.full(len(rows), max(0.35 * float(radii.min()), 1.0))
    return (
        np.concatenate([places, rows]),
        np.concatenate([solid.colours, np.broadcast_to(BOND, rows.shape)]),
        np.concatenate([radii, thin]),
    )


def turning(solids: Sequence[Solid], frames: int = FRAMES, side: int = SIDE) -> list[np.ndarray]:
    """Return pictures uint8 (H, W, 3) of solids side by side that turn once about the vertical.

    They are seen a little from above, all in one scale.

    >>> balls = Solid(np.eye(3), np.zeros((3, 3), np.uint8), np.full(3, 0.1))
    >>> len(turning([balls], frames=4))
    4
    """
    reach = max(solid.reach for solid in solids)

    def frame(angle: float) -> np.ndarray:
        seen = [replace(s, positions=turned(s.positions, angle, TILT)) for s in solids]
        return grid(np.stack([picture(s, side, reach) for s in seen]), tile=side)

    return [frame(2 * np.pi * k / frames) for k in range(frames)]


def page(solids: Sequence[Solid], title: str) -> str:
    """Return a page (HTML) on which solids are turned by dragging or with the arrow keys.

    It is one file, which loads nothing and works without a network.

    >>> black = Solid(np.zeros((1, 3)), np.zeros((1, 3), np.uint8), np.ones(1))
    >>> "<h1>A ball</h1>" in page([black], "A ball")
    True
    """
    each = [
        {
            "positions": np.round(s.positions, 4).tolist(),
            "colours": s.colours.tolist(),
            "radii": np.round(s.radii, 4).tolist(),
            "bonds": s.bonds.tolist(),
        }
        for s in solids
    ]
    facts = {"solids": each, "reach": MARGIN * max(s.reach for s in solids)}
    parts = {"data": pages.script(facts), "hidden": str(HIDDEN)}
    return pages.filled("diffjax.data.kinds", "solid.html", title, **parts)


def shown(solid: Callable[[np.ndarray], Solid], noun: str) -> tuple[Files, Files]:
    """Return the formats .gif, a turning picture, and .html, a page that turns items by dragging.

    solid: draws one stored item. noun: the word for an item.
    """

    def write_gif(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        frames = [Image.fromarray(f) for f in turning([solid(x) for x in items[:MOST_TURNING]])]
        time = round(1000 * SECONDS / len(frames))
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=time, loop=0)

    def write_html(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        count = min(len(items), MOST)
        path.write_text(page([solid(x) for x in items[:MOST]], f"{count} {noun}s"))

    return Files(".gif", write_gif, each=False), Files(".html", write_html, each=False)
