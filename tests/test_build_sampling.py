"""Config to how to sample: correctors, where noise comes from, adaptive steps."""

import re

import numpy as np
import pytest

from diffjax import build
from diffjax.config import ConfigError
from diffjax.samplers import CORRECTORS, SAMPLERS, langevin, refresh
from diffjax.samplers.generate import Plan
from diffjax.schedules import Cosine, Linear
from diffjax.sde import VP
from diffjax.training.experiment import Form

pytestmark = pytest.mark.fast

SDE = VP(Linear(), t_min=0.02)
BASE = {"sampler": {"name": "ddim_sde"}, "grid": {"name": "uniform"}, "steps": 6}


def plan(sde=SDE, classes=4, **fields):
    return build.plan({**BASE, **fields}, sde, Form((2,), classes))


def refused(sde=SDE, classes=4, **fields) -> str:
    """The one line that the settings are refused with."""
    with pytest.raises(ConfigError) as error:
        plan(sde, classes, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("spec", "make"),
    [
        ({"name": "langevin", "snr": 0.3}, lambda sde, t: langevin(sde, t, snr=0.3)),
        ({"name": "refresh", "share": 0.5, "repeats": 2}, lambda sde, t: refresh(sde, t, 0.5, 2)),
    ],
    ids=["langevin", "refresh"],
)
def test_a_corrector_of_the_config_is_the_corrector(spec, make):
    """A field that is dropped on the way would sample another law in silence."""
    made, exact = plan(corrector=spec), make(SDE, plan().table)
    for name in ("t", "input", "update", "snr", "noisy", "keep"):
        np.testing.assert_array_equal(getattr(made.table, name), getattr(exact, name))
    assert made.rows == made.passes == len(exact) > 6
    assert plan(corrector=spec, guidance=3.0).passes == 2 * len(exact)


def test_noise_of_the_config_is_that_of_the_table():
    """More steps would be another sample, where one that is refined was asked for."""
    own, path = plan(), plan(noise="brownian")
    assert (own.table.nodes < 6).all() and own.table.nodes.shape[1] == 1
    exact = own.table.brownian()
    np.testing.assert_array_equal(path.table.nodes, exact.nodes)
    np.testing.assert_array_equal(path.table.shares, exact.shares)
    both = plan(noise="brownian", corrector={"name": "refresh"})
    assert both.rows == 12 and (both.table.nodes[::2, 0] == np.arange(0, 12, 2)).all()
    np.testing.assert_array_equal(plan(noise="independent").table.nodes, own.table.nodes)


def test_adaptive_steps_are_built_with_their_settings():
    """A tolerance would be that of the default."""
    from diffjax.samplers.adaptive import SOLVERS

    spec = {"name": "adaptive", "solver": "tsit5", "rtol": 1e-2, "atol": 1e-4, "most": 99}
    made = plan(sampler=spec, guidance=2.0)
    assert (made.rtol, made.atol, made.most, made.eta) == (1e-2, 1e-4, 99, 0.0)
    assert made.solver is SOLVERS["tsit5"] and made.weight == 2.0
    assert (made.start, made.stop) == (SDE.t_max, SDE.t_min)
    assert made.rows is None and made.passes is None and not isinstance(made, Plan)
    assert made.guidance.passes(np.array([2.0])) == 2
    assert plan(sampler={"name": "adaptive", "eta": 1.0}).eta == 1.0


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"corrector": {"name": "langevn"}}, ["corrector.name='langevn'", "'langevin'"]),
        ({"corrector": {}}, ["config.sampling.corrector.name: missing", "langevin, refresh"]),
        ({"corrector": "refresh"}, ["config.sampling.corrector='refresh'", "needs fields"]),
        ({"corrector": {"name": "refresh", "snr": 1.0}}, ["corrector.snr: no such field"]),
        ({"corrector": {"name": "refresh", "share": 2.0}}, ["sampling.corrector: share=2.0"]),
        ({"corrector": {"name": "langevin", "repeats": 0}}, ["corrector: repeats=0"]),
        ({"corrector": {"name": "langevin", "snr": "a"}}, ["config.sampling.corrector.snr='a'"]),
        (
            {"corrector": {"name": "refresh"}, "sampler": {"name": "unipc"}},
            ["config.sampling.corrector: ", "all but churn, unipc and sa_solver"],
        ),
        ({"noise": "brown"}, ["config.sampling.noise='brown'", "brownian"]),
        (
            {"noise": "brownian", "sampler": {"name": "ddim_sde", "eta": 1e3}},
            ["config.sampling.noise: 2 eta lambda reaches", "1024"],
        ),
        ({"sampler": {"name": "adaptive", "rtol": 2.0}}, ["config.sampling.sampler: rtol=2.0"]),
        ({"sampler": {"name": "adaptive", "tol": 0.1}}, ["config.sampling.sampler.tol: no such"]),
        ({"sampler": {"name": "adaptive", "solver": "rk"}}, ["sampler: solver='rk'", "dopri5"]),
        ({"sampler": {"name": "adaptive", "most": 0.5}}, ["config.sampling.sampler.most=0.5"]),
        (
            {"sampler": {"name": "adaptive"}, "corrector": {"name": "refresh"}},
            ["config.sampling.corrector: the sampler adaptive has no rows"],
        ),
        (
            {"sampler": {"name": "adaptive"}, "guidance": {"interval": (0.1, 1.0)}},
            ["config.sampling.guidance.interval: the sampler adaptive has no rows"],
        ),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_refused_with_its_place(fields, parts):
    line = refused(**fields)
    for part in parts:
        assert part in line


def test_adaptive_steps_need_what_other_samplers_need():
    """The SDE would begin with an infinite drift; guidance would guide by nothing."""
    spec = {"name": "adaptive", "eta": 1.0}
    assert "alpha is 0 there" in refused(VP(Cosine()), sampler=spec)
    assert plan(VP(Cosine()), sampler={"name": "adaptive"}).eta == 0
    assert "unconditional" in refused(classes=0, sampler=spec, guidance=2.0)


def test_the_list_names_correctors_and_adaptive_steps():
    """A user would have to read the code to know what there is."""
    out = build.listing()
    for name in (*SAMPLERS, "adaptive", *CORRECTORS):
        assert re.search(rf"^  {name}( |$)", out, re.M), name
    assert "snr=0.16, repeats=1" in out and "share=0.1" in out
    assert "solver=dopri5, rtol=0.001" in out
