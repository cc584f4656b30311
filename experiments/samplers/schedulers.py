"""Schedulers of diffusers on the problem of `exact.py`, for `peers.py`."""

import functools
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import problem
import torch
from problem import PROCESSES

Result = tuple[np.ndarray, int]
"""Samples (N, 2), and how many network passes they took."""


def to_data(made: torch.Tensor, least: float, calls: int) -> Result:
    """One more pass, to rho = 0."""
    return problem.posterior_mean(made.double().numpy(), least), calls + 1


class Double:
    """torch, whose float32 is float64: schedulers that round x to float32 do not."""

    def __getattr__(self, name: str) -> Any:
        return torch.float64 if name == "float32" else getattr(torch, name)


OWN = {
    "own linspace": {"timestep_spacing": "linspace"},
    "own leading": {"timestep_spacing": "leading"},
    "own trailing": {"timestep_spacing": "trailing"},
    "own karras": {"use_karras_sigmas": True},
    "own exponential": {"use_exponential_sigmas": True},
    "own beta": {"use_beta_sigmas": True},
    "own lu": {"use_lu_lambdas": True},
}
"""Grids of diffusers' `set_timesteps`."""


class Scheduler:
    """A scheduler of diffusers. kind: table (steps in a table of alphas), vp or ve.

    ends: whether it can step to sigma = 0; where not, one pass more takes the result there.
    """

    def __init__(self, module: str, name: str, kind: str, ends: bool = True, **config: Any):
        self.module = importlib.import_module(f"diffusers.schedulers.scheduling_{module}")
        self.module.torch = Double()
        self.type, self.kind, self.ends = getattr(self.module, name), kind, ends
        self.step = {k: config.pop(k) for k in ("eta", "order") if k in config}
        self.config = config

    def takes(self, option: str) -> bool:
        return option in inspect.signature(self.type).parameters

    def make(self, steps: int, **config: Any) -> Any:
        config |= self.config
        betas = self.takes("trained_betas") and self.type.__name__ != "IPNDMScheduler"
        if betas:
            bar = 1 / (1 + PROCESSES["vp"].rho(np.arange(1001) / 1000) ** 2)
            config["trained_betas"] = 1 - bar[1:] / bar[:-1]
        s = self.type(**config)
        if betas:
            s.alphas_cumprod = torch.from_numpy(bar[1:])
        s.set_timesteps(steps)
        for name in ("sigmas", "sigmas_interpol"):
            if getattr(s, name, None) is not None:
                setattr(s, name, getattr(s, name).double())
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(0)
        s.is_scale_input_called = True
        return s

    def own(self, grid: str, steps: int) -> Result:
        """On its own grid; those that cannot end at 0 leave the step out that goes nowhere."""
        s = self.make(steps, **OWN[grid])
        if not self.ends:
            s.timesteps, s.sigmas = s.timesteps[:-1], s.sigmas[:-1]
        return self.run(s)

    def on(self, levels: np.ndarray) -> Result:
        """On given levels, the last of which is 0."""
        sigmas = levels if self.ends else levels[:-1]
        s = self.make(len(sigmas) - 1)
        if self.type.__name__ == "SASolverScheduler":  # its noise depends on the times
            s.timesteps = torch.from_numpy(1000 * PROCESSES["vp"].time(sigmas[:-1]) - 1)
        s.sigmas = torch.from_numpy(sigmas)
        if self.type.__name__ == "IPNDMScheduler":  # in VP, by the angle
            s.alphas = 1 / torch.sqrt(1 + s.sigmas**2)
            s.betas = s.sigmas * s.alphas
            s.timesteps = torch.atan2(s.betas, s.alphas)[:-1] / np.pi * 2
        return self.run(s)

    def run(self, s: Any) -> Result:
        x = None
        for i, t in enumerate(s.timesteps):
            alpha, rho = self.level(s, i, t)
            if x is None:
                x = torch.from_numpy(alpha * rho * problem.noise())
            out = torch.from_numpy(self.output(x.numpy() / alpha, rho))
            x = s.step(out, t, x, **self.step).prev_sample.double()
        if self.ends:
            return x.numpy(), len(s.timesteps)
        rho = float(s.sigmas[-1])
        scale = np.hypot(1, rho) if self.kind == "vp" else 1.0
        return to_data(x * scale, rho, len(s.timesteps))

    def level(self, s: Any, i: int, t: Any) -> tuple[float, float]:
        if self.kind == "table":
            bar = float(s.alphas_cumprod[int(t)])
            return np.sqrt(bar), np.sqrt(1 / bar - 1)
        middle = getattr(s, "sigmas_interpol", None) is not None and i % 2
        rho = float((s.sigmas_interpol if middle else s.sigmas)[i])
        return (1 / np.hypot(1, rho) if self.kind == "vp" else 1.0), rho

    def output(self, x: np.ndarray, rho: float) -> np.ndarray:
        mean = problem.posterior_mean(x, rho)
        if self.type.__name__ == "IPNDMScheduler":
            return ((x - mean) / rho - rho * mean) / np.hypot(1, rho)
        if not self.module.__name__.split("_", 1)[1].startswith("edm"):
            return (x - mean) / rho
        root = np.hypot(rho, 0.5)
        return (mean - 0.25 / root**2 * x) / (rho * 0.5 / root)


def schedulers() -> Iterator[tuple[str, int, bool, Scheduler]]:
    """Name, passes per step, whether it adds noise, scheduler."""
    ddim = functools.partial(Scheduler, "ddim", "DDIMScheduler", "table", clip_sample=False)
    yield "DDIM", 1, False, ddim()
    yield "DDIM:eta=1", 1, True, ddim(eta=1.0)
    yield "DDPM", 1, True, Scheduler("ddpm", "DDPMScheduler", "table", clip_sample=False)
    for skip in (False, True):
        config = {"set_alpha_to_one": True, "skip_prk_steps": skip}
        pndm = Scheduler("pndm", "PNDMScheduler", "table", **config)
        yield f"PNDM:skip_prk_steps={skip}", 1, False, pndm
    yield "Euler", 1, False, Scheduler("euler_discrete", "EulerDiscreteScheduler", "ve")
    ancestral = ("euler_ancestral_discrete", "EulerAncestralDiscreteScheduler", "ve")
    yield "EulerAncestral", 1, True, Scheduler(*ancestral)
    yield "Heun", 2, False, Scheduler("heun_discrete", "HeunDiscreteScheduler", "ve")
    yield "KDPM2", 2, False, Scheduler("k_dpm_2_discrete", "KDPM2DiscreteScheduler", "ve")
    yield "LMS", 1, False, Scheduler("lms_discrete", "LMSDiscreteScheduler", "ve")
    edm = ("edm_dpmsolver_multistep", "EDMDPMSolverMultistepScheduler", "ve")
    for order in (2, 3):
        yield f"EDMDPMSolverMultistep:{order}", 1, False, Scheduler(*edm, solver_order=order)
    yield "EDMEuler", 1, False, Scheduler("edm_euler", "EDMEulerScheduler", "ve")
    multi = ("dpmsolver_multistep", "DPMSolverMultistepScheduler", "vp")
    for kind in ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"):
        for order, rule in ((1, "midpoint"), (2, "midpoint"), (2, "heun"), (3, "midpoint")):
            if kind == "sde-dpmsolver" and order == 3:
                continue  # not written there
            eps = not kind.endswith("++")
            config = {"algorithm_type": kind, "solver_order": order, "solver_type": rule}
            config |= {"final_sigmas_type": "sigma_min"} if eps else {}
            name = f"DPMSolverMultistep:{kind}:{order}{':heun' if rule == 'heun' else ''}"
            yield name, 1, kind.startswith("sde"), Scheduler(*multi, ends=not eps, **config)
    single = ("dpmsolver_singlestep", "DPMSolverSinglestepScheduler", "vp")
    for order, rule in ((2, "midpoint"), (2, "heun"), (3, "midpoint"), (3, "heun")):
        config = {"solver_order": order, "solver_type": rule, "lower_order_final": True}
        config["final_sigmas_type"] = "zero"
        yield f"DPMSolverSinglestep:{order}:{rule}", 1, False, Scheduler(*single, **config)
    uni = ("unipc_multistep", "UniPCMultistepScheduler", "vp")
    for kind in ("bh1", "bh2"):
        for order in (1, 2, 3, 4):
            low = {"final_sigmas_type": "sigma_min"} if kind == "bh1" else {}
            config = {"solver_order": order, "solver_type": kind} | low
            yield f"UniPC:{kind}:{order}", 1, False, Scheduler(*uni, ends=not low, **config)
    deis = ("deis_multistep", "DEISMultistepScheduler", "vp")
    for order in (1, 2, 3):
        yield f"DEIS:{order}", 1, False, Scheduler(*deis, ends=False, solver_order=order)
    yield "IPNDM", 1, False, Scheduler("ipndm", "IPNDMScheduler", "vp")
    sa = ("sasolver", "SASolverScheduler", "vp")
    for predictor, corrector in ((2, 2), (3, 4)):
        for tau in (None, 0.0):
            config = {"predictor_order": predictor, "corrector_order": corrector}
            config |= {} if tau is None else {"tau_func": lambda t: 0.0}
            name = f"SASolver:{predictor},{corrector}{'' if tau is None else ':tau=0'}"
            yield name, 1, tau is None, Scheduler(*sa, ends=False, **config)
