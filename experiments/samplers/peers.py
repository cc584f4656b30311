"""The same for diffusers and k-diffusion: writes peers.json.

    pip install torch diffusers torchsde torchdiffeq scipy tqdm
    pip install --no-deps k-diffusion
    python experiments/samplers/peers.py

Their published solvers, on the grids of `diffjax.grids`, on their own, and on those of grids.json.
Nothing of JAX is imported.
"""

import functools
import importlib
import inspect
import json
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import problem
import torch
from problem import BUDGETS, HERE, PROCESSES, Process

Result = tuple[np.ndarray, int]
"""Samples (N, 2), and how many network passes they took."""


def k_diffusion() -> Any:
    """Its samplers, without the package, which imports far more than they need.

    Its `utils` imports torchvision for pictures; an empty module stands there meanwhile.
    """
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(find_spec("k_diffusion").submodule_search_locations)  # type: ignore
    empty = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    added = {name: types.ModuleType(name) for name in empty if name not in sys.modules}
    for name, module in added.items():
        if parent := sys.modules.get(name.rpartition(".")[0]):
            setattr(parent, name.rpartition(".")[2], module)
        sys.modules[name] = module
    sys.modules["k_diffusion"] = package
    sampling = importlib.import_module("k_diffusion.sampling")
    for name in added:
        del sys.modules[name]
    return sampling


class Model:
    """The exact denoiser as k-diffusion calls it; counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.from_numpy(problem.posterior_mean(x.numpy(), float(sigma[0])))


def k_solvers(kd: Any) -> Iterator[tuple[str, int, bool, Callable[..., Any]]]:
    """Name, passes per step, whether it adds noise, function."""
    for name in ("euler", "dpmpp_2m"):
        yield name, 1, False, getattr(kd, f"sample_{name}")
    for name in ("heun", "dpm_2"):
        yield name, 2, False, getattr(kd, f"sample_{name}")
    for order in (2, 3, 4):
        yield f"lms:order={order}", 1, False, functools.partial(kd.sample_lms, order=order)
    for eta in (0.0, 1.0):
        for name, passes in (("dpmpp_2s_ancestral", 2), ("dpmpp_sde", 2), ("dpmpp_3m_sde", 1)):
            solver = functools.partial(getattr(kd, f"sample_{name}"), eta=eta)
            yield f"{name}:eta={eta:g}", passes, eta > 0, solver
        for kind in ("midpoint", "heun"):
            solver = functools.partial(kd.sample_dpmpp_2m_sde, eta=eta, solver_type=kind)
            yield f"dpmpp_2m_sde:{kind}:eta={eta:g}", 1, eta > 0, solver
    yield "euler_ancestral", 1, True, kd.sample_euler_ancestral
    yield "dpm_2_ancestral", 2, True, kd.sample_dpm_2_ancestral


def on_levels(solver: Callable[..., Any], levels: np.ndarray) -> Result:
    model = Model()
    start = torch.from_numpy(levels[0] * problem.noise())
    made = solver(model, start, torch.from_numpy(levels), disable=True)
    return made.numpy(), model.calls


def to_data(made: torch.Tensor, least: float, calls: int) -> Result:
    """One more pass, to rho = 0."""
    return problem.posterior_mean(made.double().numpy(), least), calls + 1


def fast(kd: Any, process: Process, budget: int) -> Result:
    model, low, high = Model(), process.least, process.most
    start = torch.from_numpy(high * problem.noise())
    ends = (torch.tensor(s, dtype=torch.float64) for s in (low, high))
    made = kd.sample_dpm_fast(model, start, *ends, budget - 1, disable=True)
    return to_data(made, low, model.calls)


@functools.cache
def adaptive(kd: Any, process: Process, order: int) -> list[Result]:
    """All that some tolerances give, with the proportion of atol and rtol that is default."""
    made = []
    for rtol in np.geomspace(3.0, 1e-4, 60):
        model, low, high = Model(), process.least, process.most
        start = torch.from_numpy(high * problem.noise())
        ends = (torch.tensor(s, dtype=torch.float64) for s in (low, high))
        settings = {"rtol": rtol, "atol": rtol * 0.0078 / 0.05, "order": order}
        x = kd.sample_dpm_adaptive(model, start, *ends, disable=True, **settings)
        made.append(to_data(x, low, model.calls))
        if model.calls > BUDGETS[-1]:
            break
    return made


class Double:
    """torch, whose float32 is float64: schedulers that round x to float32 do not."""

    def __getattr__(self, name: str) -> Any:
        return torch.float64 if name == "float32" else getattr(torch, name)


NOISY_GRIDS = ("karras", "exponential", "for ddim", "for dpmpp_2m")
"""Samplers with noise run on these, and on their own."""
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


def levels_of(process: str, made: Any) -> dict[str, Callable[[int], np.ndarray | None]]:
    """steps -> levels, or None where no grid was made."""
    p = PROCESSES[process]

    def optimized(grids: dict[str, list[float]], steps: int) -> np.ndarray | None:
        times = grids.get(str(steps))
        return None if times is None else np.append(p.rho(np.array(times)), 0.0)

    found: dict[str, Callable[[int], np.ndarray | None]] = {}
    for name in problem.plain_grids(p, 3):
        found[name] = lambda steps, name=name: problem.plain_grids(p, steps)[name]
    for name, grids in made[process].items():
        found[f"for {name}"] = functools.partial(optimized, grids)
    return found


def fit(run: Callable[[int], Result | None], passes: int, budget: int) -> np.ndarray | None:
    """Samples with the most steps within the budget."""
    for steps in range((budget - 1) // passes + 1, 0, -1):
        try:
            result = run(steps)
        except (IndexError, ValueError, ZeroDivisionError, RuntimeError):
            continue  # too few steps for the solver
        if result is not None and result[1] <= budget:
            return result[0]
    return None


def jobs(kd: Any, process: str, made: Any) -> Iterator[tuple[str, bool, str, Callable[[int], Any]]]:
    """Name, noise, grid, and budget -> samples."""
    p, levels = PROCESSES[process], levels_of(process, made)

    def on(run: Callable[[np.ndarray], Result], grid: str, steps: int) -> Result | None:
        rho = levels[grid](steps)
        return None if rho is None else run(rho)

    def bounded(order: int, budget: int) -> list[np.ndarray]:
        return [x for x, calls in adaptive(kd, p, order) if calls <= budget]

    for name, passes, noisy, solver in k_solvers(kd):
        for grid in NOISY_GRIDS if noisy else levels:
            run = functools.partial(on, functools.partial(on_levels, solver), grid)
            yield f"k-diffusion {name}", noisy, grid, functools.partial(fit, run, passes)
    yield "k-diffusion dpm_fast", False, "exponential", lambda budget: fast(kd, p, budget)[0]
    for order in (2, 3):
        name = f"k-diffusion dpm_adaptive:order={order}"
        yield name, False, "adaptive", functools.partial(bounded, order)
    for name, passes, noisy, scheduler in schedulers():
        if scheduler.kind != "table" and passes == 1:
            for grid in NOISY_GRIDS if noisy else levels:
                run = functools.partial(on, scheduler.on, grid)
                yield f"diffusers {name}", noisy, grid, functools.partial(fit, run, passes)
        if process == "vp" and not name.startswith("EDM"):
            for grid in (g for g, option in OWN.items() if scheduler.takes(*option)):
                run = functools.partial(scheduler.own, grid)
                yield f"diffusers {name}", noisy, grid, functools.partial(fit, run, passes)


def rounded(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def main() -> None:
    warnings.simplefilter("ignore")
    importlib.import_module("diffusers").utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    made = json.loads((HERE / "grids.json").read_text())
    kd, results = k_diffusion(), {}
    for process, p in PROCESSES.items():
        began = time.time()
        for name, noisy, grid, solve in jobs(kd, process, made):
            torch.manual_seed(0)
            path, law = [], []
            for budget in BUDGETS:
                found = solve(budget)
                found = found if isinstance(found, list) else [found]
                found = [x for x in found if x is not None and np.isfinite(x).all()]
                best = min(found, key=lambda x: problem.path_error(x, p.most), default=None)
                path.append(None if best is None else rounded(problem.path_error(best, p.most), 8))
                law.append(None if best is None else rounded(problem.law_error(best), 4))
            entry = results.setdefault(process, {}).setdefault(name, {}).setdefault(grid, {})
            entry |= {"law": law} if noisy else {"path": path, "law": law}
        print(f"{process}: {time.time() - began:.0f} s", flush=True)
    (HERE / "peers.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
