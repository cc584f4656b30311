"""Processes, samplers and thresholds for the arguments of diffusers' schedulers.

Each function reads the arguments of a class with its defaults, and raises ValueError for values
that are not known or have no counterpart here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

FILE = "scheduler_config.json"
Fields = Mapping[str, Any]
"""Arguments of a scheduler, with the defaults of its class."""
Spec = dict[str, Any]
"""An entry of a catalogue and its settings, as a config has it."""


class Process(NamedTuple):
    """The noising process, the parameterization, and the sign of the network's output."""

    sde: Spec
    parameterization: Spec
    sign: int = 1


def only(have: Fields, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ValueError for the first option whose value has no counterpart here."""
    for name, values in allowed.items():
        if have[name] not in values:
            known = ", ".join(map(repr, values))
            raise ValueError(
                f"{FILE}: {name}={have[name]!r} has no counterpart in diffjax; known: {known}"
            )


# Processes.

BETAS = {"linear": "ddpm_linear", "scaled_linear": "ddpm_scaled_linear"}
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def table(have: Fields) -> Process:
    """Return VP with a table of betas, whose index is the noise label."""
    flows = "use_flow_sigmas" in have
    if flows and (have["use_flow_sigmas"] or have["prediction_type"] == "flow_prediction"):
        return flow(have)
    total, kind = have["num_train_timesteps"], have["prediction_type"]
    if kind not in PREDICTIONS:
        known = ", ".join(PREDICTIONS)
        raise ValueError(f"{FILE}: prediction_type={kind!r}; known: {known}")
    schedule = betas(have, total)
    if have.get("rescale_betas_zero_snr"):
        schedule = {"name": "zero_terminal", "schedule": schedule}
    continuous = have.get("timestep_type") == "continuous" and kind == "v_prediction"
    label = "quarter_log_sigma" if continuous else "index"
    return Process(
        {"name": "vp", "t_min": 1 / total, "schedule": schedule},
        {"name": PREDICTIONS[kind], "c_noise": label, "scale_input": False},
    )


def betas(have: Fields, total: int) -> Spec:
    """Return the schedule of the table of betas."""
    kind, trained = have["beta_schedule"], have["trained_betas"]
    if total < 2:
        raise ValueError(f"{FILE}: num_train_timesteps={total}; needs at least 2")
    if trained is not None:
        numbers = all(isinstance(b, int | float) and 0 < b <= 1 for b in trained)
        if not numbers or len(trained) != total:
            raise ValueError(
                f"{FILE}: trained_betas holds {len(trained)} values; needs {total} numbers "
                f"between 0 and 1, as num_train_timesteps"
            )
        return {"name": "discrete", "betas": [float(b) for b in trained]}
    low, high = have["beta_start"], have["beta_end"]
    if kind in BETAS and not (0 < low < 1 and 0 < high < 1):
        raise ValueError(f"{FILE}: beta_start={low}, beta_end={high}; needs both between 0 and 1")
    if kind in BETAS:
        ends = {"beta_min": float(low), "beta_max": float(high)}
        return {"name": BETAS[kind], "steps": total, **ends}
    if kind == "squaredcos_cap_v2":
        return {"name": "ddpm_cosine", "steps": total}
    known = ", ".join([*BETAS, "squaredcos_cap_v2"])
    raise ValueError(f"{FILE}: beta_schedule={kind!r}; known: {known}")


def flow(have: Fields) -> Process:
    """Return the straight path with its velocity, eps - x0, and 1000 sigma as noise label.

    The shift changes the grid only: the network receives the time on the path without shift.
    """
    total, kind = have["num_train_timesteps"], have.get("prediction_type", "flow_prediction")
    if kind != "flow_prediction" or not have.get("use_flow_sigmas", True):
        raise ValueError(
            f"{FILE}: prediction_type={kind!r} with use_flow_sigmas={have['use_flow_sigmas']}; "
            f"needs flow_prediction with use_flow_sigmas=True, or neither"
        )
    if total != 1000:
        raise ValueError(f"{FILE}: num_train_timesteps={total}; a flow needs 1000")
    low, high = flow_ends(have)
    return Process(
        {"name": "flow", "t_min": low, "t_max": high, "schedule": {"name": "logit"}},
        {"name": "velocity", "c_noise": "time", "scale_input": False},
    )


def moved(shift: float, u: float) -> float:
    """Return u in [0, 1] after the shift of a flow."""
    return shift * u / (1 + (shift - 1) * u)


def flow_ends(have: Fields) -> tuple[float, float]:
    """Return the lowest and the highest sigma.

    The classes for flows shift their lowest sigma twice.
    """
    name = "flow_shift" if "flow_shift" in have else "shift"
    shift = have[name]
    if not 0 < shift < math.inf:
        raise ValueError(f"{FILE}: {name}={shift}; needs a positive number")
    if name == "shift":
        return moved(shift, moved(shift, 1e-3)), 1.0
    if "predict_x0" in have:  # UniPC
        return moved(shift, 1e-3), 1 - 1e-6
    return 1e-6, moved(shift, 1 - 1e-3)


def edm(have: Fields) -> Process:
    """Return EDM's preconditioning (arXiv:2206.00364).

    The type "v_prediction" is the output of EDM with the opposite sign.
    """
    low, high, kind = have["sigma_min"], have["sigma_max"], have["prediction_type"]
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(f"{FILE}: prediction_type={kind!r}; known: epsilon, v_prediction")
    if not 0 < low < high < math.inf:
        raise ValueError(f"{FILE}: sigma_min={low} and sigma_max={high}; needs 0 < min < max < inf")
    data = {"sigma_data": float(have["sigma_data"]), "c_noise": "quarter_log_sigma"}
    return Process(
        {"name": "ve", "t_min": low / high, "schedule": {"name": "edm", "sigma_max": float(high)}},
        {"name": "edm", **data},
        1 if kind == "epsilon" else -1,
    )


# Samplers.


def named(name: str, **settings: Any) -> Callable[[Fields, int], Spec]:
    """Return a sampler without dependence on the arguments."""
    return lambda have, steps: {"name": name, **settings}


def ddpm(have: Fields, steps: int) -> Spec:
    """Return the ancestral sampler with the variance of the config."""
    only(have, {"variance_type": tuple(VARIANCES)})
    return {"name": VARIANCES[have["variance_type"]]}


VARIANCES = {
    "fixed_small": "ancestral",
    "fixed_small_log": "ancestral",
    "fixed_large": "ancestral_upper",
    "learned_range": "ancestral_learned",
}


def pndm(have: Fields, steps: int) -> Spec:
    """Return the sampler of PNDM."""
    only(have, {"skip_prk_steps": (False,)})  # True is PLMS
    return {"name": "pndm"}


def none(why: str) -> Callable[[Fields, int], Spec]:
    """Return the sampler of a class whose process is known and whose sampler has no counterpart."""

    def sampler(have: Fields, steps: int) -> Spec:
        raise ValueError(f"{FILE}: {why}")

    return sampler


def lowered(have: Fields, steps: int) -> int:
    """Return whether the last step to a noise level is of order 1, as 0 or 1."""
    return int((have["lower_order_final"] and steps < 15) or have.get("euler_at_final", False))


def multistep(have: Fields, steps: int) -> Spec:
    """Return the sampler of DPM-Solver(++), multistep, of order 1 or 2.

    The third order of diffusers is another method than the published one.
    """
    algorithm, order = have["algorithm_type"], have["solver_order"]
    zero = have["final_sigmas_type"] == "zero"
    last = {} if zero or order == 1 else {"lower_final": lowered(have, steps)}
    kinds = {"midpoint": False, "heun": True}
    only(have, {"algorithm_type": ("dpmsolver++", "sde-dpmsolver++", "dpmsolver")})
    only(have, {"solver_order": (1, 2), "solver_type": tuple(kinds)})
    exact = {"exact": True} if kinds[have["solver_type"]] else {}
    if algorithm == "dpmsolver":
        if order == 2:
            only(have, {"solver_type": ("heun",)})
        return {"name": "dpm_solver_1"} if order == 1 else {"name": "ab_logsnr", "order": 2, **last}
    noise = {"eta": 1.0} if algorithm.startswith("sde") else {}
    if order == 1:
        return {"name": "ddim_sde", **noise} if noise else {"name": "ddim"}
    return {"name": "dpmpp_2m", **exact, **noise, **last}


def singlestep(have: Fields, steps: int) -> Spec:
    """Return the sampler of order 1; higher orders have no counterpart.

    The stages in diffusers stand on the grid, at varying ratios; here the ratios are fixed.
    """
    only(have, {"solver_order": (1,), "algorithm_type": ("dpmsolver++",)})
    return {"name": "ddim"}


def deis(have: Fields, steps: int) -> Spec:
    """Return the sampler of DEIS."""
    only(have, {"solver_order": (1, 2, 3)})
    last = int(have["lower_order_final"] and steps < 15)
    return {"name": "ab_logsnr", "order": have["solver_order"], "lower_final": last}


def unipc(have: Fields, steps: int) -> Spec:
    """Return the sampler of UniPC."""
    only(have, {"predict_x0": (True,), "disable_corrector": ([],), "solver_p": (None,)})
    only(have, {"solver_order": (1, 2, 3, 4), "solver_type": ("bh1", "bh2")})
    bh1 = {"bh1": True} if have["solver_type"] == "bh1" else {}
    last = {"lower_final": int(have["lower_order_final"])}
    return {"name": "unipc", "order": have["solver_order"], **bh1, **last}


def flow_euler(have: Fields, steps: int) -> Spec:
    """Return the sampler of Euler's scheduler for flows."""
    return {"name": "consistency" if have["stochastic_sampling"] else "euler_t"}


# Clipping.


def clipping(have: Fields) -> Spec | None:
    """Return the threshold of x0 for a class that has one.

    Raises ValueError where diffjax has no threshold like it.
    """
    if have.get("thresholding"):
        # diffusers clamps its quantile to [1, sample_max_value] and divides x0 by it.
        only(have, {"sample_max_value": (1, 1.0)})
        return {"name": "static", "bound": 1.0}
    if have.get("clip_sample"):
        bound = float(have.get("clip_sample_range", 1.0))
        if not 0 < bound < math.inf:
            raise ValueError(f"{FILE}: clip_sample_range={bound}; needs a positive number")
        return {"name": "static", "bound": bound}
    return None
