"""Clouds on surfaces: exact moments, uniform points, epochs, and files that do not fit."""

import sys

import numpy as np
import pytest

from diffjax import data
from diffjax.data.surfaces import Surfaces, areas, moments, standardised

RNG = np.random.default_rng(0)


def sphere(levels=5):
    """An octahedron whose triangles are divided and moved to the unit sphere."""
    axes = np.eye(3)
    faces = np.array(
        [[sx * axes[0], sy * axes[1], sz * axes[2]] for sx in (1, -1) for sy in (1, -1)
         for sz in (1, -1)]
    )  # fmt: skip
    for _ in range(levels):
        a, b, c = faces[:, 0], faces[:, 1], faces[:, 2]
        ab, bc, ca = a + b, b + c, c + a
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = np.concatenate([np.stack(p, 1) for p in parts])
        faces = faces / np.linalg.norm(faces, axis=-1, keepdims=True)
    return faces


def test_moments_are_exact():
    """Objects would be off their middle, or of another size, by how finely they are divided."""
    corners = RNG.normal(size=(7, 3, 3))
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    quarters = [(a, a + b, a + c), (a + b, b, b + c), (a + c, b + c, c), (a + b, b + c, a + c)]
    halves = lambda p, first: p if p is first else p / 2
    fine = np.concatenate(
        [np.stack([halves(p, f) for p, f in zip(q, (a, b, c), strict=True)], 1) for q in quarters]
    )
    np.testing.assert_allclose(areas(fine).sum(), areas(corners).sum(), rtol=1e-12)
    for coarse, divided in zip(moments(corners), moments(fine), strict=True):
        np.testing.assert_allclose(coarse, divided, atol=1e-12)
    mean, covariance = moments(sphere())
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    np.testing.assert_allclose(covariance, np.eye(3) / 3, atol=2e-3)  # of chords, not of arcs
    mean, covariance = moments(standardised(5 * corners + 3))
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    np.testing.assert_allclose(np.trace(covariance), 3, rtol=1e-12)


def test_points_are_uniform_on_the_surface_of_their_item():
    """Points would gather at corners or on small triangles, or come from the next item."""
    corners = RNG.normal(size=(6, 3, 3)) + 5 * (np.arange(6) >= 4)[:, None, None]
    source = Surfaces(corners, np.array([0, 4, 6]), 40_000, turn=False)
    for i, own in enumerate((corners[:4], corners[4:])):
        x = source[np.array([i])]["x"][0].astype(np.float64)
        mean, covariance = moments(own)
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(np.cov(x.T), covariance, atol=5 * 1.5 / 200)
        # The distance to the nearest plane of a triangle is 0 but for the error of the mean.
        normal = np.cross(own[:, 1] - own[:, 0], own[:, 2] - own[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        off = np.abs(((x + mean)[:, None] - own[:, 0]) @ normal.T).diagonal(0, 1, 2)
        assert off.min(1).max() < 0.05
        share = np.bincount(off.argmin(1), minlength=len(own)) / len(x)
        np.testing.assert_allclose(share, areas(own) / areas(own).sum(), atol=0.03)


def test_each_epoch_draws_anew_as_a_function_of_its_number():
    """A resumed run would see other clouds, or every epoch the same ones."""
    source = Surfaces(RNG.normal(size=(8, 3, 3)), np.array([0, 4, 8]), 16)
    index, draw = np.arange(2), lambda k, seed=0: source.draw(np.arange(2), np.arange(2) + k, seed)
    np.testing.assert_array_equal(source[index]["x"], source[index]["x"])
    np.testing.assert_array_equal(source[index]["x"][1:], source[index[1:]]["x"])
    np.testing.assert_array_equal(draw(4)["x"], draw(4)["x"])
    others = [source[index]["x"], draw(0)["x"], draw(2)["x"], draw(0, 1)["x"]]
    assert all((a != b).any() for k, a in enumerate(others) for b in others[:k])
    assert np.abs(draw(0)["x"].mean(1)).max() < 1e-6


def test_clouds_turn_about_the_vertical_alone():
    """Objects would lie on their sides, or all face one way."""
    corners = standardised(np.array([[[0.0, 0, 0], [1, 0, 0], [0, 3, 0]]]))
    still, turning = (Surfaces(corners, np.array([0, 1]), 500, turn) for turn in (False, True))
    index, number = np.zeros(40, int), np.arange(40)
    flat, solid = (s.draw(index, number, 0)["x"] for s in (still, turning))
    np.testing.assert_allclose(flat[..., 2], 0, atol=1e-6)
    np.testing.assert_allclose(np.sort(solid[..., 1]), np.sort(flat[..., 1]), atol=1e-6)
    angle = np.arctan2(*np.moveaxis(solid[:, np.argmax(flat[..., 0], 1)[0]], -1, 0)[[2, 0]])
    assert np.ptp(angle) > 4


def box(*sides):
    """The surface of a box with these sides, as triangles (12, 3, 3)."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    quads = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    return np.array([[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)]), corners * sides


def tube(sides=64):
    """The surface of a cylinder of radius 1 and height 3 about the axis y."""
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)
    k, nxt, up = np.arange(sides), (np.arange(sides) + 1) % sides, sides
    wall = [(k, nxt, k + up), (nxt, nxt + up, k + up)]
    discs = [(k, nxt, 0 * k + 2 * up), (k + up, nxt + up, 0 * k + 2 * up + 1)]
    faces = np.concatenate([np.stack(t, 1) for t in (*wall, *discs)])
    ends = 1.5 * np.array([[0, -1, 0], [0, 1, 0]])
    return faces, np.concatenate([ring + ends[0], ring + ends[1], ends])


def test_the_points_seen_are_those_of_the_near_side():
    """A completion would be asked for from points of both sides, or of another cloud.

    The coordinate of a point that is uniform on a sphere is uniform along an axis, so the nearest
    quarter of the points is a cap with z > 1 / 2 of the radius.
    """
    source = Surfaces(sphere(), np.array([0, 8 * 4**5]), 4000, seen=0.25)
    cloud = source.draw(np.zeros(2, int), np.arange(2), 0)
    for x, seen in zip(cloud["x"], cloud["seen"], strict=True):
        assert seen.shape == (1000, 3) and (np.diff(seen[:, 2]) <= 0).all()
        rest = {tuple(p) for p in x.tolist()} - {tuple(p) for p in seen.tolist()}
        assert len(rest) == 3000 and max(p[2] for p in rest) <= seen[-1, 2]
        np.testing.assert_allclose(seen[-1, 2], 0.5, atol=0.05)
        np.testing.assert_allclose(seen[:, 2].mean(), 0.75, atol=0.05)


def test_extents_are_the_sides_of_a_box():
    """The condition would say something else than the size of the cloud."""
    faces, corners = box(1.0, 2.0, 3.0)
    source = Surfaces(corners[faces], np.array([0, 12]), 4000, turn=False)
    np.testing.assert_allclose(source[np.array([0])]["extents"][0], [1, 2, 3], atol=0.02)


@pytest.fixture
def shapes(tmp_path):
    """Two objects of each of three classes, a folder for each class."""
    cube, can, ball = box(1, 1, 1), tube(), sphere(3).reshape(-1, 3)
    round_ = np.arange(len(ball)).reshape(-1, 3), ball
    for name, (faces, corners) in {"boxes": cube, "cans": can, "spheres": round_}.items():
        (tmp_path / name).mkdir()
        for k in range(2):
            rows = "".join("v {:.5f} {:.5f} {:.5f}\n".format(*v) for v in (k + 1) * corners)
            text = rows + "".join("f {} {} {}\n".format(*(f + 1)) for f in faces)
            (tmp_path / name / f"{k}.obj").write_text(text)
    return tmp_path


def test_folders_of_made_shapes_are_their_classes(shapes):
    """A cloud would have the label of another shape.

    With a mean square of 1 per coordinate, all points of a sphere are sqrt(3) from the middle, and
    the largest coordinate of a point of a cube is sqrt(9 / 5), as the mean square on its surface is
    5 / 9 of that of a face.
    """
    source = data.meshes("train", str(shapes), 500, 0.0, turn=False, classes=True)
    assert source.form.class_names == ("boxes", "cans", "spheres")
    assert source.labels().tolist() == [0, 0, 1, 1, 2, 2]
    items = source.draw(np.arange(6), np.arange(6), 0)
    assert items["label"].tolist() == [0, 0, 1, 1, 2, 2]
    exact = [
        lambda x: np.abs(np.abs(x).max(1) - np.sqrt(9 / 5)),
        lambda x: np.minimum(
            *(np.abs(a - a.max() + 0.02) for a in (np.hypot(x[:, 0], x[:, 2]), np.abs(x[:, 1])))
        ),
        lambda x: np.abs(np.linalg.norm(x, axis=1) - np.sqrt(3)),
    ]
    off = np.array([[measure(x).mean() for measure in exact] for x in items["x"]])
    assert off.argmin(1).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.fixture
def folder(tmp_path):
    for k in range(12):
        path = tmp_path / ("round" if k % 2 else "flat") / f"{k}.obj"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"v 0 0 0\nv {k + 1} 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n")
    return tmp_path


def test_folders_are_split_by_name_and_may_be_classes(folder):
    """The same object would be in both splits, or have another class there."""
    train, test = (data.meshes(s, str(folder), 8, 0.4, classes=True) for s in ("train", "test"))
    assert len(train) + len(test) == 12 and min(len(train), len(test)) > 0
    assert train.form.class_names == ("flat", "round") and train.form.shape == (8, 3)
    item = train[np.arange(len(train))]
    np.testing.assert_array_equal(item["label"], train.labels())
    assert len(data.meshes("train", str(folder), 8, 0.0).begins) == 13
    assert data.meshes("train", str(folder), 8, 0.0).form.classes == 0


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (dict(points=1), "points=1"),
        (dict(seen=0.0), "seen=0.0: needs 0 < seen <= 1"),
        (dict(path="nowhere"), "path='nowhere': no such folder; the form is name=meshes:PATH"),
        (dict(split="held"), "split='held'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, settings, part):
    with pytest.raises(ValueError, match=part):
        data.meshes(**({"split": "train", "path": str(folder)} | settings))


def test_surfaces_that_cannot_be_read_are_refused_by_name(folder):
    (folder / "flat" / "z.obj").write_text("v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match=r"z\.obj: has no area"):
        data.meshes("train", str(folder), holdout=0.0)


def test_without_the_package_its_name_is_said(monkeypatch):
    """A traceback of an import would not say what to install."""
    monkeypatch.setitem(sys.modules, "pybullet_data", None)
    with pytest.raises(ValueError, match=r'pip install "diffjax\[meshes\]", or a folder'):
        data.meshes("train")
