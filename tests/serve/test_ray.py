"""Samples on a Ray cluster of two workers, one of which is killed."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from redrawn import redrawn

from diffjax import builder, config
from diffjax.config import ConfigError
from diffjax.serve.ray import Sampler

HERE = importlib.util.find_spec("ray") is not None


def test_workers_of_a_data_set_give_the_samples_of_an_engine(tmp_path):
    """A sample would depend on the batch, or on the worker, that it came with."""
    e = builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    trained = redrawn(e)
    trained.save(tmp_path / "run")
    sampler = Sampler(str(tmp_path / "run"), slots=2, steps=3, label=1)
    found = [sampler({"id": np.array(numbers)}) for numbers in ([4, 0, 2], [2, 1])]
    assert [*found[0]["id"]] == [4, 0, 2] and np.array_equal(found[0]["x"][2], found[1]["x"][0])
    alone = trained.job(steps=3, label=1, index=[4, 0, 2]).samples(3).x
    assert np.allclose(found[0]["x"], alone, atol=2e-5)
    sampler.engine.close()


@pytest.mark.thorough
@pytest.mark.skipif(not HERE, reason="needs the extra `ray`")
def test_a_killed_worker_loses_nothing_and_repeats_nothing(tmp_path):
    """A data set would lack samples or hold some twice, or a user get another image."""
    line = [sys.executable, "-m", "experiments.faults.cluster", f"--out={tmp_path / 'x.json'}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["data"]["workers"] > 2 and found["data"]["batches begun again"] > 0


@pytest.mark.skipif(not HERE, reason="needs the extra `ray`")
def test_settings_of_the_service_are_refused_by_name():
    """A typing error would deploy another server than the one that was meant."""
    from diffjax.serve.ray import service

    with pytest.raises(ConfigError, match="slot: no such setting; known: workdir, replicas"):
        service({"workdir": "runs/digits", "slot": "8"})
    with pytest.raises(ConfigError, match="workdir: is missing"):
        service({})
