"""The number of steps for a wanted error, on a tiny run."""

import re
import sys

import pytest
from tiers import some

from diffjax.config import ConfigError
from diffjax.tools import steps


@pytest.fixture
def tool(monkeypatch, capsys, toy):
    """Run the tool in this process; return its error or None, and its output."""

    def run(*flags):
        given = [f"--workdir={toy}", "--num=8", *flags]
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
    assert error == "--sampler=adaptive: chooses its own steps; allowed: the other samplers"
    assert out == ""
    for bad in ("0", "-1"):
        error, _ = tool("--sampler=ddim", f"--error={bad}")
        assert error == f"--error={bad}: needs an error above 0"
