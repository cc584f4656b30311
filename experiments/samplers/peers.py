"""The same for diffusers and k-diffusion: writes peers.json.

    pip install torch diffusers torchsde torchdiffeq scipy tqdm
    pip install --no-deps k-diffusion
    python experiments/samplers/peers.py

Their published solvers, on the grids of `diffjax.grids`, on their own, and on those of grids.json.
Nothing of JAX is imported.
"""

import functools
import importlib
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
from schedulers import OWN, Result, schedulers, to_data


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


NOISY_GRIDS = ("karras", "exponential", "for ddim", "for dpmpp_2m")
"""Samplers with noise run on these, and on their own."""


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
