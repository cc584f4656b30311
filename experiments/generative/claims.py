"""What people say of diffusion and what the studies of this repository measured: one table.

Each line reads the output file of a study; `docs/claims.md` shows the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.generative.report import rows
from experiments.markdown import number, table

STABLE = {
    "gaussians": "not shown: failures are blur, not collapse (see the study)",
    "digits": "not shown: no run of any family failed",
    "thumbnails": "not shown: two trials of the GAN failed, in 86 steps, fewer than its warm-up",
}
MODES = {
    "gaussians": "not confirmed: the GAN is about as even as diffusion",
    "digits": "not confirmed: it held at 5e10 FLOPs, and the GAN is as even as diffusion at 5e11",
    "thumbnails": "not confirmed: the GAN is more even than diffusion",
}
"""Verdicts on the families, by data set."""
KINDS = {"gaussians": "modes", "digits": "classes", "thumbnails": "groups"}
"""What the histogram of each data set counts."""
Line = tuple[str, str, str, str]
"""Claim, what was measured, verdict, and the command of the study."""
PLANE = "`python -m experiments.schedules.study`"
STUDY = "`python -m experiments.generative.study --data {}`"
EXTRA = "`python -m experiments.generative.extra`"
TRADEOFFS = "`python -m diffjax.evaluate --steps=5,10,20 --guidance=1,1.5,2.5`"


def _read(root: Path, name: str) -> Any:
    return json.loads((root / name).read_text())


def _mean(cells: Sequence[Mapping[str, float]], key: str) -> str:
    return number(float(np.mean([cell[key] for cell in cells])))


def of_schedules(root: Path) -> list[Line]:
    cells, digits = (_read(root, f"schedules/{n}.json")["cells"] for n in ("plane", "digits"))
    nats = lambda name: _mean(cells[f"schedules: {name}"], "path_nats")
    of = lambda name, key: _mean(cells[f"parameterizations: {name} uniform_output"], key)
    ratio = lambda name: number(
        float(np.mean([c["frechet"] / c["floor"] for c in digits[f"published: {name}"]]))
    )
    return [
        (
            "the cosine schedule is better than the linear one",
            f"KL of paths on three Gaussians {nats('cosine uniform_eps')} against "
            f"{nats('linear uniform_eps')} nats, and even log-SNR {nats('geometric uniform_eps')}",
            "holds, and even log-SNR is better than both",
            PLANE,
        ),
        (
            "eps, x0 or v: v is the safe choice",
            f"KL of paths for eps {of('eps', 'path_nats')}, x0 {of('x0', 'path_nats')}, v "
            f"{of('v', 'path_nats')} nats; sliced W2 of samples {of('eps', 'w2')}, "
            f"{of('x0', 'w2')}, {of('v', 'w2')}; Frechet over floor on digits: improved DDPM (eps) "
            f"{ratio('improved DDPM')}, v {ratio('v')}",
            "holds",
            PLANE,
        ),
        (
            "importance sampling of t helps training",
            f"weight of the bound: KL {nats('cosine elbo')} nats with uniform t of the cosine "
            f"schedule, {nats('geometric elbo')} with even log-SNR, which divides the weight out; "
            f"on digits logit-normal against uniform t of a flow {ratio('SD3')} against "
            f"{ratio('flow')} times the floor",
            "holds for the bound; small for a flow",
            PLANE,
        ),
    ]


def of_samples(root: Path) -> list[Line]:
    results = _read(root, "tradeoffs/digits.json")["results"]

    def at(sampler: str, steps: int, guidance: float) -> Mapping[str, Any]:
        wanted = (sampler, steps, guidance)
        key = lambda p: (p["sampler"]["name"], p["steps"], p["guidance"])
        return next(r for r in results if key(r["protocol"]) == wanted)

    frechet = lambda *setting: number(at(*setting)["frechet"]["ratio"])
    both = lambda w: at("dpmpp_2m", 20, w)["precision_recall"]
    pair = lambda w: f"{number(both(w)['precision'])} and {number(both(w)['recall'])}"
    steps = lambda name: ", ".join(frechet(name, n, 1.0) for n in (5, 10, 20))
    return [
        (
            "more steps are better",
            f"Frechet over floor on digits in 5, 10, 20 steps: DDIM {steps('ddim')}; "
            f"DPM-Solver++(2M) {steps('dpmpp_2m')}",
            "holds up to 20 steps",
            TRADEOFFS,
        ),
        (
            "guidance trades diversity for fidelity",
            f"precision and recall on digits at guidance 1: {pair(1.0)}, 1.5: {pair(1.5)}, 2.5: "
            f"{pair(2.5)}; Frechet over floor {frechet('dpmpp_2m', 20, 1.0)}, "
            f"{frechet('dpmpp_2m', 20, 1.5)}, {frechet('dpmpp_2m', 20, 2.5)}",
            "holds; the Frechet distance gets worse",
            TRADEOFFS,
        ),
    ]


def of_distillation(root: Path) -> list[Line]:
    methods = _read(root, "few_step/digits.json")["methods"]
    ratio = lambda name, n: number(methods[name]["nfe"][str(n)]["ratio"])
    solver, student = "teacher, DPM-Solver++(2M)", "LMD"
    return [
        (
            "distillation saves steps",
            f"Frechet over floor on digits in 1, 2, 4, 8 passes: LMD "
            f"{', '.join(ratio(student, n) for n in (1, 2, 4, 8))}; the teacher with "
            f"DPM-Solver++(2M) {', '.join(ratio(solver, n) for n in (1, 2, 4, 8))}",
            "holds",
            "`python -m experiments.few_step.digits`",
        )
    ]


def of_families(root: Path) -> list[Line]:
    """Return the lines on stability and modes, of the data sets whose files are there."""
    lines: list[Line] = []
    for name in STABLE:
        if not (root / f"generative/{name}.json").exists():
            continue
        at = _read(root, f"generative/{name}.json")
        ends = {
            label: [made for row in (row["trials"], row["cells"].values()) for made in row]
            for label, row in at["families"].items()
        }
        failed = [f"{k} {sum(c['failed'] for c in v)} of {len(v)}" for k, v in ends.items()]
        spikes = [f"{k} {sum(c['spikes'] for c in v)}" for k, v in ends.items()]
        lines.append(
            (
                f"diffusion trains stably, GANs do not ({name})",
                f"failed runs, trials included: {', '.join(failed)}; loss spikes: "
                f"{', '.join(spikes)}",
                STABLE[name],
                STUDY.format(name),
            )
        )
        last = {label: (n, m) for label, n, m, _ in rows(at, at["budgets"][-1])}
        kls = [f"{k}, {n}: {_mean(m, 'histogram_kl')}" for k, (n, m) in last.items()]
        kind = KINDS[name]
        lines.append(
            (
                f"GANs lose modes, diffusion does not ({name})",
                f"KL of the histogram of {kind} at {at['budgets'][-1]:g} FLOPs, nats (draws of the "
                f"data {number(at['reference']['histogram_kl'])}): {'; '.join(kls)}",
                MODES[name],
                STUDY.format(name),
            )
        )
    return lines


def of_extra(root: Path) -> list[Line]:
    if not (root / "generative/extra.json").exists():
        return []
    report = _read(root, "generative/extra.json")
    by = {k: f"{number(float(np.mean(v)))}" for k, v in report["labels"].items()}
    found = report["repeats"]
    share = lambda c: f"{np.mean(c) / found['samples']:.2%}"
    copies = [f"{n} times: {share(c)} of samples each" for n, c in found["copies"].items()]
    return [
        (
            "labels improve samples",
            f"Frechet over floor on digits without labels {by['without']}, with labels "
            f"{by['with, asked']}; the network with labels, not asked for any, "
            f"{by['with, not asked']}",
            "holds where samples are asked for a class; not for the same network without one",
            EXTRA,
        ),
        (
            "images repeated in the data are memorised",
            f"copies of an image added {', '.join(copies)}",
            "holds from somewhere between 100 and 1,000 copies on",
            EXTRA,
        ),
    ]


PARTS: tuple[Callable[[Path], list[Line]], ...] = (
    of_families,
    of_samples,
    of_schedules,
    of_extra,
    of_distillation,
)


def tables(root: Path) -> dict[str, str]:
    """Return the table of docs/claims.md from the studies in the folder `root`."""
    lines = [line for part in PARTS for line in part(root)]
    return {"claims": table(["claim", "measured", "verdict", "command"], lines)}
