"""What do INT8 weights and inputs do to samples, sizes and times?

    python -m experiments.quantization.study --workdir=runs/digits --out=experiments/quantization
    python -m experiments.quantization.study --workdir=runs/digits --out=runs/int8 \\
        --kinds onnx onnx_w8a8

Samples the same noise with a network in floats and in INT8, by DDIM with several numbers of steps,
and measures the Frechet distance to the training data over its floor, the root mean square distance
from the samples in floats, the bytes of the weights and the CPU time of a network pass. The kinds
`onnx` run in onnxruntime, with its own INT8, and need its packages (see `tools.export`). Rows of
other kinds in the file stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.gaussian import frechet
from diffjax.export import onnx_file, program, quantized
from diffjax.files import write_text
from diffjax.runs.distilling import reference
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import number, table

BATCH, REPEATS = 50, 40
"""Samples of a pass, and passes of a timing."""
STEPS = (5, 30)
Denoise = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""x, t, label -> x0, eps."""
NAMES = {
    "floats": "floats",
    "w8": "INT8 weights",
    "w8a8": "INT8 weights and inputs",
    "onnx": "onnxruntime, floats",
    "onnx_w8a8": "onnxruntime, INT8 weights and inputs",
}


def ddim(trained: Trained, denoise: Denoise, steps: int, num: int) -> np.ndarray:
    """Return samples of labels in turn, the same noise for every network (arXiv:2010.02502)."""
    job = trained.job(sampler="ddim", steps=steps)
    times = np.append(np.asarray(job.plan.table.t), 0)  # pyright: ignore[reportAttributeAccessIssue]
    noise = np.random.default_rng(0).normal(size=(num, *job.form.shape)).astype(np.float32)
    levels = [
        [float(f(jnp.float32(t))) for t in times] for f in (trained.sde.alpha, trained.sde.sigma)
    ]
    label, samples = job.conditions(num)["label"], []
    for i in range(0, num, BATCH):
        x = levels[1][0] * noise[i : i + BATCH]
        for k, t in enumerate(times[:-1]):
            full = np.full(BATCH, t, np.float32)
            x0, eps = denoise(x, full, label[i : i + BATCH])
            x = np.asarray(levels[0][k + 1] * x0 + levels[1][k + 1] * eps, np.float32)
        samples.append(x)
    return np.concatenate(samples)


def seconds(networks: Mapping[str, Denoise], shape: tuple[int, ...]) -> dict[str, float]:
    """Return the least CPU time of a pass of a batch of each network, measured in turn."""
    x, t = np.zeros((BATCH, *shape), np.float32), np.full(BATCH, 0.5, np.float32)
    label, times = np.zeros(BATCH, np.int32), {name: [] for name in networks}
    for _ in range(1 + REPEATS):
        for name, denoise in networks.items():
            start = time.process_time()
            denoise(x, t, label)
            times[name].append(time.process_time() - start)
    return {name: min(each[1:]) for name, each in times.items()}


def in_jax(trained: Trained, kind: str) -> tuple[Denoise, int]:
    """Return a network in JAX, and the bytes of its weights."""
    job = trained.job()
    if kind != "floats":
        x = jax.ShapeDtypeStruct((2, *job.form.shape), jnp.float32)
        job = dataclasses.replace(
            job, denoise=quantized(trained.denoise, kind, x, job.conditions(2))
        )
    network = program("network", job)
    compiled = jax.jit(network.call)

    def denoise(x: np.ndarray, t: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = compiled(network.weights, {"x": x, "t": t, "label": label})
        return np.asarray(found["x0"]), np.asarray(found["eps"])

    return denoise, sum(a.nbytes for a in network.weights.values())


def in_onnx(trained: Trained, kind: str) -> tuple[Denoise, int]:
    """Return a network in onnxruntime, and the bytes of its file."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    folder = Path(tempfile.mkdtemp())
    onnx_file.write(program("network", trained.job()), folder, BATCH)
    if kind.endswith("w8a8"):
        onnx_file.quantize(folder, BATCH)
    session = onnxruntime.InferenceSession(
        folder / onnx_file.FILE, providers=["CPUExecutionProvider"]
    )

    def denoise(x: np.ndarray, t: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x0, eps = session.run(["x0", "eps"], {"x": x, "t": t, "label": label.astype(np.int32)})
        return x0, eps

    return denoise, (folder / onnx_file.FILE).stat().st_size


def measured(trained: Trained, real: Real, denoise: Denoise, floats: Any, num: int) -> Any:
    """Return the measures of samples by steps; `floats` has those of the first network."""
    form, label, found = trained.experiment.form, trained.job().conditions(num)["label"], {}
    for steps in STEPS:
        x = ddim(trained, denoise, steps, num)
        ratio = frechet(real, Samples(form.denormalise(x), label))["ratio"]
        away = float(np.sqrt(np.mean((x - floats.setdefault(steps, x)) ** 2)))
        found[str(steps)] = {"ratio": round(ratio, 3), "away": away}
        print(f"{steps} steps: {found[str(steps)]}", flush=True)
    return found


def study(workdir: Path, out: Path, num: int, kinds: Sequence[str], times: bool) -> None:
    """Measure networks of these kinds, and write their rows to quantization.json."""
    trained, file = load(workdir), out / "quantization.json"
    about = {"num": num, "batch": BATCH, "trained": trained.step}
    stored = json.loads(file.read_text()) if file.exists() else {}
    rows = stored["rows"] if stored.get("about") == about else {}
    floats: dict[int, np.ndarray] = {}
    networks: dict[str, Denoise] = {}
    with tempfile.TemporaryDirectory() as place:
        real = reference(trained.config, trained.experiment.form, None, Path(place))
        for kind in NAMES:
            if kind not in ("floats", *kinds):
                continue
            runs_in = in_onnx if kind.startswith("onnx") else in_jax
            networks[kind], size = runs_in(trained, kind)
            print(NAMES[kind], size, flush=True)
            if not times:
                found = measured(trained, real, networks[kind], floats, num)
                rows[kind] = {"bytes": size, **found}
    for kind, each in seconds(networks, trained.experiment.form.shape).items():
        rows[kind]["seconds"] = each
    rows = {kind: rows[kind] for kind in NAMES if kind in rows}
    text = json.dumps({"about": about, **provenance(), "rows": rows}, indent=1)
    write_text(file, text + "\n")


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README."""
    file = folder / "quantization.json"
    if not file.exists():
        return {}
    rows = json.loads(file.read_text())["rows"]
    heads = ["network", "bytes", "CPU ms per pass of 50"]
    heads += [
        f"{n} steps: {what}" for n in STEPS for what in ("Frechet / floor", "RMS from floats")
    ]
    lines = [
        [
            name,
            f"{rows[kind]['bytes']:,}",
            number(1000 * rows[kind]["seconds"]) if "seconds" in rows[kind] else "-",
            *(
                text
                for n in STEPS
                for text in (
                    f"{rows[kind][str(n)]['ratio']:.3f}",
                    f"{rows[kind][str(n)]['away']:.4f}",
                )
            ),
        ]
        for kind, name in NAMES.items()
        if kind in rows
    ]
    return {"quantization": table(heads, lines)}


def main() -> None:
    """Parse flags and run the study."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--workdir", type=Path, required=True, help="run of digits")
    flags.add_argument("--out", type=Path, required=True, help="folder of the results")
    flags.add_argument("--num", type=int, default=1000, help=f"samples, a multiple of {BATCH}")
    flags.add_argument(
        "--kinds", nargs="+", choices=NAMES, default=["w8", "w8a8"], help="beside floats"
    )
    flags.add_argument("--times", action="store_true", help="measure times again, and nothing else")
    asked = flags.parse_args()
    cli.set_up_jax()
    asked.out.mkdir(parents=True, exist_ok=True)
    study(asked.workdir, asked.out, asked.num, asked.kinds, asked.times)


if __name__ == "__main__":
    main()
