"""From config.sampling to a plan: correctors, sources of noise and adaptive steps."""

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from diffjax import builder
from diffjax.builder import guidance
from diffjax.builder.guidance import Run, takes_to
from diffjax.builder.sampling import Nothing
from diffjax.config import ConfigError
from diffjax.data.form import labelled
from diffjax.guidance import (
    APG,
    RAMPS,
    REFERENCES,
    RULES,
    THRESHOLDS,
    Cached,
    Conditional,
    Dynamic,
    Guided,
    Rescale,
    Several,
    Static,
    Thresholded,
)
from diffjax.samplers import CORRECTORS, SAMPLERS, langevin, refresh
from diffjax.samplers.plan import Plan
from diffjax.samplers.tokens import TOKEN_SAMPLERS
from diffjax.schedules import Cosine, Linear
from diffjax.sde import VP, levels

pytestmark = pytest.mark.typed

SDE = VP(Linear(), t_min=0.02)
BASE = {"sampler": {"name": "ddim_sde"}, "grid": {"name": "uniform"}, "steps": 6}


def plan(sde=SDE, classes=4, leads=False, **fields):
    return builder.plan({**BASE, **fields}, sde, labelled("points", (2,), classes), leads=leads)


def refused(sde=SDE, classes=4, leads=False, **fields) -> str:
    """Return the one line with which the settings are refused."""
    with pytest.raises(ConfigError) as error:
        plan(sde, classes, leads, **fields)
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
    """If a field were dropped on the way, another distribution would be sampled without notice."""
    form = labelled("vector", (16,), 4)  # langevin needs as many values
    plan = lambda **fields: builder.plan({**BASE, **fields}, SDE, form)
    made, exact = plan(corrector=spec), make(SDE, plan().table)
    for name in ("t", "input", "update", "snr", "noisy", "keep"):
        np.testing.assert_array_equal(getattr(made.table, name), getattr(exact, name))
    assert made.rows == made.passes == len(exact) > 6
    assert plan(corrector=spec, guidance=3.0).passes == 2 * len(exact)


def test_noise_of_the_config_is_that_of_the_table():
    """More steps would give a different sample instead of a refined one."""
    own, path = plan(), plan(noise="brownian")
    assert (own.table.nodes < 6).all() and own.table.nodes.shape[1] == 1
    exact = own.table.brownian()
    np.testing.assert_array_equal(path.table.nodes, exact.nodes)
    np.testing.assert_array_equal(path.table.shares, exact.shares)
    both = plan(noise="brownian", corrector={"name": "refresh"})
    assert both.rows == 12 and (both.table.nodes[::2, 0] == np.arange(0, 12, 2)).all()
    np.testing.assert_array_equal(plan(noise="independent").table.nodes, own.table.nodes)


def test_adaptive_steps_are_built_with_their_settings():
    """The default tolerance would be used instead of the configured one."""
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
        ({"corrector": 3}, ["config.sampling.corrector=3", "needs fields"]),
        ({"corrector": {"name": "refresh", "snr": 1.0}}, ["corrector.snr: no such field"]),
        ({"corrector": {"name": "refresh", "share": 2.0}}, ["sampling.corrector: share=2.0"]),
        ({"corrector": {"name": "langevin", "repeats": 0}}, ["corrector: repeats=0"]),
        ({"corrector": {"name": "langevin", "snr": "a"}}, ["config.sampling.corrector.snr='a'"]),
        (
            {"corrector": {"name": "refresh"}, "sampler": {"name": "unipc"}},
            ["config.sampling.corrector: ", "all samplers but churn, unipc and sa_solver"],
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
            ["config.sampling.corrector: applies to rows"],
        ),
        (
            {"sampler": {"name": "adaptive"}, "guidance": {"interval": (0.1, 1.0)}},
            ["config.sampling.guidance.interval: applies to rows"],
        ),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_refused_with_its_place(fields, parts):
    line = refused(**fields)
    for part in parts:
        assert part in line


def test_adaptive_steps_need_what_other_samplers_need():
    """The SDE would start with an infinite drift, or guidance lack its reference."""
    spec = {"name": "adaptive", "eta": 1.0}
    assert "where alpha is 0" in refused(VP(Cosine()), sampler=spec)
    assert plan(VP(Cosine()), sampler={"name": "adaptive"}).eta == 0
    assert "unconditional" in refused(classes=0, sampler=spec, guidance=2.0)


def test_the_list_names_correctors_and_adaptive_steps():
    """Users would have to read the code to learn which entries exist."""
    out = builder.listing()
    for name in (*SAMPLERS, "adaptive", *TOKEN_SAMPLERS, *CORRECTORS):
        assert re.search(rf"^  {name}( |$)", out, re.M), name
    assert "snr=0.16, repeats=1" in out and "share=0.1" in out
    assert "solver=dopri5, rtol=0.001" in out


# Guidance.


@pytest.mark.parametrize("interval", [(0.0, 1e9), (0.1, 1.0)])
def test_rows_outside_the_guidance_interval_make_one_pass(interval):
    """A guided sampler would pay for passes that are not wanted, or miss those that are."""
    made = plan(guidance={"weight": 2.0, "interval": interval})
    rho = np.exp(-levels(SDE, made.table.t).lam)
    inside = (interval[0] <= rho) & (rho <= interval[1])
    np.testing.assert_array_equal(made.table.weight, np.where(inside, 2.0, 1.0))
    assert made.passes == 6 + inside.sum()


def test_weights_follow_their_ramp_or_are_given_by_row():
    """Rows would be guided with the default weight instead of the configured one."""
    t = plan().table.t
    made = plan(guidance={"weight": 3.0, "ramp": "cosine"})
    np.testing.assert_allclose(made.table.weight, 3 + 2 * np.cos(np.pi * t), rtol=1e-6)
    assert made.table.weight[0] == 1 and made.passes == 11  # t = 1: a single pass
    given = plan(guidance={"weight": [1, 2, 1, 0.5, 1, 3]})
    assert given.table.weight.tolist() == [1, 2, 1, 0.5, 1, 3] and given.passes == 9


def test_guidance_of_the_config_is_the_guidance():
    """If a field were dropped on the way, guidance would differ without notice."""
    assert plan(guidance=1.0).guidance == Conditional()
    assert plan(guidance=2.0).guidance == plan(guidance={"weight": 2}).guidance == Guided()
    rule = {"name": "apg", "momentum": -0.25, "norm": 3}
    assert plan(guidance={"weight": 2.0, "rule": rule}).guidance.rule == APG(0.0, 3.0, -0.25)
    assert plan(guidance={"weight": 2.0, "rule": "rescale"}).guidance.rule == Rescale()
    made = plan(guidance={"weight": 2.0, "threshold": {"name": "dynamic", "share": 0.9}})
    assert made.guidance == Thresholded(Guided(), Dynamic(share=0.9))
    assert plan(classes=0, guidance={"threshold": "static"}).guidance == Thresholded(
        Conditional(), Static()
    )
    reference = {"name": "negative", "label": 2}
    assert plan(guidance={"weight": 2.0, "reference": reference}).guidance.reference.instead == {
        "label": 2
    }
    several = {"name": "several", "shares": {"label": 2}}
    cached = {"name": "cached", "every": 3, "reference": several}
    made = plan(guidance={"weight": 2.0, "reference": cached})
    assert made.guidance.reference == Cached(Several((("label", 2.0),)), 3) and made.passes == 8


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"wieght": 2.0}, ["config.sampling.guidance.wieght: no such field", "'weight'"]),
        ({"weight": "a"}, ["config.sampling.guidance.weight='a': needs float"]),
        ({"weight": float("nan")}, ["config.sampling.guidance.weight=nan", "finite"]),
        ({"weight": [2.0, 3.0]}, ["guidance.weight: 2 weights, but the sampler has 6 rows"]),
        ({"ramp": "cosin"}, ["config.sampling.guidance.ramp='cosin'", "'cosine'"]),
        ({"interval": (1.0, 0.5)}, ["config.sampling.guidance.interval=", "0 <= low < high"]),
        ({"interval": (0.0, 1.0, 2.0)}, ["guidance.interval=", "needs two numbers"]),
        ({"interval": (1e8, 1e9)}, ["guidance.interval=", "no row lies in this interval"]),
        ({"interval": (-1.0, 1.0)}, ["guidance.interval=", "0 <= low < high"]),
        ({"rule": "apgg"}, ["config.sampling.guidance.rule.name='apgg'", "'apg'"]),
        ({"rule": {"name": "rescale", "phi": 2.0}}, ["guidance.rule: phi=2.0: needs 0 <= phi"]),
        ({"rule": {"name": "apg", "phi": 2.0}}, ["config.sampling.guidance.rule.phi: no such"]),
        ({"threshold": "hard"}, ["config.sampling.guidance.threshold.name='hard'", "dynamic"]),
        ({"threshold": {"name": "static", "bound": 0.0}}, ["guidance.threshold: bound=0.0"]),
        ({"reference": "nul"}, ["config.sampling.guidance.reference.name='nul'", "'null'"]),
        ({"reference": 3}, ["config.sampling.guidance.reference=3: needs fields"]),
        ({"reference": {"name": "negative", "label": 4}}, ["label=4: no such class", "to 3"]),
        (
            {"reference": {"name": "several", "shares": {"text": 2.0}}},
            ["config.sampling.guidance.reference.shares.text: no such field", "label"],
        ),
        ({"reference": {"name": "cached", "every": 0}}, ["guidance.reference: every=0"]),
        (
            {"reference": {"name": "cached", "reference": {"name": "nul"}}},
            ["config.sampling.guidance.reference.reference.name='nul'"],
        ),
        ({"reference": "network"}, ["guidance.reference.workdir=None: needs the workdir"]),
        (
            {"reference": {"name": "network", "workdir": "nowhere"}},
            ["config.sampling.guidance.reference.workdir=nowhere", "no run here"],
        ),
    ],
    ids=str,
)
def test_bad_guidance_is_refused_with_its_place(fields, parts):
    line = refused(guidance={"weight": 2.0, **fields})
    for part in parts:
        assert part in line


def test_a_second_time_is_asked_of_networks_that_take_one(monkeypatch):
    """A network without a second time would raise a traceback at its first row.

    The reference of a flow map would also be compared at a wrong time.
    """

    def leap(sde, times):
        return replace(SAMPLERS["ddim"](sde, times), leads=True)

    monkeypatch.setitem(SAMPLERS, "leap", leap)
    other = Nothing(SDE)
    for leads in (False, True):
        run = Run(labelled("points", (2,), 4), other, leads)
        monkeypatch.setattr(guidance, "trained", lambda workdir, ema, run=run: run)
        spec = {"weight": 2.0, "reference": {"name": "network", "workdir": "runs/other"}}
        assert plan(guidance=spec).guidance.reference.denoise is other
        if leads:
            assert plan(sampler={"name": "leap"}, leads=True, guidance=spec).table.leads
            line = refused(sampler={"name": "leap"})
            assert "config.sampling.sampler.name='leap': needs a network that takes a" in line
        else:
            line = refused(sampler={"name": "leap"}, leads=True, guidance=spec)
            assert "guidance.reference.workdir=runs/other: the sampler needs" in line
    assert takes_to({"conditions": {"to": {"size": 1}}}) and not takes_to({})


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"rule": "apg"}, "cannot remember"),
        ({"reference": "cached"}, "cannot remember"),
        ({"rule": {"name": "cfg_zero", "still": 1}}, "cannot remember"),
        ({"ramp": "linear"}, "config.sampling.guidance.ramp='linear'"),
    ],
    ids=str,
)
def test_adaptive_steps_refuse_what_needs_rows(fields, part):
    """Momentum would be forgotten, and a cache be asked for at every step."""
    adaptive = {"name": "adaptive"}
    assert part in refused(sampler=adaptive, guidance={"weight": 2.0, **fields})
    plan(sampler=adaptive, guidance={"weight": 2.0, "rule": {"name": "apg", "momentum": 0.0}})


def test_the_list_names_all_of_guidance():
    """Users would have to read the code to learn which entries exist."""
    out = builder.listing()
    for name in (*REFERENCES, *RULES, *THRESHOLDS, *RAMPS):
        assert re.search(rf"^  {name}( |$)", out, re.M), name
    assert "parallel=0.0, norm=inf, momentum=-0.5" in out


def test_another_network_is_loaded_again_once_its_run_has_changed(toy, tmp_path):
    """Guidance would keep the old weights after their run was trained further.

    A process with many guided runs would also keep the networks of all of them in memory.
    """
    run = shutil.copytree(toy, tmp_path / "run")
    first = guidance.trained(run, None)
    assert guidance.trained(run, None) is first
    os.utime(run / "checkpoints", (1, 1))
    assert guidance.trained(run, None) is not first
