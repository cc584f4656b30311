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
