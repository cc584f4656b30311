"""The curve of images seen against distance: stages, minutes, and a second run."""

import argparse
import json

import pytest

from experiments.budget import study

RESULT = {
    "protocol": {"guidance": 1.0, "num": 64, "features": "pixels in [0, 1]"},
    "frechet": {"distance": 2.0, "floor": 1.0, "ratio": 2.0},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the study, and the commands that it has called."""
    called, now = [], [0.0]
    monkeypatch.setattr(study.time, "time", lambda: now[0])
    monkeypatch.setattr(study, "last_step", lambda run: max((s for s in steps()), default=0))
    steps = lambda: [int(c[3].rpartition("=")[2]) for c in called if c[0] == "train"]

    def command(*line):
        called.append(line)
        now[0] += 10 * steps()[-1] / 2 if line[0] == "train" else 5.0  # half were trained before
        (tmp_path / study.RESULT).write_text(json.dumps({"results": [RESULT]}))
        (tmp_path / "cost.json").write_text(json.dumps({"flops": 100}))
        return 1800.0 * (steps()[-1] - sum(steps()[-2:-1]))  # half an hour a step

    monkeypatch.setattr(study, "command", command)

    def start(minutes, config="digits_vp", **more):
        asked = {"features": "", "guidance": "", "metrics": "frechet", "num": 64, "train": []}
        asked |= {"workdir": tmp_path, "minutes": minutes, "config": config, "first": 64}
        return study.study(argparse.Namespace(**asked | {"batch": 32} | more))

    return start, called


def test_stages_double_until_the_minutes_are_over(run):
    """A device that is lent for minutes would be taken away in the middle of a stage."""
    start, called = run
    rows = start(minutes=1.2)["rows"]
    # 20 s for the first stage; then 30 s and no more, since 50 s more would make 100.
    assert [row["images"] for row in rows] == [64, 128] and rows[1]["flops"] == 400
    assert [line[0] for line in called] == ["train", "evaluate", "sample"] * 2
    assert [row["images"] for row in start(minutes=1.2)["rows"]] == [64, 128, 256]
    text = study.tables(start(minutes=0.1))
    assert "| 256    | 8e+02 | 4.00      | 1        | 2.00    | 2.00" in text


def test_a_curve_is_of_one_config(run):
    """Points of two networks would stand on one curve."""
    start, _ = run
    start(minutes=0.4)
    with pytest.raises(SystemExit, match="digits_vp; --config=cifar_edm needs its own"):
        start(minutes=1, config="cifar_edm")
