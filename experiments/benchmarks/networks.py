"""Networks beside torch's and stock Flax's of the same shapes: speed, compile time, memory.

    python experiments/benchmarks/networks.py --torch=/path/to/python [--compiled]

Each round measures every side in turn, so that a noisy machine hurts all of them; ratios are
medians over rounds. All have `--threads` cores. On a GPU the networks are larger ones, and the
flags to give are `--dtype=bfloat16 --threads=0` (all cores). torch lives in another environment
(with diffusers), and is left out where `--torch` does not say which.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffjax import cli
from diffjax.denoiser import Denoiser, Model
from diffjax.grids import uniform
from diffjax.nets import dit, unet
from diffjax.nets.costs import costs
from diffjax.nets.network import Network, linen
from diffjax.parameterization import Eps
from diffjax.samplers import ddim, run
from diffjax.schedules import Cosine
from diffjax.sde import VP

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from memory import high_water  # noqa: E402
from stock import DiT, UNet  # noqa: E402

PHASES = ("forward", "train", "sample")


class Case(NamedTuple):
    """A network of some shape, and the batches it is measured with; both sides read it."""

    kind: str
    settings: dict[str, int]
    shape: tuple[int, int, int]
    batch: int
    samples: int


def transformer(width: int, depth: int, heads: int, patch: int, batch: int, samples: int) -> Case:
    settings = {"width": width, "depth": depth, "heads": heads, "patch": patch}
    return Case("dit", settings, (32, 32, 4), batch, samples)


CPU = {
    "U-Net, 64 channels": Case("unet", {"channels": 64}, (32, 32, 3), 8, 1),
    "U-Net, 128 channels": Case("unet", {"channels": 128}, (32, 32, 3), 4, 1),
    "DiT-S/2": transformer(384, 12, 6, 2, 4, 1),
    "DiT-B/4": transformer(768, 12, 12, 4, 8, 1),
}
GPU = {
    "U-Net, 128 channels, many": Case("unet", {"channels": 128}, (32, 32, 3), 256, 256),
    "DiT-B/2": transformer(768, 12, 12, 2, 128, 128),
    "DiT-XL/2": transformer(1152, 28, 16, 2, 64, 64),
}
SMALL = {
    "U-Net, small": Case("unet", {"channels": 32}, (16, 16, 3), 1, 1),
    "DiT, small": transformer(16, 1, 2, 8, 2, 1),
}


def network(case: Case, side: str, dtype: str) -> Network:
    """diffjax's, or that of stock layers."""
    if case.kind == "unet":
        channels = case.settings["channels"]
        if side == "flax":
            return linen(UNet(channels), dtype)
        shape: Any = {"multipliers": (1, 2, 2, 2), "attention": (16,), "heads": 1, "epsilon": 1e-6}
        return unet(channels, **shape, dropout=0.0, dtype=dtype)
    return (
        linen(DiT(**case.settings), dtype) if side == "flax" else dit(**case.settings, dtype=dtype)
    )


class Ours:
    """A network in JAX: what it costs, and `run(phase)`, which does it once."""

    def __init__(self, case: Case, side: str, dtype: str, steps: int):
        net = network(case, side, dtype)
        keys = jax.random.split(jax.random.key(0), 4)
        self.x = jax.random.normal(keys[0], (case.batch, *case.shape))
        c_noise = jnp.linspace(0.0, 999.0, case.batch)
        self.params = jax.jit(lambda key: net.init(key, self.x, c_noise, None))(keys[1])
        self.costs = costs(net, self.x, c_noise, None)
        adamw = optax.adamw(1e-4)
        self.state = (self.params, adamw.init(self.params))

        def train(state, x):
            error = lambda p: ((net.apply(p, x, c_noise, None) - x) ** 2).mean()
            params, memory = state
            updates, memory = adamw.update(jax.grad(error)(params), memory, params)
            return optax.apply_updates(params, updates), memory

        sde = VP(Cosine(), t_min=0.01, t_max=0.99)
        start = jax.random.normal(keys[2], (case.samples, *case.shape))
        table, each = ddim(sde, uniform(sde, steps)), jax.random.split(keys[3], case.samples)
        model = Model(sde, Eps(), net)
        self.programs: dict[str, tuple[Any, tuple]] = {
            "forward": (jax.jit(lambda p, x: net.apply(p, x, c_noise, None)), (self.x,)),
            "train": (jax.jit(train, donate_argnums=0), (self.x,)),
            "sample": (
                jax.jit(lambda p: run(Denoiser(model, {"network": p}), table, start, each).x),
                (),
            ),
        }
        self.compile_seconds = {}

    def compile(self, phase: str) -> None:
        program, rest = self.programs[phase]
        given = self.state if phase == "train" else self.params
        began = time.perf_counter()
        self.programs[phase] = program.lower(given, *rest).compile(), rest
        self.compile_seconds[phase] = time.perf_counter() - began
        if phase == "train":
            self.params = jax.tree.map(jnp.copy, self.params)  # the state is donated

    def run(self, phase: str) -> list[float]:
        """Seconds, and seconds of all cores together."""
        program, rest = self.programs[phase]
        began, busy = time.perf_counter(), time.process_time()
        made = program(self.state if phase == "train" else self.params, *rest)
        jax.block_until_ready(made)
        if phase == "train":
            self.state = made
        return [time.perf_counter() - began, time.process_time() - busy]


class Torch:
    """The same, asked of a process of another environment."""

    def __init__(self, python: str, threads: int):
        command = [python, str(HERE / "networks_torch.py"), str(threads)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # Threads that spin while they wait hurt torch where others use the machine too. And as in
        # this process, see `cli.keep_memory`, memory is kept (glibc reads these names).
        env = {**os.environ, "OMP_WAIT_POLICY": "passive", "MALLOC_ARENA_MAX": "1"}
        env |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
        self.process = subprocess.Popen(command, env=env, **pipes)

    def ask(self, name: str, **settings: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        print(json.dumps([name, settings]), file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line[len("answer ") :])
        raise RuntimeError(f"torch stopped at {name} {settings}")

    def run(self, phase: str) -> list[float]:
        return self.ask("run", what=phase)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@functools.cache
def _product(dtype: str) -> Any:
    return jax.jit(lambda a: jnp.dot(a, a))


def matmul_rate(size: int, dtype: str) -> float:
    """Multiply-adds per second, counted twice, of one square product."""
    a = jnp.ones((size, size), dtype)
    jax.block_until_ready(_product(dtype)(a))
    began, n = time.perf_counter(), 4
    jax.block_until_ready([_product(dtype)(a) for _ in range(n)])
    return 2 * n * size**3 / (time.perf_counter() - began)


class Options(NamedTuple):
    torch: str = ""
    compiled: bool = False
    dtype: str = "float32"
    rounds: int = 5
    steps: int = 50
    threads: int = 2
    matmul: int = 2048


def measure(case: Case, options: Options) -> dict[str, dict[str, Any]]:
    """Seconds (2, rounds) per side and phase; costs; the rate of matrix products in each round."""
    ours = {s: Ours(case, s, options.dtype, options.steps) for s in ("diffjax", "flax")}
    sides: dict[str, Any] = dict(ours)
    if options.torch:
        given = {"case": case._asdict(), "dtype": options.dtype, "steps": options.steps}
        for name in ("torch",) + ("torch.compile",) * options.compiled:
            sides[name] = Torch(options.torch, options.threads)
            sides[name].ask("open", compiled="." in name, **given)
    made: dict[str, dict[str, Any]] = {name: {} for name in sides}
    rates = []
    for phase in PHASES:
        for side in ours.values():
            side.compile(phase)
        for side in sides.values():
            side.run("first" if phase == "sample" and isinstance(side, Torch) else phase)
        rounds = []
        for _ in range(max(1, options.rounds // 2) if phase == "sample" else options.rounds):
            rates.append(matmul_rate(options.matmul, options.dtype))
            rounds.append([side.run(phase) for side in sides.values()])
        for name, seconds in zip(sides, np.transpose(rounds, (1, 2, 0)), strict=True):
            made[name][phase] = seconds
    for name, side in sides.items():
        if isinstance(side, Torch):
            side.close()
        else:
            made[name]["compile"] = side.compile_seconds
    first = ours["diffjax"].costs
    made["costs"] = {"forward": first.flops, "train": first.gradient_flops}
    made["costs"] |= {"parameters": first.parameters, "rate": max(rates), "rates": rates}
    return made


def peak(name: str, side: str, options: Options) -> float:
    """MB at most in a fresh process that makes two train steps (on a GPU: device memory)."""
    if side == "torch":
        worker, case = Torch(options.torch, options.threads), CASES[name]
        worker.ask("open", case=case._asdict(), dtype=options.dtype, compiled=False, steps=1)
        for _ in range(2):
            worker.run("train")
        made = worker.ask("peak")
        worker.close()
        return made
    command = [sys.executable, __file__, "--peak", name, side, options.dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_here(name: str, side: str, dtype: str) -> float:
    """What `peak` asks a fresh process for."""
    ours = Ours(CASES[name], side, dtype, steps=1)
    ours.compile("train")
    for _ in range(2):
        ours.run("train")
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] / 2**20 if stats else high_water()


def show(name: str, case: Case, made: dict[str, dict[str, Any]], steps: int) -> None:
    """Seconds; in brackets how many times as fast diffjax is: by the clock; by time of all cores.

    Takes the costs out of `made`.
    """
    about = made.pop("costs")
    print(
        f"\n{name}: {about['parameters'] / 1e6:.1f} M parameters, batch {case.batch} of "
        f"{case.shape}, {case.samples} samples; GFLOPs forward {about['forward'] / 1e9:.4g}, with "
        f"gradient {about['train'] / 1e9:.4g}; matrix product {about['rate'] / 1e9:.4g} GFLOP/s "
        f"(median {np.median(about['rates']) / 1e9:.4g})"
    )
    for phase in PHASES:
        ours, shown = made["diffjax"][phase], []
        for side, phases in made.items():
            text = f"{side} {np.median(phases[phase][0]):.4g} s"
            if side != "diffjax":
                wall, busy = np.median(phases[phase] / ours, axis=1)
                text += f" ({wall:.2f}; {busy:.2f})"
            shown.append(text)
        if phase != "sample":
            parts = (about[phase] / f(ours[0]) / about["rate"] for f in (np.median, np.min))
            median, best = (f"{part:.0%}" for part in parts)
            shown.append(f"{median} of the matrix product's rate, {best} at best")
        label = f"{steps} DDIM steps" if phase == "sample" else phase
        print(f"  {label}: {', '.join(shown)}")
    for side, compiled in made.items():
        if "compile" in compiled:
            parts = (f"{k} {v:.1f} s" for k, v in compiled["compile"].items())
            print(f"  {side} compiled: {', '.join(parts)}")


def compile_seconds(size: str, dtype: str, batch: int = 2) -> float:
    """To lower and compile the train step of a DiT of this size, from shapes alone."""
    net, adamw = dit(size, dtype=dtype), optax.adamw(1e-4)
    x, c_noise = jax.ShapeDtypeStruct((batch, 32, 32, 4), jnp.float32), jnp.zeros(batch)

    def start(key):
        params = net.init(key, jnp.zeros(x.shape), c_noise, None)
        return params, adamw.init(params)

    def train(state, x):
        error = lambda p: ((net.apply(p, x, c_noise, None) - x) ** 2).mean()
        updates, memory = adamw.update(jax.grad(error)(state[0]), state[1], state[0])
        return optax.apply_updates(state[0], updates), memory

    shapes = jax.eval_shape(start, jax.random.key(0))
    began = time.perf_counter()
    jax.jit(train, donate_argnums=0).lower(shapes, x).compile()
    return time.perf_counter() - began


CASES = {**CPU, **GPU, **SMALL}


def compare(cases: dict[str, Case], options: Options, memory: bool = True) -> None:
    """Everything, printed."""
    if not options.torch:
        print("torch is left out: no --torch")
    for name, case in cases.items():
        show(name, case, measure(case, options), options.steps)
        if memory:
            sides = ("diffjax", "flax") + ("torch",) * bool(options.torch)
            mb = (f"{side} {peak(name, side, options):,.0f} MB" for side in sides)
            print(f"  peak memory of two train steps: {', '.join(mb)}", flush=True)


def main() -> None:
    cli.keep_memory()
    if sys.argv[1:2] == ["--peak"]:
        print(peak_here(*sys.argv[2:]))
        return
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--small", action="store_true", help="tiny shapes")
    flags.add_argument("--only", default="", help="networks with this in their name")
    for name, value in Options()._asdict().items():
        more = {"action": "store_true"} if value is False else {"type": type(value)}
        flags.add_argument(f"--{name}", default=value, **more)
    given = vars(flags.parse_args())
    small, only = given.pop("small"), given.pop("only")
    options = Options(**given)
    if options.threads:  # before JAX makes its own; torch's process inherits it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    gpu = jax.default_backend() == "gpu"
    chosen = SMALL if small else GPU if gpu else CPU
    if not small and not only:
        pairs = [[compile_seconds(size, options.dtype) for size in ("S", "XL")] for _ in range(3)]
        s, xl = np.median(pairs, axis=0)
        print(f"train step compiled: DiT-S/2 {s:.2f} s, DiT-XL/2 {xl:.2f} s, ratio {xl / s:.2f}")
    compare({k: c for k, c in chosen.items() if only in k}, options)


if __name__ == "__main__":
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # torch is on the device too
    main()
