"""Conditions that a request names and a run does not have."""

import pytest
from test_kinds_of_data import DIT, archive, config

from diffjax import builder
from diffjax.config import ConfigError
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
