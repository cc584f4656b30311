"""The study of clouds: its controls, and what does not see turns."""

import json

import numpy as np
import pytest

from diffjax.data.kinds.solid import turned
from diffjax.data.surfaces import nearest
from diffjax.evaluation.completion import distances
from experiments.clouds import completion, study

RNG = np.random.default_rng(0)


def test_the_gaussians_have_the_covariances_of_their_clouds():
    """A control of other sizes would be told apart by its size, not by its lack of surfaces."""
    x = RNG.normal(size=(4, 50, 3)) @ RNG.normal(size=(4, 3, 3))
    z = study.gaussian(x)
    for cloud, like in zip(x, z, strict=True):
        np.testing.assert_allclose(np.cov(like.T), np.cov(cloud.T), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(like.mean(0), 0, atol=1e-5)
        assert np.abs(like - cloud).mean() > 0.1


def test_a_turned_copy_is_no_new_object():
    """A network that copies objects and turns them would seem to draw new ones."""
    training = RNG.normal(size=(5, 20, 3))
    copies = np.stack([turned(x[RNG.permutation(20)], a) for a, x in enumerate(training)])
    np.testing.assert_allclose(study.nearest(copies, training), 0, atol=1e-12)
    assert study.nearest(RNG.normal(size=(5, 20, 3)), training) > 0.05


@pytest.fixture(scope="module")
def tetrahedra(tmp_path_factory):
    folder, corners = tmp_path_factory.mktemp("objects"), "f 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"
    for k in range(40):
        rows = "".join("v {:.4f} {:.4f} {:.4f}\n".format(*v) for v in RNG.normal(size=(4, 3)))
        (folder / f"{k}.obj").write_text(rows + corners)
    return folder


def test_the_floor_of_completions_has_the_orientation_of_the_object(tetrahedra):
    """Another turn of the same object would be a floor above many completions."""
    true, floor = completion.halves(str(tetrahedra), 3)
    np.testing.assert_allclose(true.mean(1), 0, atol=1e-6)
    seen = nearest(true, 64)
    same, other = (distances(x, true, seen) for x in (floor, np.roll(true, 1, 0)))
    for name in ("emd", "chamfer", "missed"):
        assert (2 * same[name] < other[name]).all(), name


def test_a_mirror_image_completes_what_is_symmetric():
    """The control would be at another place than the object, or lack a part of it."""
    half = RNG.normal(size=(2, 8, 3)) + np.array([0, 0, 5])
    whole = np.concatenate([half, half * np.array([1, 1, -1])], 1)
    found = completion.mirrored(nearest(whole, 8), 16)
    np.testing.assert_allclose(distances(found, whole, half)["emd"], 0, atol=1e-12)


def test_sets_are_measured_and_kept_one_by_one(tmp_path, tetrahedra):
    """A set that was measured would be lost with the next one."""
    for only in ([study.FLOOR], ["Gaussians", "one object"]):
        study.study(tmp_path, tmp_path, 3, only, str(tetrahedra))
    stored = json.loads((tmp_path / "clouds.json").read_text())
    assert [*stored["rows"]] == [study.FLOOR, "Gaussians", "one object"] and stored["of"] == 3
    text = study.tables(tmp_path)["clouds"]
    assert "± " in text and text.count("\n") == 6
    assert stored["rows"]["one object"]["nearest"] == pytest.approx(0.2, abs=0.2)
