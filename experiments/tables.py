"""The tables of every study, by name, from the files that its commands write."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.report import evaluated
from experiments.adapters import control, steps, style
from experiments.adapters import study as adapters
from experiments.benchmarks import serving
from experiments.caching import study as caching
from experiments.caching import text as caching_text
from experiments.cascades import study as cascades
from experiments.clouds import completion
from experiments.clouds import study as clouds
from experiments.diamonds import study as diamonds
from experiments.discrete import study as discrete
from experiments.discrete import words
from experiments.distill3d import study as distill3d
from experiments.few_step import distilled
from experiments.few_step import plane as few_step_plane
from experiments.few_step import study as few_step
from experiments.few_step.cifar import CIFAR
from experiments.few_step.digits import DIGITS
from experiments.forecasts import imputation, relief
from experiments.forecasts import study as forecasts
from experiments.generative import claims, extra
from experiments.generative import report as generative
from experiments.guidance import study as guidance
from experiments.inverse import study as inverse
from experiments.joint import clips as joint_clips
from experiments.joint import study as joint
from experiments.lanes import study as lanes
from experiments.latent import study as latent
from experiments.markdown import table
from experiments.molecules import study as molecules
from experiments.particles import study as particles
from experiments.policies import planning
from experiments.policies import study as policies
from experiments.quantization import study as quantization
from experiments.schedules import study as schedules
from experiments.spoken import study as spoken
from experiments.text import study as text
from experiments.toys import study as toys
from experiments.video import compiling
from experiments.video import study as video
from experiments.vocoder import study as vocoder
from experiments.watermark import study as watermark
from experiments.wells import study as wells

HERE = Path(__file__).parent
Tables = dict[str, str]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def of_evaluation(name: str, file: str = "evaluation.json") -> Callable[[Path], Tables]:
    """The table that `evaluate` prints."""
    return lambda folder: {name: evaluated.markdown(read(folder / file)["results"])}


def tradeoffs(folder: Path) -> Tables:
    """Of the digits, and of CIFAR-10 where there is one: short settings leave it out."""
    files = {"tradeoffs": "digits.json", "tradeoffs-cifar10": "cifar10.json"}
    there = [name for name, file in files.items() if (folder / file).exists()]
    return {k: v for name in there for k, v in of_evaluation(name, files[name])(folder).items()}


def forecasts_and_imputation(folder: Path) -> Tables:
    """Of the runs that there are: short settings have one."""
    made = forecasts.tables(folder)
    for study in (imputation, relief):
        made |= study.tables(folder) if (folder / study.FILE).exists() else {}
    return made


def policies_and_plans(folder: Path) -> Tables:
    """Of the runs that there are: short settings have no plans."""
    there = (folder / planning.FILE).exists()
    return policies.tables(folder) | (planning.tables(folder) if there else {})


def videos_and_compilation(folder: Path) -> Tables:
    """Of the files that there are: short settings do not compile all networks."""
    there = (folder / compiling.FILE).exists()
    return video.tables(folder) | (compiling.tables(folder) if there else {})


def ema(folder: Path) -> Tables:
    report = read(folder / "digits.json")
    made = [
        [
            f"{row['std']:.2f}",
            *(f"{row[k]:.1e}" if row[k] else "0" for k in ("parameters", "profile")),
        ]
        for row in report["against_tracked"]
    ]
    found = [
        [f"{row['std']:.2f}" if row["std"] else "raw", f"{np.mean(row['frechet']):.4f}"]
        for row in report["quality"]
    ]
    return {
        "ema-made": table(["std", "error of the parameters", "error of the profile"], made),
        "ema-samples": table(
            ["parameters: std", "Frechet"], [*found, ["floor", f"{report['floor']:.4f}"]]
        ),
    }


def augmentation(folder: Path) -> Tables:
    rows = read(folder / "leak.json")
    percent = ([images, f"{share:.1%}"] for images, share in rows.items())
    return {"augmentation": table(["images", "judged to be turned"], percent)}


def faults(folder: Path) -> Tables:
    found = read(folder / "kills.json")
    rows = [[f"kills, {where}", str(count)] for where, count in found["kills"].items()]
    rows += [
        ["launches recorded in launches.jsonl", str(found["launches"])],
        [
            "lines of metrics compared, different",
            f"{found['lines_seen']:,}, {found['lines_different']}",
        ],
        ["final states equal", str(found["states_equal"])],
        [
            "seconds uninterrupted, killed",
            f"{found['seconds']['whole']}, {found['seconds']['killed']}",
        ],
    ]
    tables = {"faults": table(["", ""], rows)}
    if (folder / "cluster.json").exists():  # needs the extra `ray`, which short settings lack
        found = read(folder / "cluster.json")
        parts = {"of a data set": found["data"], "over HTTP": found["service"]}
        rows = [[f"{name}, {of}", str(n)] for of, all in parts.items() for name, n in all.items()]
        tables["faults-cluster"] = table(["", ""], rows)
    return tables


def likelihood(folder: Path) -> Tables:
    networks = {name: read(folder / f"{name}.json")["network"] for name in ("plain", "weighted")}
    heads = ["network", "images", "`vlb`", "prior", "diffusion", "decoder", "images", "`bpd`"]
    lines = [[name, *_bits(found)] for name, found in networks.items()]
    kept = [str(l) for l in range(-4, 11, 2)]
    levels = (
        [name, *(f"{found['vlb']['at_logsnr'][l]:.3f}" for l in kept)]
        for name, found in networks.items()
    )
    made = {"likelihood": table(heads, lines), "likelihood-levels": table(["", *kept], levels)}
    if (folder / "cifar.json").exists():
        line = _bits(read(folder / "cifar.json")["network"])
        made["likelihood-cifar"] = table(heads[1:], [line])
    return made


def _bits(found: Mapping[str, Any]) -> list[str]:
    vlb, bpd = found["vlb"], found["bpd"]
    told = lambda r: f"{r['bits']:.3f} +- {r['standard_error']:.3f}"
    terms = [f"{vlb['prior']:.5f}", f"{vlb['diffusion']:.3f}", f"{vlb['decoder']:.3f}"]
    return [f"{vlb['count']:,}", told(vlb), *terms, f"{bpd['count']:,}", told(bpd)]


def samplers(folder: Path) -> Tables:
    """Quality against passes; `exact.md` has the tables of exact scores."""
    made = {}
    for name in ("digits", "cifar"):
        if (path := folder / f"{name}.json").exists():
            made[f"samplers-{name}"] = _by_passes(read(path)["rows"], ratio=name == "digits")
    return made


def _by_passes(rows: Mapping[str, Any], ratio: bool) -> str:
    """Distance to the limit, and Frechet distance over its floor, by sampler and passes."""
    runs = [key.rsplit(" ", 1) for key in rows if not key.endswith(" timed")]
    passes = sorted({int(n) for _, n in runs})

    def cell(sampler: str, n: int) -> str:
        row = rows.get(f"{sampler} {n}", {})
        error = [f"{row['error']:.1f}"] if "error" in row else []
        return ", ".join(error + ([f"{row['ratio']:.2f}"] if ratio and row else [])) or "-"

    names = dict.fromkeys(name for name, _ in runs)
    lines = [[name, *(cell(name, n) for n in passes)] for name in names]
    told = [line for line in lines if set(line[1:]) != {"-"}]
    return table(["sampler", *(f"{n} passes" for n in passes)], told)


def few_steps(folder: Path) -> Tables:
    """Distances to the exact map on the line, sliced distances in the plane, and images."""
    line, plane = few_step.tables(folder), few_step_plane.tables(folder)
    return line | plane | distilled.tables(DIGITS, folder) | distilled.tables(CIFAR, folder)


STUDIES: dict[str, Callable[[Path], Tables]] = {
    "digits": of_evaluation("digits"),
    "cifar10_cpu": of_evaluation("cifar10_cpu"),
    "tradeoffs": tradeoffs,
    "ema": ema,
    "augmentation": augmentation,
    "faults": faults,
    "benchmarks": serving.tables,
    "likelihood": likelihood,
    "samplers": samplers,
    "toys": toys.tables,
    "schedules": schedules.tables,
    "guidance": guidance.tables,
    "inverse": inverse.tables,
    "particles": particles.tables,
    "adapters": lambda folder: {
        **adapters.tables(folder),
        **steps.tables(folder),
        **style.tables(folder),
        **control.tables(folder),
    },
    "vocoder": vocoder.tables,
    "spoken": spoken.tables,
    "discrete": lambda folder: {**discrete.tables(folder), **words.tables(folder)},
    "distill3d": distill3d.tables,
    "joint": lambda folder: {**joint.tables(folder), **joint_clips.tables(folder)},
    "lanes": lanes.tables,
    "video": videos_and_compilation,
    "policies": policies_and_plans,
    "forecasts": forecasts_and_imputation,
    "diamonds": diamonds.tables,
    "molecules": molecules.tables,
    "clouds": lambda folder: {**clouds.tables(folder), **completion.tables(folder)},
    "wells": wells.tables,
    "caching": lambda folder: {**caching.tables(folder), **caching_text.tables(folder)},
    "cascades": cascades.tables,
    "few_step": few_steps,
    "generative": lambda folder: {**generative.tables(folder), **extra.tables(folder)},
    "latent": latent.tables,
    "quantization": quantization.tables,
    "watermark": watermark.tables,
    "text": text.tables,
}


def documents() -> list[Path]:
    """Every document that has tables."""
    docs = HERE.parent / "docs"
    found = [*sorted(HERE.glob("*/README.md")), docs / "claims.md", docs / "results.md"]
    return [path for path in found if "<!-- table: " in path.read_text()]


def committed() -> Tables:
    """All tables, from the files that lie beside the studies."""
    made: Tables = {}
    for name, tables in STUDIES.items():
        made |= tables(HERE / name)
    return made | claims.tables(HERE)
