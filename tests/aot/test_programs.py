"""The programs of a run, compiled from shapes, beside those that training and sampling run."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from diffjax import builder, config
from diffjax.aot import programs
from diffjax.aot.analysis import analyse
from diffjax.aot.targets import target
from diffjax.config import ConfigError
from diffjax.devices import mesh
from diffjax.training.cost import bytes_of
from diffjax.training.loop import program

TINY = ("network.width=8", "network.depth=1", "train.batch_size=16", "train.steps_per_dispatch=2")
"""A run on points whose step compiles in a second."""


def experiment(*changes):
    return builder.experiment(config.override(config.load("moons_vp"), [*TINY, *changes]))


@pytest.fixture(scope="module")
def step():
    """A step in data parallelism over two devices."""
    e = experiment()
    return e, programs.train_step(e, target("cpu:2"))


def test_the_program_is_the_one_that_training_runs(step):
    """The table would describe a program that no run executes."""
    e, compiled = step
    over = mesh.layout(jax.devices()[:2], e.sharding)
    batches = [e.batches()[k] for k in range(2)]
    stack = over.place(jax.tree.map(lambda *a: np.stack(a), *map(e.batch, batches)))
    state = jax.device_put(e.initialise(), over.everywhere)
    shapes = programs.state_of(e, over), programs.stack_of(e, over)
    real, abstract = (program(e, over, *args).lower() for args in ((state, stack), shapes))
    assert real.as_text() == abstract.as_text()
    assert compiled.state == bytes_of(state) and compiled.batch == bytes_of(stack)


def test_each_gradient_is_reduced_once_per_step(step):
    """Data parallelism would send gradients twice, or those of one step of several."""
    e, compiled = step
    found = analyse(compiled, target("cpu:2"), sixteen=False)
    assert set(found.kinds) == {"all-reduce"}
    params = sum(a.size for a in jax.tree.leaves(jax.eval_shape(e.parameters)))
    ring = 2 * (2 - 1) / 2
    assert 4 * params * ring <= found.sent < 4 * (params + 64) * ring  # and the metrics
    assert found.items == 16 and compiled.items == 32
    assert found.left is None and found.estimate is None
    assert "none: no data sheet" in str(found) and "all-reduce" in str(found)
    assert found.as_json()["by_kind"]["all-reduce"]["sent"] == found.sent


def test_a_batch_that_does_not_divide_is_refused_before_compiling():
    with pytest.raises(ConfigError, match=r"config\.train\.batch_size=16: needs a multiple of 3"):
        programs.train_step(experiment(), target("cpu:3"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 20.5G of 15.75G hbm.\n\nTotal hbm usage",
            "Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm.",
        ),
        ("RESOURCE_EXHAUSTED: no room", "RESOURCE_EXHAUSTED: no room"),
    ],
)
def test_a_program_that_is_too_large_is_refused_with_the_reason(message, reason):
    """A search for the largest batch would stop with a traceback at the first that does not fit."""

    def refuse(**options):
        raise jax.errors.JaxRuntimeError(message)

    with pytest.raises(programs.TooLarge) as error:
        programs.compiled(SimpleNamespace(compile=refuse), target("cpu:1"))
    assert str(error.value) == reason


def test_the_sampler_counts_all_rows(monkeypatch):
    """A sampler of many rows would seem to take the time of one."""
    e, asked = experiment("sampling.steps=5"), target("cpu:2")
    monkeypatch.setattr(programs, "LONG", 1)  # the program of previews, whose loop has any length
    compiled = programs.sampler(e, asked, 7)
    assert compiled.items == 8 and compiled.unstated == 5
    rows = analyse(compiled, asked, sixteen=False)
    one = analyse(compiled._replace(unstated=1), asked, sixteen=False)
    params = compiled.state
    assert rows.moved - one.moved > 4 * params  # each row reads the parameters
    assert rows.sent < 1e4


@pytest.mark.thorough
def test_the_sampler_is_also_compiled_as_a_whole():
    e = experiment("sampling.steps=5")
    compiled = programs.sampler(e, target("cpu:2"), 7)
    assert analyse(compiled, target("cpu:2"), sixteen=False).items == 8
    with pytest.raises(ConfigError, match="adaptive chooses its steps"):
        programs.sampler(experiment("sampling.sampler=adaptive"), target("cpu:2"), 7)
