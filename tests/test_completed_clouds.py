"""Completion of clouds where the far side follows exactly from the near side."""

import numpy as np
import pytest

from diffjax import data
from diffjax.data.surfaces import nearest
from diffjax.evaluation.completion import distances
from diffjax.runs.launch import fit

OBJECTS, POINTS = 16, 16


def square(x, z):
    """The corners (4, 3) of a small square at (x, 0, z), across the line of sight."""
    return np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) / 4 + [x, 0, z]


def written(folder):
    """Write objects of two squares, of which the far one is where the near one is not: x = -+1."""
    for k in range(OBJECTS):
        side = 1 if k % 2 else -1
        corners = np.concatenate([square(side, 1), square(-side, -1)])
        rows = "".join("v {:.4f} {:.4f} {:.4f}\n".format(*v) for v in corners)
        (folder / f"{k}.obj").write_text(rows + "f 1 2 3\nf 1 3 4\nf 5 6 7\nf 5 7 8\n")


@pytest.mark.thorough
def test_the_far_side_follows_from_the_near_one(tmp_path):
    """A network that ignores the points it is given would be right in half of the cases."""
    (objects := tmp_path / "objects").mkdir()
    written(objects)
    trained = fit(
        "meshes_completed",
        tmp_path / "run",
        *(f"data.name=meshes:{objects}", f"data.points={POINTS}", "data.turn=False"),
        *("network.width=32", "network.depth=2", "network.waves=2", "train.batch_size=32"),
        *(
            "train.steps=240",
            "train.log_every=80",
            "train.sample_every=240",
            "train.checkpoint_every=240",
        ),
        *("optimizer.warmup=20", "optimizer.learning_rate=4e-3", "optimizer.schedule.length=240"),
    )
    source = data.meshes("train", str(objects), POINTS, turn=False)
    true = source[np.arange(len(source))]["x"]
    seen = nearest(true, POINTS // 4)
    x = np.asarray(trained.sample(len(true), cond={"seen": seen}, steps=20).x)
    far = np.array([cloud[cloud[:, 2] < 0, 0].mean() for cloud in x])
    assert (np.sign(far) == -np.sign(seen[..., 0].mean(1))).mean() >= 0.95
    right, wrong = (distances(x, a, seen)["emd"].mean() for a in (true, np.roll(true, 1, 0)))
    assert right < wrong
