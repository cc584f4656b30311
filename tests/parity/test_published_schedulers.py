"""Configs of diffusers' schedulers, as read here, against the steps of those schedulers.

`make_diffusers.py` writes the numbers and has the configs; neither torch nor diffusers is needed.
"""

import numpy as np
import pytest
from make_diffusers import FAMILIES, STEPS
from test_diffusers import STORED, assert_agree

from diffjax.builder import construct_sde, construct_table
from diffjax.published import schedulers

RUNS = {run.name: run for family in FAMILIES for run in family()}
OTHER = {
    # Schedulers with a special calling convention, or of a class that is not read.
    *("ddim-inverse", "ddim-eta0.5", "ddim-eta1", "lms1", "lms2", "lms3", "cosine-dpm", "lcm"),
    *("ipndm", "dpmsolver++2m-inverse", "dpmsolver++-2s", "dpmsolver-2s", "dpmsolver-3s"),
    "pndm",  # from its fourth step on, where ours takes x0 at the end
}
REFUSED = {
    "euler-beta": "use_beta_sigmas=True",
    "dpmsolver++3m": "solver_order=3",
    "sde-dpmsolver++3m": "solver_order=3",
    "unip3": "disable_corrector",
    # EDM's and the flow's own end below are read.
}
READ = sorted(set(RUNS) - OTHER - set(REFUSED))


def config(run):
    """Return the config as `save_pretrained` writes it."""
    kind = {} if run.kind in ("epsilon", "edm", "learned_range") else {"prediction_type": run.kind}
    kind = {} if run.name.startswith(("flow-euler", "flow-heun")) else kind
    return {"_class_name": run.scheduler[1], "_diffusers_version": "0.42.1", **run.config, **kind}


def in_our_frame(run, sde):
    """The stored rows, of which schedulers that hold x / alpha of a table have alpha = 1."""
    stored = STORED[run.name].copy()
    if run.frame == "ve" and type(sde).__name__ == "VP":
        alpha = 1 / np.hypot(1, stored[:, 1])
        stored[:, :6] *= alpha[:, None]
    return stored


@pytest.mark.parametrize("name", READ)
def test_a_scheduler_is_read_as_what_it_does(name):
    """Process, grid or sampler would be those of another class: levels and states, row by row."""
    run = RUNS[name]
    sections = schedulers.read(config(run), run.steps).sections
    sde = construct_sde(sections["sde"], "config.sde")
    table = construct_table(sections["sampling"], sde, "config.sampling")
    stored = in_our_frame(run, sde)
    assert_agree(table[: len(stored) - 1] if run.drop else table, sde, stored)


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_without_a_counterpart_is_refused_by_name(name):
    """Samples would silently come from another method; the user may choose another sampler."""
    with pytest.raises(ValueError, match=REFUSED[name]) as refused:
        schedulers.read(config(RUNS[name]))
    assert "set sampler" in str(refused.value) and "\n" not in str(refused.value)
    made = schedulers.read(config(RUNS[name]), sampler="ddim")
    assert made.sections["sampling"]["sampler"] == {"name": "ddim"}
    assert REFUSED[name] in " ".join(made.notes)


def test_all_that_is_stored_is_read_or_refused():
    """A class would silently lose its test."""
    assert set(RUNS) == set(STORED) and STEPS == 10
    assert {*READ, *OTHER, *REFUSED} == set(RUNS)
