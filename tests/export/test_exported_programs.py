"""Exported programs: equal to the network and its samples, in a process without diffjax."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ended, one_device
from redrawn import redrawn

import diffjax
from diffjax import builder, config
from diffjax.export import checking, described, program, stablehlo, standalone

TINY = ("network={'name': 'dit', 'width': 16, 'depth': 2, 'heads': 2}", "sampling.steps=3")
BLOCKED = """
import sys
sys.modules["diffjax"] = sys.modules["flax"] = None  # importing them is an ImportError
sys.argv = ["run.py", "--num=3", "--set", "label=1", "--set", "guidance=2", "--out=samples.npz"]
import runpy
runpy.run_path("run.py", run_name="__main__")
"""


@pytest.fixture(autouse=True, scope="module")
def one():
    with one_device():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """An export by `Trained.save` of a network whose samples depend on all its parameters."""
    experiment = builder.experiment(config.override(config.load("digits_vp"), TINY))
    redrawn(experiment).save(folder := tmp_path_factory.mktemp("export") / "run")
    return folder


@pytest.fixture(scope="module")
def sampler(run, tmp_path_factory) -> Path:
    """The folder of its exported sampler, guided."""
    out = tmp_path_factory.mktemp("export") / "sampler"
    with pytest.MonkeyPatch.context() as patch:
        flags = [f"--workdir={run}", f"--out={out}", "--guidance=2", "--platforms=cpu,cuda,tpu"]
        assert ended(patch, "tools.export", *flags) == 0
    return out


def test_a_sampler_runs_without_diffjax(sampler, run):
    """Users of the export would need diffjax, or get other samples."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=sampler, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    theirs = np.load(sampler / "samples.npz")["x"]
    trained = diffjax.load(run, {"guidance": 2.0})
    job = trained.job(label=1)
    ours = trained.experiment.form.denormalise(theirs)
    np.testing.assert_allclose(ours, job.samples(3).x, atol=1)  # stored as uint8
    unguided = trained.experiment.form.denormalise(
        standalone.load(sampler)(**inputs(sampler, {"guidance": 1.0, "label": 1}))["x"]
    )
    plain = diffjax.load(run, {"guidance": 1.0}).job(label=1).samples(3).x
    np.testing.assert_allclose(unguided, plain, atol=1)
    assert np.abs(unguided.astype(int) - ours).max() > 5


def inputs(folder: Path, given: dict) -> dict:
    return standalone.inputs(json.loads((folder / "export.json").read_text()), 3, 0, given)


def test_one_file_runs_on_cpu_cuda_and_tpu_for_any_batch(sampler):
    """The file would be of use on the machine that wrote it alone."""
    from jax import export

    exported = export.deserialize(bytearray((sampler / standalone.PROGRAM).read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    about = json.loads((sampler / "export.json").read_text())
    assert about["inputs"]["label"]["shape"] == ["b"] == about["inputs"]["seed"]["shape"]
    seven = standalone.inputs(about, 7, 0, {})
    x = standalone.load(sampler)(**seven)["x"]
    three = standalone.load(sampler)(**{k: v[4:] for k, v in seven.items()})["x"]
    np.testing.assert_allclose(x[4:], three, atol=1e-5)  # sample k does not depend on its batch


def test_a_network_predicts_the_clean_item_and_the_noise(run, tmp_path):
    """Another code base could not sample with the exported network."""
    trained = diffjax.load(run)
    exported = program("network", trained.job())
    stablehlo.write(exported, tmp_path, batch=2, platforms=["cpu"])
    given = exported.example(2)
    theirs = stablehlo.run(tmp_path, given)
    p = trained.denoise(given["x"], given["t"], {"label": given["label"]})
    found = checking.differences({"x0": p.x0, "eps": p.eps}, theirs)
    checking.check(found, 1e-5, "here")
    assert min(each.scale for each in found.values()) > 0.5
    sde = trained.sde
    back = sde.perturb(theirs["x0"], theirs["eps"], given["t"])
    np.testing.assert_allclose(back, given["x"], atol=1e-4)  # the two views of one prediction
    about = described(exported, given, 2)
    assert about["inputs"]["x"]["shape"] == [2, 8, 8, 1] and about["outputs"].keys() == {
        "x0",
        "eps",
    }


def test_weights_are_read_by_diffjax(sampler, run):
    """The weights of an export would have other names than those of the run."""
    ours, theirs = (diffjax.load(folder).denoise.params["network"] for folder in (run, sampler))
    np.testing.assert_array_equal(ours["patches"]["kernel"], theirs["patches"]["kernel"])
