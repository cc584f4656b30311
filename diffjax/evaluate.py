"""Evaluate a trained run, or samples from elsewhere.

    python -m diffjax.evaluate --workdir=runs/digits
    python -m diffjax.evaluate --workdir=runs/digits --sampler=ddim,dpmpp_2m:eta=1 --steps=10,20,50
    python -m diffjax.evaluate --workdir=runs/digits --metrics=bpd:repeats=4,vlb --split=test
    python -m diffjax.evaluate --samples=theirs.npz --data=tfds:cifar10
    python -m diffjax.evaluate --table runs/*

Of samples: each combination of what --ema, --sampler, --guidance and --steps list is a job, a line
of the table. Its samples are kept in WORKDIR/evaluation, batch by batch: killed, the same command
resumes and gives the same numbers, other metrics take the samples that there are, and a larger
--num adds to them. `frechet` is the Frechet distance to the training set in what --features names,
with its floor, real half against real half at equal counts; `classifier`, the share of samples that
a classifier fitted on the real training set assigns to the class asked for, beside its share of
right answers on the real test set; `memorization`, the distance to the nearest training item,
beside that of held-out items. --list shows the others, and all features.

Of the network on the images of --data and --split, in bits per dimension: `bpd`, by the
probability-flow ODE, and `vlb`, the variational bound. What is done is kept in WORKDIR/likelihood.

A table here, everything with its protocol in WORKDIR/evaluation.json, trade-offs in a picture
beside it. --samples scores what another program made, and writes SAMPLES.evaluation.json.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.data.form import Form
    from diffjax.evaluation import Real, Samples
    from diffjax.generation import Job

OF_SAMPLES = "frechet,classifier,memorization"
NUM, LEAST = 1000, 4
RESULT, FOLDER = "evaluation.json", "evaluation"


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("evaluate", __doc__)
    flags.add_argument(
        "--metrics",
        help=f"name[:setting=value,...],..., see --list ({OF_SAMPLES}; no classifier without "
        f"labels)",
    )
    flags.add_argument(
        "--features",
        help="what metrics compare, e.g. classifier, inception:weights=PATH; --list shows all "
        "(those of the kind of data: pixels, the values themselves)",
    )
    flags.add_argument(
        "--samples",
        type=cli.path,
        help=".npz (uint8 arr_0, labels arr_1) or folder of images that another program made, to "
        "compare with the data of --data, or of --workdir",
    )
    flags.add_argument(
        "--table",
        nargs="+",
        type=cli.path,
        help="print what runs, or files as this command writes them, have as Markdown, and end",
    )
    flags.add_argument(
        "--num", type=cli.positive, help=f"samples of a job ({NUM}), of a file (all)"
    )
    flags.add_argument(
        "--real", type=cli.positive, default=50_000, help="most real items per split"
    )
    cli.data_flags(flags)
    cli.sampling_flags(flags, lists=True)
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    given = cli.read(flags())
    if given.table:
        return table(given.table)
    if not given.workdir and not (given.samples and given.data):
        raise ConfigError("--workdir: missing; only --samples with --data does without")
    for flag, count in (("num", given.num), ("real", given.real)):
        if count and count < LEAST:
            raise ConfigError(f"--{flag}={count}: needs at least {LEAST}")

    from diffjax import builder
    from diffjax.devices.processes import first
    from diffjax.evaluation.beforehand import beforehand
    from diffjax.files import reason, write_text
    from diffjax.training.workdir import provenance, read_config

    cli.start(given)
    config = read_config(given.workdir) if given.workdir else {}
    of_samples, of_network = builder.construct_metrics(given.metrics or OF_SAMPLES, "--metrics")
    path = place(given)
    for name, metric in (of_samples | of_network).items():
        builder.refuse(f"--metrics={name}")(beforehand)(metric)
    check_place(given, path)
    report = stored(path) | {"config": config} | provenance()
    if of_network:
        found = network(given, of_network)
        report["network"] = report.get("network", {}) | found
        show_network(found)
    if of_samples:
        report["results"] = results(given, config, of_samples)
        show(report["results"], path.with_suffix(".png"))
    if first():
        try:
            write_text(path, json.dumps(report, indent=2) + "\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({reason(error)})") from error
    print(f"wrote {path}")
    if of_samples and not given.samples:
        size = sum(file.stat().st_size for file in (given.workdir / FOLDER).rglob("*.npz"))
        print(f"kept {size / 1e6:.1f} MB in {given.workdir / FOLDER}: delete as you like")
    return 0


def table(paths: list[Path]) -> int:
    """Print what is stored there as one table."""
    from diffjax.report import evaluated

    found, notes = evaluated.gathered([p / RESULT if p.is_dir() else p for p in paths])
    if not found:
        raise ConfigError(f"--table: nothing evaluated there ({'; '.join(notes)})")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(evaluated.markdown(found))
    return 0


def place(given: argparse.Namespace) -> Path:
    """The file that is written: in the workdir, or beside samples from elsewhere."""
    if not given.samples:
        return given.workdir / RESULT
    return given.samples.with_name(f"{given.samples.name.removesuffix('.npz')}.{RESULT}")


def check_place(given: argparse.Namespace, path: Path) -> None:
    """Refuse a place that cannot be written, before anything is computed."""
    from diffjax.devices.processes import first
    from diffjax.files import check_writable, reason

    if not path.parent.is_dir():  # of samples that are not there, which is said elsewhere
        return
    try:
        if first():
            check_writable(path)
    except OSError as error:
        flag = "--samples" if given.samples else "--workdir"
        there = given.samples or given.workdir
        raise ConfigError(
            f"{flag}={there}: {path} cannot be written ({reason(error)}), and samples, features "
            f"and results are kept beside it: copy {there} to where you may write"
        ) from error


def stored(path: Path) -> dict[str, Any]:
    """What earlier commands measured, each with its protocol."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {k: found[k] for k in ("results", "network") if k in found}


def network(given: argparse.Namespace, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of the network on images, by name."""
    from diffjax import builder

    names = ", ".join(metrics)
    if given.samples:
        raise ConfigError(f"--metrics={names}: of a network, and --samples has none")
    if len(given.ema or ()) > 1:
        raise ConfigError(f"--ema={','.join(given.ema)}: one at a time for {names}")
    from diffjax.runs.subject import subject

    asked = subject(
        given.workdir,
        data=given.data,
        split=given.split,
        seed=given.seed,
        batch_size=given.batch_size,
        ema=(given.ema or [None])[0],
    )
    return {k: builder.refuse(f"--metrics={k}")(m)(asked) for k, m in metrics.items()}


def results(
    given: argparse.Namespace, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The metrics of each job, or of the samples from elsewhere, with their protocols."""
    from diffjax import builder
    from diffjax.evaluation import Real
    from diffjax.features.judge import judged
    from diffjax.runs.subject import data_section

    spec = data_section(given.data) if given.data else config["data"]
    where = "--data" if given.data else "config.data"
    source, reading = builder.construct_data(spec, where)
    train = source("train").form
    form, classes = dataclasses.replace(train, shape=reading.shape(source("train"))), train.classes
    made = elsewhere(given, form) if given.samples else ours(given, form)
    refuse = builder.refuse("evaluation")
    folder = given.workdir / FOLDER if given.workdir else given.samples.parent
    folder.mkdir(exist_ok=True)
    features = given.features or form.items.features
    extractor = builder.construct_features(features, "--features")
    try:
        real = refuse(Real)(source, reading, given.real, folder, extractor)
        builder.check_features(metrics, real.extractor.name, "--metrics")
    except ConfigError:
        with contextlib.suppress(OSError):  # it holds results of earlier commands
            folder.rmdir()
        raise
    about, found = compared(real, given.data or spec["name"]), []
    for protocol, samples in made:
        told = classes and samples.label is not None and judged(form)
        chosen = {k: m for k, m in metrics.items() if given.metrics or told or k != "classifier"}
        values = {name: refuse(metric)(real, samples) for name, metric in chosen.items()}
        found.append({"protocol": protocol | about} | values)
    return found


def compared(real: Real, name: str) -> dict[str, Any]:
    """What the protocol says of the real data, and of what is compared."""
    from diffjax.evaluation.samples import digest

    seen, splits = real.extractor, {"train": real.train, "test": real.test}
    told = {split: {"items": len(of), "sha256": digest(of)} for split, of in splits.items()}
    features = {"name": seen.name, "fingerprint": seen.fingerprint, "about": seen.about}
    return {"features": features, "reference": {"data": name} | told}


def ours(given: argparse.Namespace, form: Form) -> Iterator[tuple[dict[str, Any], Samples]]:
    """The protocol and the samples of one job after the other; refused before any is made."""
    from diffjax.evaluation import Samples

    asked = jobs(given)
    known = asked[0].form
    if (form.kind, form.shape) != (known.kind, known.shape):
        raise ConfigError(
            f"--data={given.data}: {form.kind} items of shape {form.shape}: the network makes "
            f"{known.kind} {known.shape}"
        )

    def sampled(one: Job) -> tuple[dict[str, Any], Samples]:
        print(one)
        made = one.samples(given.num or NUM, given.workdir / FOLDER / one.key)
        return one.protocol(made), Samples(made.x, made.label)

    return map(sampled, asked)


def jobs(given: argparse.Namespace) -> list[Job]:
    """Each combination of what the flags list. ConfigError for one that cannot be sampled."""
    from diffjax.runs.trained import load, resampled

    networks = {ema: load(given.workdir, ema=ema) for ema in given.ema or [None]}
    conditional = any(found.experiment.form.conditions for found in networks.values())
    weights = given.guidance or ([1.0, 1.5] if conditional else [1.0])
    lists = {"ema": networks, "sampler": given.sampler, "guidance": weights, "steps": given.steps}
    found = []
    for values in itertools.product(*(v or [None] for v in lists.values())):
        one = argparse.Namespace(**vars(given) | dict(zip(lists, values, strict=True)))
        trained = resampled(networks[one.ema], cli.sampling(one))
        found.append(trained.job(seed=one.seed, batch_size=one.batch_size))
    return found


def elsewhere(given: argparse.Namespace, form: Form) -> list[tuple[dict[str, Any], Samples]]:
    """What is known of the samples of another program, and they."""
    from diffjax import builder
    from diffjax.data import Memory
    from diffjax.evaluation.elsewhere import read
    from diffjax.evaluation.samples import digest

    refuse = builder.refuse(f"--samples={given.samples}")
    samples = refuse(read)(given.samples, form, given.num)
    if len(samples.x) < LEAST:
        raise ConfigError(f"--samples={given.samples}: {len(samples.x)}; needs at least {LEAST}")
    told = {"samples": str(given.samples), "num": len(samples.x)}
    return [(told | {"sha256": digest(Memory(samples.x, kind=form.kind))}, samples)]


def show(found: list[dict[str, Any]], picture: Path) -> None:
    """The table on the screen, and the trade-offs as a picture where there are any."""
    from diffjax.devices.processes import first
    from diffjax.report import evaluated

    print(f"\n{evaluated.markdown(found)}\n")
    if first() and evaluated.tradeoffs(picture, found):
        print(f"wrote {picture}")


def show_network(found: Mapping[str, Mapping[str, Any]]) -> None:
    """A line per metric: bits per dimension, and their standard error over the images."""
    for name, result in found.items():
        more = ("noise", "importance_weighted", "prior", "diffusion", "decoder", "passes")
        rest = "".join(f", {k} {result[k]:.5g}" for k in more if k in result)
        error = f" +- {result['standard_error']:.4f}" if "standard_error" in result else ""
        protocol = result["protocol"]
        where = f"{result['count']} items of {protocol['data']} {protocol['split']}"
        print(f"{name} {result['bits']:.5f}{error} bits/dim on {where}{rest}")


if __name__ == "__main__":
    cli.main(run)
