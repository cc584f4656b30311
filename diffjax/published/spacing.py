"""The time grids for the arguments of diffusers' schedulers.

Like those of `scheduling`, each function reads the arguments of a class with its defaults.
"""

from __future__ import annotations

import math

from diffjax.published.scheduling import FILE, Fields, Process, Spec, only


def plain(have: Fields, process: Process) -> Spec:
    """Return the grid for a sampler other than the scheduler's.

    It has the steps of the scheduler's spacing, down to the data.
    """
    if process.sde["name"] != "vp":
        return {"name": {"ve": "karras", "flow": "uniform"}[process.sde["name"]]}
    return {"name": "trailing", "total": have["num_train_timesteps"]}


def spaced(have: Fields, inner: bool = False, fractional: bool = False) -> Spec:
    """Return the grid of the requested indices of a table, or of noise levels between its ends.

    inner: the grid has one more index than needed, of which the lowest is left out. fractional:
    "linspace" does not round. Raises ValueError for options without a counterpart.
    """
    to_data = have.get("set_alpha_to_one", True) and have.get("final_sigmas_type") != "sigma_min"
    only(have, {n: (v,) for n, v in EVEN.items() if n in have})
    if "final_sigmas_type" in have:
        only(have, {"final_sigmas_type": ("zero", "sigma_min")})
    if have.get("lambda_min_clipped", -math.inf) > -math.inf:
        only(have, {"lambda_min_clipped": (-math.inf,)})
    levels = [n for n in NOISE_LEVELS if have.get(n)]
    spacing, total = have["timestep_spacing"], have["num_train_timesteps"]
    if spacing not in ("leading", "trailing", "linspace"):
        only(have, {"timestep_spacing": ("leading", "trailing", "linspace")})
    if len(levels) > 1:
        raise ValueError(
            f"{FILE}: {levels[0]} and {levels[1]} are both True; allowed: only one of them"
        )
    if levels and not to_data:
        raise ValueError(
            f"{FILE}: {levels[0]}=True, ending at a noise level, has no counterpart in diffjax"
        )
    if levels and fractional:
        only(have, {"timestep_spacing": ("linspace",)})
    first = spacing == "linspace" or (spacing == "leading" and not have["steps_offset"])
    if not to_data and not inner and first:
        name = "set_alpha_to_one" if "set_alpha_to_one" in have else "final_sigmas_type"
        raise ValueError(
            f"{FILE}: {name}={have[name]!r} with timestep_spacing={spacing!r} and steps_offset="
            f"{have['steps_offset']} has no counterpart in diffjax: its last step leads from "
            f"index 0 to itself"
        )
    if levels:
        return {"name": NOISE_LEVELS[levels[0]], **level_ends(have)}
    if spacing == "linspace" and fractional and to_data:
        return {"name": "uniform"}
    grid: Spec = {"name": spacing, "total": total}
    if spacing == "leading" and have["steps_offset"]:
        grid["offset"] = have["steps_offset"]
    if inner and spacing != "trailing":
        grid["inner"] = True
    return grid if to_data else grid | {"to_data": False}


def level_ends(have: Fields) -> Spec:
    """Return sigma_min and sigma_max of Euler's scheduler where its config sets them."""
    ends = {name: have.get(name) for name in ("sigma_min", "sigma_max")}
    return {name: float(value) for name, value in ends.items() if value is not None}


def indices(have: Fields, steps: int) -> Spec:
    """Return the grid of a scheduler that rounds its spacing to indices."""
    return spaced(have)


def fractions(have: Fields, steps: int) -> Spec:
    """Return the grid of a scheduler whose "linspace" does not round."""
    if have.get("interpolation_type"):
        only(have, {"interpolation_type": ("linear",)})
    return spaced(have, fractional=True)


def inner(have: Fields, steps: int) -> Spec:
    """Return the grid of a scheduler that leaves out the lowest index."""
    if have.get("use_flow_sigmas"):
        only(have, {n: (v,) for n, v in {**EVEN, **UNMOVED}.items() if n in have})
        return {"name": "shifted", "shift": float(have["flow_shift"]), "inner": True}
    return spaced(have, inner=True)


def inner_linspace(have: Fields, steps: int) -> Spec:
    """Return the grid of `inner` with the spacing "linspace"."""
    return inner({**have, "timestep_spacing": "linspace"}, steps)


def first_level(have: Fields, steps: int) -> Spec:
    """Return the grid of DEIS, which stops at the first noise level of its table."""
    return inner({**have, "final_sigmas_type": "sigma_min"}, steps)


def shifted(have: Fields, steps: int) -> Spec:
    """Return the shifted grid of a flow."""
    only(have, {n: (v,) for n, v in UNMOVED.items() if n in have})
    return {"name": "shifted", "shift": float(have["shift"])}


def edm_levels(have: Fields, steps: int) -> Spec:
    """Return the grid of EDM's schedulers."""
    only(have, {"final_sigmas_type": ("zero",), "sigma_schedule": ("karras", "exponential")})
    rho = {"rho": float(have["rho"])} if have["sigma_schedule"] == "karras" else {}
    return {"name": have["sigma_schedule"], **rho}


NOISE_LEVELS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_lu_lambdas": "exponential",
}
EVEN = {"use_beta_sigmas": False, "use_dynamic_shifting": False}
"""Options without a counterpart, and the values they need: the beta grid here is in t."""
UNMOVED: Fields = {
    "use_dynamic_shifting": False,
    "invert_sigmas": False,
    "shift_terminal": None,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "final_sigmas_type": "zero",
}
"""Options of flows and the values they need: other noise levels there are spaced in sigma, here in
sigma / alpha."""
