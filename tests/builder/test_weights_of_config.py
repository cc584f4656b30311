"""Plans for samples with guidance weights of their own."""

import numpy as np
import pytest

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data.form import Form
from diffjax.guidance import Conditional, Guided
from diffjax.schedules import Linear
from diffjax.sde import VP
from diffjax.specs import Spec

SDE = VP(Linear())


def plan(classes=10, sampler="ddim", per_sample=True, **guidance):
    spec = {"sampler": {"name": sampler}, "steps": 6, "guidance": guidance or 1.0}
    label = (Spec("label", "label", classes),) if classes else ()
    form = Form("image", (8, 8, 1), label, "uint8")
    return builder.plan(spec, SDE, form, per_sample=per_sample)


def test_a_plan_for_weights_of_samples_guides():
    """A weight of 1 in the config would switch guidance off for samples with other weights.

    The ramp and the interval of the config would be lost as well.
    """
    assert plan(per_sample=False).guidance == Conditional()
    assert plan().guidance == Guided() and plan(sampler="adaptive").guidance == Guided()
    assert plan().passes == 6  # no sample is guided yet
    for fields in ({"ramp": "cosine"}, {"interval": (0.1, 2.0)}, {"ramp": "linear"}):
        made = plan(**fields).weighted(np.array([1.0, 3.0, -0.5]))
        for k, weight in enumerate((1.0, 3.0, -0.5)):
            alone = plan(per_sample=False, weight=weight, **fields)
            np.testing.assert_array_equal(made.table.weight[:, k], alone.table.weight)
    many = plan(sampler="adaptive").weighted(np.array([1.0, 3.0]))
    np.testing.assert_array_equal(many.weight, [1.0, 3.0])


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"weight": [1.0, 2.0]}, "guidance.weight=.*each sample has its own weight; allowed: a"),
        ({"classes": 0}, "config.sampling.guidance: the network is unconditional"),
        ({"sampler": "adaptive", "ramp": "linear"}, "ramp='linear': applies to rows"),
    ],
)
def test_what_samples_cannot_bring_is_refused(fields, line):
    with pytest.raises(ConfigError, match=line):
        plan(**fields)
