"""Training and sampling from Python: results as by the commands, with errors as clear."""

import signal
import sys
import time

import chex
import numpy as np
import pytest

import diffjax
from diffjax import sample
from diffjax.config import ConfigError, Stopped
from diffjax.training import loop
from diffjax.training.signals import Signals


class Pressed(Signals):
    """Imitate the stop button of a notebook, pressed in the first steps."""

    def __init__(self):
        self.asked = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def received(self):
        self.asked += 1
        return signal.SIGINT if self.asked > 2 else None


@pytest.fixture(scope="module")
def trained(toy):
    return diffjax.load(toy)


@pytest.mark.thorough
def test_an_interrupted_fit_saves_and_the_same_call_resumes(toy, tmp_path, monkeypatch):
    """A notebook would lose its training, or obtain another network.

    It is compared with a fit of this module: `toy` may be compiled with optimizations.
    """
    fit = lambda name: diffjax.fit(toy.parent / "mine.py", tmp_path / name, "train.log_every=1")
    train = lambda: fit("run")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Signals", Pressed)
        with pytest.raises(Stopped, match=r"SIGINT: saved at step [123]; the same") as at:
            train()
    assert isinstance(at.value, KeyboardInterrupt) and at.value.signal is signal.SIGINT
    assert 0 < at.value.step < 4 and diffjax.load(tmp_path / "run").step == at.value.step
    made, whole = train(), fit("whole")
    assert made.step == whole.step == 4
    chex.assert_trees_all_equal(made.denoise.params, whole.denoise.params)
    assert train().step == 4  # a second call has nothing left to do


def test_fit_refuses_what_the_command_refuses(toy, tmp_path):
    """A typing error would train something else."""
    with pytest.raises(ConfigError, match=r"config.train.step: no such field .*'steps'"):
        diffjax.fit(toy.parent / "mine.py", tmp_path, "train.step=7")
    with pytest.raises(ConfigError, match="no such file"):
        diffjax.fit("digit_vp", tmp_path)
    with pytest.raises(ConfigError, match=r"holds a run of another config: .*network.width"):
        diffjax.fit(toy.parent / "mine.py", toy, "network.width=8")


def test_samples_are_those_of_the_command(toy, trained, tmp_path, monkeypatch):
    """A notebook would show other samples than `python -m diffjax.sample` makes."""
    out = tmp_path / "a.npz"
    flags = [f"--workdir={toy}", "--num=5", "--sampler=ddim:eta=0.5", "--steps=3", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", ["sample.py", *flags])
    assert sample.run() == 0
    made = trained.sample(5, sampler="ddim:eta=0.5", steps=3)
    with np.load(out) as stored:
        np.testing.assert_array_equal(made.x, stored["arr_0"])
    path = trained.job(sampler="ddim:eta=0.5", steps=3).path(5)
    assert path.x.shape == path.x0.shape == (3, 5, 2) and len(path.t) == 3
    np.testing.assert_allclose(path.x[-1], made.x, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"sampler": "heunn"},
            "config.sampling.sampler.name='heunn': unknown .did you mean 'heun'",
        ),
        ({"sampler": "ddim:et=1"}, "config.sampling.sampler.et: no such field"),
        ({"step": 3}, "config.sampling.step: no such field .did you mean 'steps'"),
        ({"ema": "raw"}, r"load\(ema=...\)"),
        ({"label": 3}, "--label=3: no such class; known: none"),
        ({"seed": -1}, "--seed: seed=-1: needs 0 <= seed < 2..32"),
        ({"seed": [1, 2.5]}, "--seed=.1, 2.5.: needs one integer, or several"),
        ({"index": []}, "--index=..: needs one integer, or several"),
        ({"weight": 2.0}, "config.sampling.guidance: the network is unconditional"),
        ({"weight": "much"}, "--weight=much: needs one finite number"),
        ({"weight": 2.0, "guidance": 3.0}, "--weight=2.0: --guidance=3.0 sets a weight"),
        ({"guidance": {"rule": "apgg"}}, "config.sampling.guidance.rule.name='apgg'"),
    ],
)
def test_a_wrong_sampling_is_refused_in_one_line(trained, how, said):
    """The reader would see a traceback from the middle of the compiler."""
    with pytest.raises(ConfigError, match=said) as refused:
        trained.job(**how)
    assert refused.value._render_traceback_() == [f"ConfigError: {refused.value}"]


def test_steps_of_their_own_have_no_path(trained):
    with pytest.raises(ValueError, match="adaptive steps differ between samples"):
        trained.job(sampler="adaptive").path(2)


def test_a_second_interrupt_leaves_a_notebook_alive(monkeypatch):
    """The kernel would exit, and all variables be lost."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        while signals.received is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert signals.received is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def objects(trained):
    from diffjax import analytic, grids, samplers

    experiment, sde = trained.experiment, trained.sde
    yield from (trained, experiment, experiment.model, trained.denoise, experiment.plan(sde))
    yield from (experiment.source("train"), trained.job(), experiment.model.network, sde)
    yield from (*samplers.SAMPLERS.values(), samplers.ddim(sde, grids.uniform(sde, 3)))
    yield analytic.Mixture(np.ones(3) / 3, np.zeros((3, 2)), np.ones((3, 2)))


def test_objects_are_readable(trained):
    """A notebook would print pages of numbers and addresses."""
    for found in objects(trained):
        text = repr(found)
        assert len(text) < 400 and "\n" not in text, text
        assert " at 0x" not in text and "array(" not in text, text
