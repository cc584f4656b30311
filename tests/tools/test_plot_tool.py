"""Pictures of a process: real data, the right noise, and warnings."""

import sys

import numpy as np
import pytest
from PIL import Image

from diffjax.config import ConfigError
from diffjax.plot import images
from diffjax.tools import plot as tool


@pytest.fixture
def drawn(monkeypatch, tmp_path, capsys):
    """Run the tool; return its pictures and its lines on stderr."""

    def run(*arguments: str):
        out = tmp_path / "picture.png"
        monkeypatch.setattr(sys, "argv", ["plot", *arguments, f"--out={out}"])
        assert tool.run() == 0
        return np.asarray(Image.open(out)), capsys.readouterr().err

    return run


def test_schedules_are_drawn_and_early_loss_is_reported(drawn):
    """A user would not notice that most times of a schedule are noise."""
    picture, said = drawn("schedules", "linear", "cosine", "shifted:schedule=linear,by=3")
    assert picture.shape[2] == 3 and len(np.unique(picture)) > 20
    warned = [line.split(":")[1].strip() for line in said.splitlines() if "warning" in line]
    assert warned == ["linear"]


def test_all_schedules_are_drawn_by_default_and_impossible_ones_are_named(drawn):
    """A schedule that the frame refuses would stop the picture, or silently be missing."""
    _, said = drawn("schedules", "--sde=ve")
    assert "left out" in said and "Cosine" in said and "Geometric" not in said


def test_forward_shows_the_images_with_the_noise_of_their_time(drawn, monkeypatch):
    """The picture would show another process than the one that is trained."""
    seen = []
    strips = images.strips
    two = lambda rows, *more: strips([row[:2] for row in rows], *more)  # other rows are not drawn
    monkeypatch.setattr(images, "strips", lambda *args: seen.append(args) or two(*args))
    drawn("forward", "cosine", "linear", "--sde=vp", "--data=digits", "--num=50", "--times=0.3,1")
    rows, labels, titles = seen[0]
    assert labels == ["cosine", "linear"] and titles == ["x0", "t = 0.3", "t = 1"]
    assert rows[0].shape == (50, 3, 8, 8, 1)
    x = rows[0].astype(float) / 127.5 - 1
    np.testing.assert_array_equal(rows[0][:, 0], rows[1][:, 0])
    inside = (np.abs(x[:, 1]) < 1) & (np.abs(x[:, 0]) < 1)
    centred = (x[:, 1] - np.cos(0.3 * np.pi / 2) * x[:, 0])[inside]
    assert abs(centred.std() - np.sin(0.3 * np.pi / 2)) < 0.1  # values beyond 1 are cut off
    assert np.abs(x[:, 2]).mean() > 0.6  # noise of standard deviation 1


def test_a_config_gives_process_and_data(drawn, monkeypatch):
    seen = []
    monkeypatch.setattr(
        images, "strips", lambda *args: seen.append(args) or np.zeros((2, 2, 3), "u1")
    )
    drawn("forward", "--config=configs/digits_vp.py", "--num=1")
    assert seen[0][1] == ["config"] and seen[0][0][0].shape[2:] == (8, 8, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedules", "cosin"], "process.schedule.name='cosin'"),
        (["schedules", "cosine", "--sde=ve"], "sigma is infinite at t_max"),
        (["forward", "linear", "--data=moons"], "forward needs images"),
        (["schedules", "--out=x.gif"], "unknown ending; known: .png"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr(sys, "argv", ["plot", *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        tool.run()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
