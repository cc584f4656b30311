"""The meaning of diffusers' schedulers by class; `tests/parity` compares numbers."""

import itertools
import json
import random
import re

import numpy as np
import pytest
from small_checkpoints import UNET, unet

from diffjax.builder import construct_sde, construct_table
from diffjax.config import ConfigError
from diffjax.io.contents import Contents
from diffjax.published import FAMILIES
from diffjax.published.schedulers import SCHEDULERS, arguments, read

NET = unet()


def sections(name, **config):
    return read({"_class_name": name, **config}).sections


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_class_is_read_by_its_own_defaults_or_refused_by_name(name):
    """A class would be read with the defaults of another, or raise a traceback in sampling."""
    refused = ("PNDM", "KDPM2Ancestral", "DPMSolverSDE", "DPMSolverSinglestep")
    made = read({"_class_name": name}, sampler="ddim" if name.startswith(refused) else "")
    sde = construct_sde(made.sections["sde"], "config.sde")
    table = construct_table(made.sections["sampling"], sde, "config.sampling")
    assert len(table) >= made.sections["sampling"]["steps"] - 1


def test_flows_are_flows():
    """A flow would be read as VP on linear betas that predicts eps."""
    for name in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
        made = sections(name, num_train_timesteps=1000, shift=3.0)
        assert made["sde"]["name"] == "flow" and made["sde"]["schedule"] == {"name": "logit"}
        assert made["parameterization"]["name"] == "velocity"
        assert made["parameterization"]["c_noise"] == "time"  # 1000 sigma
        assert made["sampling"]["grid"] == {"name": "shifted", "shift": 3.0}
        assert "guidance" not in made["sampling"]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_is_edm(prediction):
    """EDM's preconditioning would be read as VP. "v_prediction" is its output with another sign."""
    config = {"sigma_max": 50.0, "sigma_data": 0.7, "prediction_type": prediction}
    made = read({"_class_name": "EDMEulerScheduler", **config})
    assert made.sections["sde"]["schedule"] == {"name": "edm", "sigma_max": 50.0}
    assert made.sections["parameterization"]["sigma_data"] == 0.7
    assert made.sections["parameterization"]["c_noise"] == "quarter_log_sigma"
    assert made.sign == (1 if prediction == "epsilon" else -1)
    contents = Contents(NET, {}, config=UNET, scheduler={"_class_name": "EDMEulerScheduler"})
    plain = FAMILIES["diffusers"].convert(contents).params["Conv_1"]["kernel"]
    contents = contents._replace(scheduler={"_class_name": "EDMEulerScheduler", **config})
    moved = FAMILIES["diffusers"].convert(contents).params["Conv_1"]["kernel"]
    np.testing.assert_array_equal(moved, made.sign * plain)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_clipping_only_where_the_class_has_it(name):
    """Latents would be clipped to [-1, 1] by classes that never clip."""
    defaults = SCHEDULERS[name].defaults
    config = {"_class_name": name, "clip_sample": True, "clip_sample_range": 2.0}
    made = read(config, sampler="" if "clip_sample" in defaults else "ddim").sections["sampling"]
    clips = "clip_sample" in defaults
    threshold = {"weight": 1.0, "threshold": {"name": "static", "bound": 2.0}}
    assert made.get("guidance") == (threshold if clips else None)
    if "clip_sample" in defaults:
        default = read({"_class_name": name}).sections["sampling"]
        assert ("guidance" in default) == (name[:4] in ("DDIM", "DDPM"))


def test_classes_that_are_not_known_are_refused_by_name():
    """The process would silently differ from the published one."""
    for name in ("LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", None, 3, []):
        with pytest.raises(ValueError, match=re.escape(f"_class_name={name!r}: unknown")):
            read({"_class_name": name})
    for name in ("DDPMWuerstchenScheduler", "ScoreSdeVeScheduler", "SCMScheduler"):
        with pytest.raises(ValueError, match=rf"_class_name='{name}': unknown"):
            read({"_class_name": name, "num_train_timesteps": 1000})


def test_defaults_are_those_of_the_class():
    """Betas, spacing or set_alpha_to_one would be wrong where a config omits them."""
    betas = lambda name: sections(name)["sde"]["schedule"]["beta_max"]
    assert (betas("DDIMScheduler"), betas("HeunDiscreteScheduler")) == (0.02, 0.012)
    grid = lambda name, **config: sections(name, **config)["sampling"]["grid"]
    assert grid("DDIMScheduler")["name"] == "leading"
    assert grid("EulerDiscreteScheduler") == {"name": "uniform"}
    assert grid("DPMSolverMultistepScheduler") == {"name": "linspace", "total": 1000, "inner": True}
    assert grid("DEISMultistepScheduler")["to_data"] is False
    offset = {"set_alpha_to_one": False, "steps_offset": 1}
    assert grid("DDIMScheduler", **offset)["to_data"] is False
    assert sections("DDPMScheduler")["sampling"]["steps"] == 1000
    assert sections("DDPMScheduler", predict_epsilon=False)["parameterization"]["name"] == "x0"
    euler = {"timestep_type": "continuous", "prediction_type": "v_prediction"}
    made = sections("EulerDiscreteScheduler", **euler)
    assert made["parameterization"]["c_noise"] == "quarter_log_sigma"


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("PNDMScheduler", {"skip_prk_steps": True}, "skip_prk_steps=True"),
        ("PNDMScheduler", {}, "set_alpha_to_one=False with timestep_spacing='leading'"),
        ("DDIMScheduler", {"set_alpha_to_one": False}, "set_alpha_to_one=False"),
        ("DDIMScheduler", {"thresholding": True, "sample_max_value": 2.0}, "sample_max_value=2.0"),
        ("DDPMScheduler", {"variance_type": "learned"}, "variance_type='learned'"),
        ("KDPM2AncestralDiscreteScheduler", {}, "ancestral step of KDPM2"),
        ("DPMSolverSDEScheduler", {}, "ties the noise"),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
            "solver_type='midpoint'",
        ),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver"},
            "algorithm_type='sde-dpmsolver'",
        ),
        ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -5.1}, "lambda_min_clipped=-5.1"),
        ("DPMSolverSinglestepScheduler", {"solver_order": 3}, "solver_order=3"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "predict_x0=False"),
        (
            "FlowMatchEulerDiscreteScheduler",
            {"use_dynamic_shifting": True},
            "use_dynamic_shifting=True",
        ),
        ("FlowMatchEulerDiscreteScheduler", {"shift_terminal": 0.1}, "shift_terminal=0.1"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "interpolation_type="),
        (
            "EulerDiscreteScheduler",
            {"use_karras_sigmas": True, "timestep_spacing": "leading"},
            "timestep_spacing='leading'",
        ),
        ("EDMEulerScheduler", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type='sigma_min'"),
    ],
)
def test_options_of_sampling_without_a_counterpart_are_refused_by_name(name, config, message):
    """Samples would silently come from another method; the user may choose another sampler."""
    config = {"_class_name": name, **config}
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        read(config)
    assert "set sampler to one of diffjax" in str(refused.value)
    made = read(config, sampler="dpmpp_2m")
    assert made.sections["sampling"]["sampler"] == {"name": "dpmpp_2m"}
    assert message in made.notes[0]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("DDIMScheduler", {"beta_schedule": "sigmoid"}, "beta_schedule='sigmoid'; known: linear"),
        ("DDIMScheduler", {"num_train_timesteps": "9"}, "num_train_timesteps='9'; needs a whole"),
        ("DDIMScheduler", {"num_train_timesteps": True}, "num_train_timesteps=True; needs a whole"),
        ("DDIMScheduler", {"trained_betas": [0.1, 0.2]}, "trained_betas holds 2 values"),
        ("DDIMScheduler", {"clip_sample": 1}, "clip_sample=1; needs true or false"),
        ("DDIMScheduler", {"future_option": 1}, "future_option=1 is not supported"),
        ("DDIMScheduler", {"prediction_type": "flow_prediction"}, "prediction_type='flow_predict"),
        ("FlowMatchEulerDiscreteScheduler", {"shift": -1.0}, "shift=-1.0; needs a positive"),
        ("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 500}, "; a flow needs 1000"),
        ("EDMEulerScheduler", {"sigma_min": None}, "sigma_min=None; needs a number"),
        ("EDMEulerScheduler", {"sigma_min": 90.0}, "needs 0 < min < max"),
        (
            "DPMSolverMultistepScheduler",
            {"use_flow_sigmas": True},
            "prediction_type='epsilon' with use_flow_sigmas=True",
        ),
    ],
)
def test_values_that_are_not_known_are_refused(name, config, message):
    """A traceback would appear, or a process nobody trained; another sampler does not help here."""
    for sampler in ("", "ddim"):
        with pytest.raises(ValueError, match=re.escape(message)):
            read({"_class_name": name, **config}, sampler=sampler)


def test_fields_of_other_classes_say_nothing():
    """Fields that diffusers keeps when the scheduler of a pipeline changes would have an effect."""
    left = {"clip_sample": True, "set_alpha_to_one": False, "skip_prk_steps": True}
    left |= {"original_inference_steps": 50, "_use_default_values": ["x"]}
    plain = sections("DPMSolverMultistepScheduler")
    assert sections("DPMSolverMultistepScheduler", **left) == plain


def test_a_learned_variance_needs_the_second_output():
    """The sampler would need an output that the network does not have."""
    scheduler = {"_class_name": "DDPMScheduler", "variance_type": "learned_range"}
    contents = Contents(NET, {}, config=UNET, scheduler=scheduler)
    with pytest.raises(ValueError, match="variance_type='learned_range' with out_channels=3"):
        FAMILIES["diffusers"].convert(contents)


ODD = (None, True, False, 0, 1, -1, 3, 1e9, 0.5, -0.5, float("nan"), float("inf"), "", "x", [], {})
ODD += ([1], ["x"], [None], {"a": 1})


@pytest.mark.thorough
@pytest.mark.parametrize("name", SCHEDULERS)
def test_odd_configs_end_in_one_line(name):
    """A damaged or edited config would raise a traceback.

    The cases are any value for any field, and pairs of fields.
    """
    defaults, draw = SCHEDULERS[name].defaults, random.Random(0)
    single = [{field: value} for field in defaults for value in ODD]
    words = {v for entry in SCHEDULERS.values() for v in entry.defaults.values() if type(v) is str}
    single += [{field: word} for field in defaults for word in words]
    pairs = [draw.choice(single) | draw.choice(single) for _ in range(300)]
    lines, named = [], True
    for config in itertools.chain(single, pairs):
        try:
            made = read({"_class_name": name, **json.loads(json.dumps(config))}).sections
            sde = construct_sde(made["sde"], "config.sde")
            construct_table(made["sampling"], sde, "config.sampling")
        except ValueError as error:
            lines.append(str(error))
            named &= isinstance(error, ConfigError) or "scheduler_config.json: " in str(error)
    assert named and not any("\n" in line for line in lines), lines
    assert arguments({}, defaults) == dict(defaults)
