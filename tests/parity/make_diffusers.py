"""Write the steps of diffusers' schedulers, for test_diffusers.py; run by hand and committed.

    pip install -e .[torch] diffusers scipy
    python tests/parity/make_diffusers.py tests/parity/diffusers.npz

Made with diffusers 0.42.1, torch 2.13.0 (CPU), scipy 1.17.1 and numpy 2.4.6.

The script runs the published `step` of each scheduler on the noise levels of its `set_timesteps`.
Tables and levels are in float64, so that differences are due to the method; some schedulers round
x, or the end of their levels, to float32. The network is the exact denoiser of a mixture. The file
has one array per combination, with a row per network call and one for the result:

    alpha, sigma, state (4)[, noise that the call's step drew (4)]
"""

import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WEIGHT, MEAN, VAR = (0.6, 0.4), (-1.0, 0.8), (0.04, 0.09)
T, STEPS = 1000, 10
START = np.array([-1.3, -0.2, 0.5, 1.7])
"""In units of the deviation of x at the first level, nearly."""


def x0(x: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """E[x0 | x] for data sum_k WEIGHT_k N(MEAN_k, VAR_k)."""
    parts = []
    for weight, mean, var in zip(WEIGHT, MEAN, VAR, strict=True):
        total = alpha**2 * var + sigma**2
        away = x - alpha * mean
        density = weight / np.sqrt(total) * np.exp(-(away**2) / (2 * total))
        parts.append((density, mean + alpha * var * away / total))
    return sum(d * m for d, m in parts) / sum(d for d, _ in parts)


def output(x: np.ndarray, alpha: float, sigma: float, kind: str) -> np.ndarray:
    """Return the output of a network with this prediction type."""
    clean = x0(x, alpha, sigma)
    eps = (x - alpha * clean) / sigma
    root = np.hypot(sigma, 0.5)
    return {
        "epsilon": lambda: eps,
        "sample": lambda: clean,
        "v_prediction": lambda: (alpha * eps - sigma * clean) / np.hypot(alpha, sigma),
        "flow_prediction": lambda: eps - clean,
        "learned_range": lambda: np.concatenate([eps, np.sin(x)], 1),
        "edm": lambda: (clean - 0.25 / root**2 * x) / (sigma * 0.5 / root),
    }[kind]()


@dataclass
class Run:
    """One scheduler at work.

    scheduler: module scheduling_* and class. frame: how x is scaled, `vp`, `ve` or `flow`; `table`
    for schedulers that step between entries of a table, `own` for IPNDM's. kind: what the network
    predicts. noise: whether steps draw some. sigmas: levels in place of those of `set_timesteps`.
    drop: leave out the last step. skip: and the first ones. source: the time t of the call, where
    it is not the scheduler's. step: arguments of `step`. before: called with the scheduler and the
    number of the call.
    """

    name: str
    scheduler: tuple[str, str]
    frame: str
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: int = STEPS
    kind: str = "epsilon"
    noise: bool = False
    sigmas: np.ndarray | None = None
    drop: bool = False
    skip: int = 0
    source: Callable[[int], int] | None = None
    step: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Any, int], None] = lambda scheduler, call: None

    def rows(self) -> np.ndarray:
        import torch

        s, drawn = self._prepare(), np.random.default_rng(0)
        calls, made, x = s.timesteps[self.skip :], [], None
        for i, t in enumerate(calls):
            alpha, sigma = self._level(s, i, t)
            if x is None:
                x = START[:, None] * np.hypot(sigma, 0.9 * alpha)
            z = drawn.normal(size=x.shape)
            self._z = torch.from_numpy(z)
            made.append([alpha, sigma, *x.ravel(), *z.ravel()])
            self.before(s, i)
            out = torch.from_numpy(output(x, alpha, sigma, self.kind))
            x = s.step(out, t, torch.from_numpy(x), **self.step).prev_sample.double().numpy()
        # The inverse ends at its last time, all others at their last level.
        end = self._level(s, len(calls), calls[-1] + T // STEPS if self.source else None)
        made = np.array([*made, [*end, *x.ravel(), *np.zeros(x.size)]])
        made = made[:-1] if self.drop else made
        return made if self.noise else made[:, : 2 + x.size]

    def _prepare(self) -> Any:
        """The scheduler after `set_timesteps`, not rounded to float32, with our noise."""
        import torch

        module = importlib.import_module(f"diffusers.schedulers.scheduling_{self.scheduler[0]}")
        config = dict(self.config)
        if self.kind in ("sample", "v_prediction") and self.frame != "own":
            config["prediction_type"] = self.kind
        s = getattr(module, self.scheduler[1])(**config)
        if hasattr(s, "alphas_cumprod"):
            s.betas = torch.from_numpy(_betas(s.config))
            if s.config.get("rescale_betas_zero_snr"):
                s.betas = module.rescale_zero_terminal_snr(s.betas)
            s.alphas_cumprod = torch.cumprod(1.0 - s.betas, 0)
        s.set_timesteps(self.steps)
        for name in ("sigmas", "sigmas_interpol", "betas", "alphas"):
            if getattr(s, name, None) is not None:
                setattr(s, name, getattr(s, name).double())
        if self.sigmas is not None:
            s.sigmas = torch.from_numpy(self.sigmas)
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(0)
        s.is_scale_input_called = True
        s.noise_sampler = module.randn_tensor = lambda *_, **__: self._z
        return s

    def _level(self, s: Any, i: int, t: Any) -> tuple[float, float]:
        """(alpha, sigma) at which call i is made, at t; of the result for t = None."""
        if self.frame == "table":
            t = self.source(t) if self.source and t is not None else t
            bar = 1.0 if t is None else float(s.alphas_cumprod[int(t)])
            return np.sqrt(bar), np.sqrt(1 - bar)
        if self.frame == "own":
            return float(s.alphas[i]), float(s.betas[i])
        middle = hasattr(s, "sigmas_interpol") and i % 2 and t is not None
        sigma = float((s.sigmas_interpol if middle else s.sigmas)[-1 if t is None else i])
        vp = 1 / np.hypot(1, sigma)
        return {"vp": (vp, sigma * vp), "ve": (1.0, sigma), "flow": (1 - sigma, sigma)}[self.frame]


def _betas(config: Mapping[str, Any]) -> np.ndarray:
    low, high = config["beta_start"], config["beta_end"]
    if config["beta_schedule"] == "scaled_linear":
        return np.linspace(low**0.5, high**0.5, T) ** 2
    return np.linspace(low, high, T)


def table_schedulers() -> Iterator[Run]:
    """Yield the schedulers that step by T // steps in a table; spacings must have such steps."""
    ddim, ddpm = ("ddim", "DDIMScheduler"), ("ddpm", "DDPMScheduler")
    plain, trailing = {"clip_sample": False}, {"timestep_spacing": "trailing"}
    scaled = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    zero_snr = plain | trailing | {"rescale_betas_zero_snr": True}
    yield Run("ddim-leading", ddim, "table", plain)
    yield Run("ddim-trailing", ddim, "table", plain | trailing)
    yield Run("ddim-scaled-linear", ddim, "table", plain | scaled)
    yield Run("ddim-v", ddim, "table", plain, kind="v_prediction")
    yield Run("ddim-zero-snr", ddim, "table", zero_snr, kind="v_prediction")
    for eta in (0.5, 1.0):
        yield Run(f"ddim-eta{eta:g}", ddim, "table", plain, noise=True, step={"eta": eta})
    for kind in ("fixed_small", "fixed_large", "learned_range"):
        network = "learned_range" if kind == "learned_range" else "epsilon"
        config = plain | {"variance_type": kind}
        yield Run(f"ddpm-{kind}", ddpm, "table", config, kind=network, noise=True)
    # Called at the time that its formula steps from; pipelines call at the one it steps to.
    inverse = ("ddim_inverse", "DDIMInverseScheduler")
    yield Run("ddim-inverse", inverse, "table", plain, skip=1, source=lambda t: t - T // STEPS)
    # The scaling makes c_skip = 0.
    lcm = ("lcm", "LCMScheduler")
    yield Run("lcm", lcm, "table", {"timestep_scaling": 1e6}, noise=True)
    # To sigma = 0 it extrapolates eps; diffjax takes x0.
    pndm = ("pndm", "PNDMScheduler")
    yield Run("pndm", pndm, "table", {"set_alpha_to_one": True}, drop=True)


def sigma_schedulers() -> Iterator[Run]:
    """Yield the schedulers whose state is x / alpha."""
    euler = ("euler_discrete", "EulerDiscreteScheduler")
    ancestral = ("euler_ancestral_discrete", "EulerAncestralDiscreteScheduler")
    heun, kdpm2 = (
        ("heun_discrete", "HeunDiscreteScheduler"),
        ("k_dpm_2_discrete", "KDPM2DiscreteScheduler"),
    )
    karras = {"use_karras_sigmas": True}
    table = {"beta_start": 1e-4, "beta_end": 0.02}  # not the default of these two
    for grid in ("karras", "exponential", "beta"):
        yield Run(f"euler-{grid}", euler, "ve", {f"use_{grid}_sigmas": True})
    yield Run("euler-linspace", euler, "ve")
    yield Run("euler-v", euler, "ve", kind="v_prediction")
    yield Run("euler-ancestral", ancestral, "ve", noise=True)
    yield Run("heun", heun, "ve", kind="sample")
    yield Run("heun-karras", heun, "ve", table | karras)
    yield Run("kdpm2", kdpm2, "ve")
    yield Run("kdpm2-karras", kdpm2, "ve", table | karras)
    for order in (1, 2, 3, 4):
        # To sigma = 0 it extrapolates eps; diffjax takes x0.
        lms = ("lms_discrete", "LMSDiscreteScheduler")
        yield Run(f"lms{order}", lms, "ve", step={"order": order}, drop=True)


def exponential_schedulers() -> Iterator[Run]:
    """DPM-Solver, DEIS, UniPC and IPNDM, in VP."""
    multi = ("dpmsolver_multistep", "DPMSolverMultistepScheduler")
    low, karras = {"final_sigmas_type": "sigma_min"}, {"use_karras_sigmas": True}
    sde, eps = {"algorithm_type": "sde-dpmsolver++"}, {"algorithm_type": "dpmsolver"} | low
    for solver in ("midpoint", "heun"):
        kind = {"solver_type": solver}
        yield Run(f"dpmsolver++2m-{solver}", multi, "vp", kind)
        yield Run(f"sde-dpmsolver++2m-{solver}", multi, "vp", kind | sde, noise=True)
    yield Run("dpmsolver2m-heun", multi, "vp", eps | {"solver_type": "heun"})
    yield Run("dpmsolver1", multi, "vp", eps | {"solver_order": 1})
    yield Run("dpmsolver++2m-lower-final", multi, "vp", low)
    yield Run("dpmsolver++2m-20-steps", multi, "vp", low, steps=20)
    yield Run("dpmsolver++2m-karras", multi, "vp", karras)
    yield Run("dpmsolver++2m-sample", multi, "vp", kind="sample")
    yield Run("dpmsolver++2m-v", multi, "vp", kind="v_prediction")
    yield Run("sde-dpmsolver++1", multi, "vp", sde | {"solver_order": 1}, noise=True)
    # Wrong methods; see test_diffusers.py.
    third = {"solver_order": 3, "lower_order_final": False}
    yield Run("dpmsolver++3m", multi, "vp", third)
    yield Run("sde-dpmsolver++3m", multi, "vp", third | sde, noise=True)
    inverse = ("dpmsolver_multistep_inverse", "DPMSolverMultistepInverseScheduler")
    yield Run("dpmsolver++2m-inverse", inverse, "vp")
    for order in (1, 2, 3):
        deis = ("deis_multistep", "DEISMultistepScheduler")
        yield Run(f"deis{order}", deis, "vp", {"solver_order": order})
    # Its own table starts at alpha = 0, where its step loses x0, and ends at sigma = 0.
    angle = np.sin(np.linspace(0.95, 0.05, STEPS + 1) * np.pi / 2)
    ipndm = ("ipndm", "IPNDMScheduler")
    yield Run("ipndm", ipndm, "own", {"trained_betas": angle.tolist()}, kind="v_prediction")
    uni = ("unipc_multistep", "UniPCMultistepScheduler")
    for order in (1, 2, 3, 4):
        for kind in ("bh1", "bh2"):
            # To sigma = 0 it gives NaN with bh1.
            end = low if kind == "bh1" else {}
            config = {"solver_order": order, "solver_type": kind} | end
            yield Run(f"unipc{order}-{kind}", uni, "vp", config)
    third = {"solver_order": 3}
    yield Run("unip3", uni, "vp", third | {"disable_corrector": [*range(STEPS)]})
    yield Run("unipc3-full-final", uni, "vp", third | {"lower_order_final": False} | low)
    yield Run("unipc3-karras", uni, "vp", third | karras)


def singlestep_schedulers() -> Iterator[Run]:
    """Stages stand where the grid has its levels: these are at equal parts of a step in lambda."""

    def stages(scheduler: Any, call: int) -> None:
        # The paper integrates a line in its second stage ("heun"), as it does in the step.
        scheduler.register_to_config(solver_type="heun" if call % 3 == 1 else "midpoint")

    single = ("dpmsolver_singlestep", "DPMSolverSinglestepScheduler")
    for kind, order in (("dpmsolver++", 2), ("dpmsolver", 2), ("dpmsolver", 3)):
        steps = STEPS * order
        config = {"algorithm_type": kind, "solver_order": order, "lower_order_final": False}
        config |= {"final_sigmas_type": "sigma_min"}
        sigmas = np.exp(np.linspace(np.log(80.0), np.log(0.02), steps + 1))
        before = {"before": stages} if order == 3 else {}
        yield Run(f"{kind}-{order}s", single, "vp", config, steps, sigmas=sigmas, **before)


def edm_schedulers() -> Iterator[Run]:
    multi = ("edm_dpmsolver_multistep", "EDMDPMSolverMultistepScheduler")
    euler = ("edm_euler", "EDMEulerScheduler")
    cosine = ("cosine_dpmsolver_multistep", "CosineDPMSolverMultistepScheduler")
    for solver in ("midpoint", "heun"):
        kind = {"solver_type": solver}
        yield Run(f"edm-2m-{solver}", multi, "ve", kind, kind="edm")
        sde = kind | {"algorithm_type": "sde-dpmsolver++"}
        yield Run(f"edm-sde-2m-{solver}", multi, "ve", sde, kind="edm", noise=True)
    exponential = {"sigma_schedule": "exponential"}
    yield Run("edm-2m-exponential", multi, "ve", exponential, kind="edm")
    yield Run("edm-euler", euler, "ve", kind="edm")
    config = {"sigma_data": 0.5, "sigma_min": 0.05, "sigma_max": 60.0, "prediction_type": "epsilon"}
    yield Run("cosine-dpm", cosine, "ve", config, kind="edm", noise=True)


def flow_schedulers() -> Iterator[Run]:
    flow = {"frame": "flow", "kind": "flow_prediction"}
    euler = ("flow_match_euler_discrete", "FlowMatchEulerDiscreteScheduler")
    heun = ("flow_match_heun_discrete", "FlowMatchHeunDiscreteScheduler")
    multi = ("dpmsolver_multistep", "DPMSolverMultistepScheduler")
    uni = ("unipc_multistep", "UniPCMultistepScheduler")
    sigmas = {"use_flow_sigmas": True, "flow_shift": 2.0, "prediction_type": "flow_prediction"}
    sde = sigmas | {"algorithm_type": "sde-dpmsolver++"}
    yield Run("flow-euler", euler, **flow)
    yield Run("flow-euler-shift3", euler, config={"shift": 3.0}, **flow)
    random = {"stochastic_sampling": True}
    yield Run("flow-euler-stochastic", euler, config=random, noise=True, **flow)
    yield Run("flow-heun", heun, **flow)
    yield Run("flow-heun-shift3", heun, config={"shift": 3.0}, **flow)
    yield Run("flow-dpmsolver++2m", multi, config=sigmas, **flow)
    yield Run("flow-sde-dpmsolver++2m", multi, config=sde, noise=True, **flow)
    yield Run("flow-unipc3", uni, config=sigmas | {"solver_order": 3}, **flow)


FAMILIES: Sequence[Callable[[], Iterator[Run]]] = (
    table_schedulers,
    sigma_schedulers,
    exponential_schedulers,
    singlestep_schedulers,
    edm_schedulers,
    flow_schedulers,
)


def main(path: str) -> None:
    warnings.simplefilter("ignore")
    importlib.import_module("diffusers")
    sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))  # its noise is replaced
    made = {run.name: run.rows() for family in FAMILIES for run in family()}
    for name, rows in made.items():
        if not np.isfinite(rows).all():
            raise ValueError(f"{name}: not finite")
    np.savez_compressed(path, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
