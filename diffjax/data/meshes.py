"""The source `meshes`: clouds of points on the surfaces of objects, in files or of a package."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from diffjax import checks
from diffjax.data.layout import files_of
from diffjax.data.surfaces import SEEN, Surfaces, areas, standardised
from diffjax.io.surfaces import READERS, triangles

BROKEN = "168.obj"
"""The object of pybullet whose coordinates are not finite."""


def meshes(
    split: str,
    path: str = "",
    points: int = 256,
    holdout: float = 0.1,
    turn: bool = True,
    classes: bool = False,
    seen: float = SEEN,
) -> Surfaces:
    """Read surfaces of triangles, of which each epoch draws new clouds of points.

    Each surface is moved and scaled to the mean 0 and a mean square of 1 per coordinate. path: a
    folder of .obj and .ply files, by default the 1,000 objects of the package pybullet (zlib
    licence), without the one whose coordinates are not finite. Folders `train`
    and `test` in it are the splits; otherwise the share `holdout` of the files is held out, by
    name. points: points of a cloud. turn: turn each cloud by a random angle about the axis y.
    classes: whether the folders, in alphabetical order, are the classes. seen: the share of
    the points in the condition `seen` (see `Surfaces`), in (0, 1]. Raises ValueError for points < 2
    and another share, where pybullet is absent, and for a folder or a file that cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     _ = Path(place, "a.obj").write_text("v 0 0 0\\nv 1 0 0\\nv 0 1 0\\nf 1 2 3\\n")
    ...     meshes("train", place, holdout=0.0)[np.array([0])]["x"].shape
    (1, 256, 3)
    """
    checks.at_least(2, points=points)
    checks.within(0, 1, "(]", seen=seen)
    place = path or _packaged()
    chosen = files_of(
        "meshes", place, tuple(READERS), split, holdout=holdout, classes=classes, noun="surface"
    )
    whole = [path != "" or file.name != BROKEN for file in chosen.paths]
    surfaces = [_surface(file) for file in itertools.compress(chosen.paths, whole)]
    begins = np.concatenate([[0], np.cumsum([len(s) for s in surfaces])])
    label = None if chosen.label is None else chosen.label[whole]
    return Surfaces(np.concatenate(surfaces), begins, points, turn, label, chosen.class_names, seen)


def _surface(file: Path) -> np.ndarray:
    """Return the triangles (F, 3, 3) of a file around their mean, with unit mean square."""
    corners = triangles(file)
    if not areas(corners).sum() > 0:
        raise ValueError(f"{file}: has no area; needs a surface")
    return standardised(corners)


def _packaged() -> str:
    """Return the folder of objects in the package pybullet, without importing it."""
    try:
        spec = find_spec("pybullet_data")
    except ValueError:  # a module that is set to None
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(
            'meshes: needs pybullet: pip install "diffjax[meshes]", or a folder: meshes:PATH'
        )
    return str(Path(spec.origin).parent / "random_urdfs")
