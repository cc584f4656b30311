"""Results of `evaluate` as a table and as a figure."""

import json

import numpy as np
import pytest
from PIL import Image, ImageColor

from diffjax.data.kinds.figures import LINES
from diffjax.report import evaluated


def result(sampler: str = "ddim", steps: int = 10, guidance: object = 1.0, **more) -> dict:
    passes = steps * (1 if guidance == 1.0 else 2)
    told = {"name": sampler} | ({"eta": 1.0} if sampler == "dpmpp_2m" else {})
    protocol = {"sampler": told, "steps": steps, "guidance": guidance, "passes": passes, "num": 8}
    values = {"distance": 1 / passes, "floor": 0.01234, "ratio": 2.0, "count": 4}
    found = {"frechet": values, "other": {"k": 3, "value": 0.5 + 0.001 * passes}}
    curve: dict = {"precision": 0.5 + 0.001 * passes, "recall": 0.9 - 0.001 * passes}
    curve["intervals"] = {k: [v - 0.1, v + 0.1] for k, v in curve.items()}
    return {"protocol": protocol | more, **found, "precision_recall": curve}


def test_a_table_shows_what_differs_and_has_a_column_for_each_metric():
    """Two different lines would look alike, or a user's metric be missing."""
    results = [result(), result("dpmpp_2m", 20, {"weight": 2.0, "rule": "apg"}, ema="long")]
    results[1]["protocol"]["num"] = 9
    first, second, *lines = evaluated.markdown(results).splitlines()
    heads = [cell.strip() for cell in first.strip("|").split("|")]
    told = ["sampler", "steps", "guidance", "passes", "ema", "num"]
    found = ["Frechet", "floor", "ratio", "precision", "recall", "other"]
    assert heads == [*told, *found]
    assert set(second) == set("| -:") and {len(line) for line in lines} == {len(first)}
    cells = [cell.strip() for cell in lines[1].strip("|").split("|")]
    assert cells[:6] == ["dpmpp_2m:eta=1.0", "20", "2", "40", "long", "9"]
    assert cells[6:] == ["0.025", "0.01234", "2", "0.54", "0.86", "0.54"]
    assert lines[0].split("|")[5].strip() == "-"  # that result has no ema
    assert "num" not in evaluated.markdown(results[:1])


def test_results_of_several_runs_are_one_table(tmp_path):
    """A run without an evaluation would hide the others, or bits would not be compared."""
    for run in "ab":
        (tmp_path / run).mkdir()
    bits = {"bpd": {"bits": 3.25, "protocol": {}}}
    (tmp_path / "a" / "evaluation.json").write_text(
        json.dumps({"results": [result()], "network": bits})
    )
    other = tmp_path / "theirs.evaluation.json"
    other.write_text(json.dumps({"results": [result(samples="theirs.npz")]}))
    files = [tmp_path / run / "evaluation.json" for run in "ab"]
    found, notes = evaluated.gathered([*files, other])
    assert notes == [f"{tmp_path / 'b' / 'evaluation.json'}: missing"]
    lines = evaluated.markdown(found).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["a", "a", "theirs"]
    assert lines[0].rstrip("| ").endswith("bpd") and lines[3].rstrip("| ").endswith("3.25")


@pytest.mark.parametrize(
    ("weights", "steps", "size"),
    [((1.0, 2.0), (5, 10), (1200, 960)), ((1.0,), (5, 10), (1800, 320)), ((1.0,), (5,), None)],
)
def test_trade_offs_are_drawn_where_there_are_any(tmp_path, weights, steps, size):
    """A figure would have empty panels, or be that of an earlier command."""
    path = tmp_path / "evaluation.png"
    path.write_text("an earlier one")
    results = [result(s, n, w) for s in ("ddim", "heun") for n in steps for w in weights]
    drawn = evaluated.tradeoffs(path, results)
    assert drawn == path.exists() == (size is not None)
    if size:
        with Image.open(path) as picture:
            assert picture.size == size
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50


def test_sixteen_lines_have_sixteen_colours(tmp_path):
    """Samplers would share a style and a colour, and be indistinguishable."""
    results = [result(f"sampler_{k}", n) for k in range(16) for n in (5, 10)]
    for k, one in enumerate(results):
        one["frechet"]["distance"] = k // 2 + k % 2 / 2
    assert evaluated.tradeoffs(tmp_path / "a.png", results)
    with Image.open(tmp_path / "a.png") as picture:
        seen = {
            tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()
        }
    assert {ImageColor.getrgb(colour) for colour in LINES} <= seen
    assert len({*LINES}) == 16
