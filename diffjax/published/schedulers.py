"""Schedulers of diffusers: the process, the prediction and the sampling of each class.

A config names a class and its arguments; an argument that it leaves out has the default of that
class. Arguments of other classes, which diffusers keeps in a config, are ignored. An option of
sampling without a counterpart here is refused by name, unless another sampler is requested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from diffjax.config import nearest
from diffjax.published import scheduling as s
from diffjax.published import spacing as g
from diffjax.published.scheduling import FILE, Fields, Process, Spec


class Scheduled(NamedTuple):
    """The sections of a config that a scheduler implies.

    sections: sde, parameterization and sampling. notes: one line for each difference from the
    original. sign: the sign of the network's output relative to our parameterization.
    """

    sections: dict[str, Spec]
    notes: list[str]
    sign: int = 1


@dataclass(frozen=True)
class Scheduler:
    """A class of schedulers.

    defaults: those of its arguments. process: computed from the arguments. sampler, grid: computed
    from the arguments and the number of steps; they raise ValueError for options without a
    counterpart. steps: the default number of steps; 0 stands for all.
    """

    defaults: Fields
    process: Callable[[Fields], Process]
    sampler: Callable[[Fields, int], Spec]
    grid: Callable[[Fields, int], Spec]
    steps: int = 50


def read(config: Fields, steps: int = 0, sampler: str = "") -> Scheduled:
    """Read the config of a scheduler.

    steps: number of steps of the sampler, by default that of the scheduler's pipelines. sampler:
    one of our samplers, in place of that of the class; options of sampling without a counterpart
    are then left out. Raises ValueError for classes, options and values that are not known.
    """
    name = config.get("_class_name")
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise ValueError(f"{FILE}: _class_name={name!r}: unknown{nearest(name, SCHEDULERS)}")
    entry = SCHEDULERS[name]
    have = arguments(config, entry.defaults)
    process = entry.process(have)
    total = have["num_train_timesteps"]
    steps = steps or min(entry.steps or total, total)
    try:
        sampling: Spec = {
            "sampler": entry.sampler(have, steps),
            "grid": entry.grid(have, steps),
            "steps": steps,
        }
        threshold, notes = s.clipping(have), differences(name, have)
    except ValueError as error:
        if not sampler:
            raise ValueError(
                f"{error}; to use another sampler, set sampler to one of diffjax, such as ddim"
            ) from error
        threshold, notes = None, [f"{error}: {sampler} is used instead"]
        sampling = {"grid": g.plain(have, process), "steps": steps}
    if sampler:
        sampling["sampler"] = {"name": sampler}
    if threshold:
        sampling["guidance"] = {"weight": 1.0, "threshold": threshold}
    sections = {"sde": process.sde, "parameterization": process.parameterization}
    return Scheduled(sections | {"sampling": sampling}, notes, process.sign)


def arguments(config: Fields, defaults: Fields) -> Spec:
    """Return all arguments of a class, with their defaults.

    Raises ValueError for an argument that no class has, and for a value of another type than its
    default.
    """
    everywhere = {name for entry in SCHEDULERS.values() for name in entry.defaults} | UNUSED
    if unknown := [k for k in config if not k.startswith("_") and k not in everywhere]:
        raise ValueError(f"{FILE}: {unknown[0]}={config[unknown[0]]!r} is not supported")
    if config.get("predict_epsilon") is False:  # configs before 2023
        config = {"prediction_type": "sample", **config}
    have = {name: config.get(name, default) for name, default in defaults.items()}
    for name, value in have.items():
        kind = type(defaults[name]) if defaults[name] is not None else KINDS[name]
        if not fits(value, kind):
            raise ValueError(f"{FILE}: {name}={value!r}; needs {WORDS[kind]}")
    return have


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of this type.

    An integer is also a float, a bool is not a number, and a number is finite, or -inf, which means
    no bound.
    """
    if kind is object or isinstance(value, bool):
        return kind in (bool, object)
    if isinstance(value, float) and not math.isfinite(value) and value != -math.inf:
        return False
    return isinstance(value, int | float if kind is float else kind)


def differences(name: str, have: Fields) -> list[str]:
    """Return notes on what the classes with tables of betas do differently from our samplers."""
    ddim, notes = name.startswith("DDIM"), []
    if ddim and (have["clip_sample"] or have["thresholding"]):
        notes.append(
            "diffusers clips only x0 unless use_clipped_model_output is set; here eps follows"
        )
    if ddim and have["timestep_spacing"] == "linspace":
        notes.append(
            "linspace: diffusers steps by T // steps from each time, here to the next time"
        )
    if name == "PNDMScheduler" and have["set_alpha_to_one"]:
        notes.append("the last step of diffusers extrapolates eps to the data; here it returns x0")
    if have.get("use_karras_sigmas") and name in ROUNDED:
        notes.append("diffusers rounds the noise labels to whole indices; here they are exact")
    return notes


ROUNDED = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "KDPM2DiscreteScheduler",
)

# The defaults of each class.

TABLE: Fields = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}
LEADING: Fields = TABLE | {"timestep_spacing": "leading"}
LINSPACE: Fields = TABLE | {"timestep_spacing": "linspace"}
LATENT: Fields = LINSPACE | {"beta_start": 0.00085, "beta_end": 0.012}
ZERO_SNR: Fields = {"rescale_betas_zero_snr": False}
THRESHOLD: Fields = {
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
}
CLIP: Fields = {"clip_sample": True, "clip_sample_range": 1.0}
LEVELS: Fields = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
FINAL: Fields = {"final_sigmas_type": "zero"}
SOLVER: Fields = {
    **LINSPACE,
    **THRESHOLD,
    **LEVELS,
    "solver_order": 2,
    "lower_order_final": True,
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
DPM: Fields = {
    **SOLVER,
    **FINAL,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "lambda_min_clipped": -math.inf,
    "variance_type": None,
}
DDIM: Fields = LEADING | CLIP | THRESHOLD | ZERO_SNR | {"set_alpha_to_one": True}
DDPM: Fields = LEADING | CLIP | THRESHOLD | ZERO_SNR | {"variance_type": "fixed_small"}
EULER: Fields = {
    **LINSPACE,
    **LEVELS,
    **ZERO_SNR,
    **FINAL,
    "interpolation_type": "linear",
    "sigma_min": None,
    "sigma_max": None,
    "timestep_type": "discrete",
}
EDM: Fields = {
    **FINAL,
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
}
EDM_DPM: Fields = {
    **EDM,
    **THRESHOLD,
    "solver_order": 2,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "lower_order_final": True,
    "euler_at_final": False,
}
FLOW: Fields = {"num_train_timesteps": 1000, "shift": 1.0}
FLOW_EULER: Fields = {
    **FLOW,
    **LEVELS,
    "use_dynamic_shifting": False,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
    "invert_sigmas": False,
    "shift_terminal": None,
    "time_shift_type": "exponential",
    "stochastic_sampling": False,
}
PNDM: Fields = LEADING | {"skip_prk_steps": False, "set_alpha_to_one": False}
UNIPC: Fields = {
    **SOLVER,
    **FINAL,
    **ZERO_SNR,
    "predict_x0": True,
    "solver_type": "bh2",
    "disable_corrector": [],
    "solver_p": None,
    "sigma_min": None,
    "sigma_max": None,
    "shift_terminal": None,
}
SDE: Fields = LATENT | LEVELS | {"noise_sampler_seed": None}
HEUN: Fields = LATENT | LEVELS | CLIP | {"clip_sample": False}
MULTISTEP: Fields = DPM | ZERO_SNR | {"euler_at_final": False, "use_lu_lambdas": False}
SINGLESTEP: Fields = DPM | {"lower_order_final": False}
DEIS: Fields = SOLVER | {"algorithm_type": "deis", "solver_type": "logrho"}
ANCESTRAL = "the second-order ancestral step of KDPM2 has no counterpart in diffjax"
TIED = "DPMSolverSDE ties the noise of both stages in sigma, dpmpp_sde here in log-SNR"
SCHEDULERS: Mapping[str, Scheduler] = {
    "DDIMScheduler": Scheduler(DDIM, s.table, s.named("ddim"), g.indices),
    "DDIMParallelScheduler": Scheduler(DDIM, s.table, s.named("ddim"), g.indices),
    "DDPMScheduler": Scheduler(DDPM, s.table, s.ddpm, g.indices, steps=0),
    "DDPMParallelScheduler": Scheduler(DDPM, s.table, s.ddpm, g.indices, steps=0),
    "PNDMScheduler": Scheduler(PNDM, s.table, s.pndm, g.indices),
    "LMSDiscreteScheduler": Scheduler(LINSPACE | LEVELS, s.table, s.named("lms"), g.fractions),
    "EulerDiscreteScheduler": Scheduler(EULER, s.table, s.named("ddim"), g.fractions),
    "EulerAncestralDiscreteScheduler": Scheduler(
        LINSPACE | ZERO_SNR, s.table, s.named("ancestral"), g.fractions
    ),
    "HeunDiscreteScheduler": Scheduler(HEUN, s.table, s.named("heun"), g.fractions),
    "KDPM2DiscreteScheduler": Scheduler(
        LATENT | LEVELS, s.table, s.named("dpm_solver_2"), g.fractions
    ),
    "KDPM2AncestralDiscreteScheduler": Scheduler(
        LATENT | LEVELS, s.table, s.none(ANCESTRAL), g.fractions
    ),
    "DPMSolverSDEScheduler": Scheduler(SDE, s.table, s.none(TIED), g.fractions),
    "DPMSolverMultistepScheduler": Scheduler(MULTISTEP, s.table, s.multistep, g.inner),
    "DPMSolverSinglestepScheduler": Scheduler(SINGLESTEP, s.table, s.singlestep, g.inner_linspace),
    "DEISMultistepScheduler": Scheduler(DEIS, s.table, s.deis, g.first_level),
    "UniPCMultistepScheduler": Scheduler(UNIPC, s.table, s.unipc, g.inner),
    "EDMEulerScheduler": Scheduler(EDM, s.edm, s.named("ddim"), g.edm_levels),
    "EDMDPMSolverMultistepScheduler": Scheduler(EDM_DPM, s.edm, s.multistep, g.edm_levels),
    "FlowMatchEulerDiscreteScheduler": Scheduler(FLOW_EULER, s.flow, s.flow_euler, g.shifted),
    "FlowMatchHeunDiscreteScheduler": Scheduler(FLOW, s.flow, s.named("heun_t"), g.shifted),
}
UNUSED = {
    *("original_inference_steps", "timestep_scaling", "snr", "sampling_eps", "correct_steps"),
    *("s_noise", "clip_denoised", "predictor_order", "corrector_order", "tau_func", "eta"),
    *("snr_shift_scale", "tensor_format", "timestep_values", "predict_epsilon", "scale_factors"),
    *("upscale_mode", "scaler", "s"),
}
"""Arguments of other classes, which stay in a config when the scheduler of a pipeline is
replaced."""
KINDS: dict[str, Any] = {
    "trained_betas": list | None,
    "variance_type": str | None,
    "sigma_min": int | float | None,
    "sigma_max": int | float | None,
    "shift_terminal": int | float | None,
    "noise_sampler_seed": object,
    "solver_p": object,
}
WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}
WORDS |= {str: "text", list: "a list", list | None: "a list, or null"}
WORDS |= {int | float | None: "a number, or null", str | None: "text, or null"}
