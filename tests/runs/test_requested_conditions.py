"""Conditions that a request names and a run does not have."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_kinds_of_data import DIT, archive, config

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data.form import labelled
from diffjax.runs.requests import requested


def test_a_condition_that_was_never_trained_is_refused(tmp_path):
    """Samples would depend on a layer at its initial values, or the message name a wrong reason."""
    network = {**DIT, "conditions": {"text": {"kind": "tokens", "size": 4}}}
    experiment = builder.experiment(config(archive(tmp_path, (4, 4, 3)), network, kind="latent"))
    for name, why in (
        ("text", "the data set of the run has no such condition"),
        ("caption", "the network has no such condition"),
    ):
        with pytest.raises(ConfigError, match=f"--cond={name}: {why}; known: none"):
            requested(experiment, None, {name: [[1, 2, 3, 4]]})


@pytest.mark.parametrize(
    ("numbers", "labels"),
    [
        ({}, [0, 1, 2]),
        ({"index": (17,)}, [2]),
        ({"index": (5, 3)}, [2, 0]),
        ({"seeds": 2}, [0, 0, 1, 1, 2, 2]),
        ({"index": (4, 0), "seeds": 2}, [1, 0]),
    ],
)
def test_a_sample_has_the_default_label_of_its_number(numbers, labels):
    """`--index=17 --weight=1,2,4` would draw three classes, and `--seed=1,2` other samples."""
    form = labelled("image", (2, 2, 1), classes=3)
    experiment: Any = SimpleNamespace(form=form, defaults={"label": np.arange(3)}, config={})
    assert requested(experiment, None, {}, **numbers)["label"].tolist() == labels
    assert requested(experiment, 1, {}, **numbers)["label"].tolist() == [1]
