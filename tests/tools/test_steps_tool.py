"""The number of steps for a wanted error, on a tiny run."""

import json
import re
import shutil
import sys

import pytest
from commands import ended
from tiers import some

import diffjax
from diffjax.config import ConfigError
from diffjax.runs import quality
from diffjax.tools import steps


@pytest.fixture(scope="module")
def place(toy, tmp_path_factory):
    """A copy of the run, in which the tool stores its curves."""
    return shutil.copytree(toy, tmp_path_factory.mktemp("steps") / "run")


@pytest.fixture
def tool(monkeypatch, capsys, place):
    """Run the tool in this process; return its error or None, and its output."""

    def run(*flags):
        given = [f"--workdir={place}", "--num=8", *flags]
        monkeypatch.setattr(sys, "argv", ["steps", *given])
        try:
            assert steps.run() == 0
        except ConfigError as error:
            return str(error), capsys.readouterr().out
        return None, capsys.readouterr().out

    return run


def rows(out):
    """Return steps, passes and errors from the printed table."""
    found = re.findall(r"^ +(\d+) +(\d+) +([\d.e+-]+)$", out, re.M)
    return [(int(n), int(passes), float(error)) for n, passes, error in found]


@pytest.mark.parametrize(
    ("sampler", "wanted"), some([("dpmpp_2m", 0.02), ("ddim_sde", 30.0)], [("dpmpp_2m", 0.02)])
)
def test_steps_are_doubled_until_the_error_is_small_enough(tool, sampler, wanted):
    """The recommended steps would have a larger error; with noise it would not fall at all."""
    error, out = tool(f"--sampler={sampler}", f"--error={wanted}", "--grid=logsnr_uniform")
    print(out)
    assert error is None
    made = rows(out)
    assert "units of the data" in out
    assert [n for n, *_ in made] == [5 * 2**k for k in range(len(made))]
    assert all(passes == n for n, passes, _ in made)
    assert len(made) > 1 and made[-1][2] <= wanted < made[-2][2] < made[0][2] * 1.001
    assert out.splitlines()[-1] == f"--steps={made[-1][0]}"


def test_a_limit_of_steps_that_is_too_low_is_reported(tool):
    """A number of steps would be recommended whose error is larger than requested."""
    error, out = tool("--sampler=ddim", "--error=1e-6", "--most=12", "--steps=3")
    assert error.startswith("--most=12: the error is ") and "with 12 steps" in error
    assert "more than --error=1e-06" in error and "\n" not in error
    assert [n for n, *_ in rows(out)] == [3, 6, 12] and "--steps=" not in out


def test_what_has_no_steps_is_refused(tool):
    """Doubled steps would mean nothing to a sampler that chooses its own."""
    error, out = tool("--sampler=adaptive")
    assert error == "--sampler: adaptive steps differ between samples; needs the rows of a table"
    assert out == ""
    for bad in ("0", "-1"):
        error, _ = tool("--sampler=ddim", f"--error={bad}")
        assert error == f"--error={bad}: needs an error above 0"


def test_samples_are_chosen_by_their_error(tool, place, monkeypatch, capsys):
    """A user would get more steps than needed, or an error that no curve promises."""
    (place / "steps.json").unlink(missing_ok=True)

    def sample(*flags):
        given = (f"--workdir={place}", "--num=4", f"--out={place}/s.npz", *flags)
        code = ended(monkeypatch, "sample", *given)
        return code, *capsys.readouterr()

    code, _, error = sample("--quality=0.1")
    assert code == 2 and error.count("\n") == 1
    assert f"run python -m diffjax.tools.steps --workdir={place} --sampler=SAMPLER" in error
    tool("--sampler=ddim", "--error=0.2", "--most=40", "--grid=logsnr_uniform")
    tool("--sampler=dpmpp_2m", "--error=0.05", "--most=40", "--grid=logsnr_uniform")
    tool("--sampler=dpmpp_2m", "--error=0.05", "--most=40", "--grid=logsnr_uniform")  # replaces
    curves = json.loads((place / "steps.json").read_text())["curves"]
    assert [one["sampler"]["name"] for one in curves] == ["ddim", "dpmpp_2m"]
    assert all(one["seconds_per_pass"] > 0 for one in curves)
    trained = diffjax.load(place)
    scale, shown = trained.experiment.form.items.unit[0], quality.errors(trained, place)
    least = {one["sampler"]["name"]: min(p["error"] for p in one["points"]) for one in curves}
    assert {name: min(e for _, e in pairs) / scale for name, pairs in shown.items()} == (
        pytest.approx(least)
    )
    assert all(pairs == sorted(pairs) for pairs in shown.values())
    points = [(p, one) for one in curves for p in one["points"]]
    for wanted in (0.2, 0.05):
        enough = [(p["passes"], p["error"], one) for p, one in points if p["error"] <= wanted]
        passes, least, one = min(enough, key=lambda e: e[:2])
        code, out, _ = sample(f"--quality={wanted}")
        assert code == 0 and f"{passes} network passes" in out and f"error {least:.3g}" in out
        assert f"{one['sampler']['name']}: {passes} rows" in out
    code, out, _ = sample("--quality=0.2", "--sampler=dpmpp_2m")
    assert code == 0 and "--sampler=dpmpp_2m" in out
    best = min(points, key=lambda each: each[0]["error"])
    code, _, error = sample("--quality=1e-9")
    assert code == 2 and f"the least measured error is {best[0]['error']:.3g}" in error
    assert f"of {best[1]['sampler']['name']} with {best[0]['steps']} steps" in error


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--quality=0",), "needs an error above 0"),
        (("--quality=0.1", "--steps=5"), "chooses --steps=5 itself"),
        (("--quality=0.1", "--sampler=heun"), "no curve of these weights"),
        (("--quality=0.1", "--ema=raw"), "no curve of these weights"),
    ],
)
def test_what_was_not_measured_is_refused(tool, place, monkeypatch, capsys, flags, why):
    """The error of other weights, or of another sampler, would be promised."""
    if not (place / "steps.json").exists():
        tool("--sampler=ddim", "--error=100")
    code = ended(monkeypatch, "sample", f"--workdir={place}", "--num=4", *flags)
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and why in error


def test_a_damaged_file_of_curves_is_reported(place, monkeypatch, capsys):
    """A traceback, or curves that are lost in silence."""
    (place / "steps.json").write_text("{")
    code = ended(monkeypatch, "sample", f"--workdir={place}", "--num=4", "--quality=1")
    error = capsys.readouterr().err
    assert code == 2 and "steps.json: cannot be read" in error and "delete it" in error
    (place / "steps.json").unlink()
