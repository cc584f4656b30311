"""The study of clouds: its controls, and what does not see turns."""

import json

import numpy as np
import pytest

from diffjax.data.kinds.solid import turned
from experiments.clouds import study

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


def test_sets_are_measured_and_kept_one_by_one(tmp_path, capsys):
    """A set that was measured would be lost with the next one."""
    corners = "f 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"
    for k in range(40):
        rows = "".join("v {:.4f} {:.4f} {:.4f}\n".format(*v) for v in RNG.normal(size=(4, 3)))
        (tmp_path / f"{k}.obj").write_text(rows + corners)
    for only in ([study.FLOOR], ["Gaussians", "one object"]):
        study.study(tmp_path, tmp_path, 3, only, str(tmp_path))
    stored = json.loads((tmp_path / "clouds.json").read_text())
    assert [*stored["rows"]] == [study.FLOOR, "Gaussians", "one object"] and stored["of"] == 3
    text = study.tables(tmp_path)["clouds"]
    assert "± " in text and text.count("\n") == 6
    assert stored["rows"]["one object"]["nearest"] == pytest.approx(0.2, abs=0.2)
