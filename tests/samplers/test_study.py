"""The study of errors against passes: its problem, and that it covers every sampler."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from diffjax.grids import GRIDS
from diffjax.samplers import SAMPLERS
from diffjax.samplers.conformance import simulate
from diffjax.schedules import Karras, Linear
from diffjax.sde import VE, VP, levels

FOLDER = Path(__file__).parents[2] / "experiments" / "samplers"
SDES = {"edm": VE(Karras(), t_min=1e-9), "vp": VP(Linear())}


@pytest.fixture(scope="module")
def problem():
    spec = importlib.util.spec_from_file_location("problem", FOLDER / "problem.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "problem", module)  # dataclasses look there
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("process", SDES)
def test_its_grids_are_those_of_the_catalogue(problem, process):
    """Samplers of other libraries would run on other grids."""
    sde = SDES[process]
    for steps in (5, 20):
        for name, rho in problem.plain_grids(problem.PROCESSES[process], steps).items():
            at = levels(sde, GRIDS[name](sde, steps))
            np.testing.assert_allclose(at.sigma / at.alpha, rho, rtol=1e-12, err_msg=name)


def test_its_end_points_are_exact(problem):
    """All errors would be wrong. Here another method computes the end points on a long grid."""
    sde = VP(Linear(), t_min=1e-11)
    table = SAMPLERS["rk4"](sde, GRIDS["exponential"](sde, 300))
    at = levels(sde, table.t)
    rho = at.sigma / at.alpha
    eps = lambda i, u: (u / at.alpha[i] - problem.posterior_mean(u / at.alpha[i], rho[i])) / rho[i]
    made = simulate(table, eps, at.sigma[0] * problem.noise()[:8])
    np.testing.assert_allclose(made, problem.ends(rho[0], 8), atol=1e-4)


def test_every_sampler_is_in_it():
    """A new sampler would be missing: run experiments/samplers/exact.py --only=NAME."""
    found = json.loads((FOLDER / "exact.json").read_text())
    for errors in found["errors"].values():
        assert {label.split(":")[0] for label in errors} | set(found["left_out"]) == set(SAMPLERS)
