"""Evaluate a trained run, or samples from elsewhere.

    python -m diffjax.evaluate --workdir=runs/digits
    python -m diffjax.evaluate --workdir=runs/digits --sampler=ddim,dpmpp_2m:eta=1 --steps=10,20,50
    python -m diffjax.evaluate --workdir=runs/digits --metrics=bpd:repeats=4,vlb --split=test
    python -m diffjax.evaluate --samples=theirs.npz --data=tfds:cifar10
    python -m diffjax.evaluate --workdir=runs/digits_base --then=runs/digits_enlarged --tau=0,0.3
    python -m diffjax.evaluate --table runs/*

Metrics of samples: each combination of the values of --ema, --sampler, --guidance, --steps and
--tau is a job, a line of the table. With --then a job is a cascade: the first flags concern its
first network, and all results are kept with its last one. Samples are stored in WORKDIR/evaluation,
batch by batch. After an interruption the same command resumes and gives the same numbers, other
metrics reuse the stored samples, and a larger --num adds to them. `frechet` is the Frechet distance
to the training set in the space of --features, with its floor, the distance between two halves of
the real data at equal counts. `classifier` is the share of samples that a classifier fitted to the
real training set assigns to the class asked for, beside its accuracy on the real test set.
`memorization` is the distance to the nearest training item, beside that of held-out items. `crps`
and other metrics of forecasts compare the samples of each held-out item, of which --num needs two
or more, with its outcome. --list shows all metrics and features.

Metrics of the network on the images of --data and --split, in bits per dimension: `bpd`, by the
probability-flow ODE, and `vlb`, the variational bound. WORKDIR/likelihood keeps finished parts.
`success` is the share of episodes in which a policy, trained on demonstrations, reaches its goal.

The command prints a table, and writes all results with their protocols to WORKDIR/evaluation.json
and trade-offs as a picture beside it. --samples evaluates the samples of another program and
writes SAMPLES.evaluation.json.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.data import Source
    from diffjax.data.form import Form
    from diffjax.evaluation import Samples
    from diffjax.generation import Cascade

OF_SAMPLES = "frechet,classifier,memorization"
NUM, LEAST = 1000, 4
RESULT, FOLDER = "evaluation.json", "evaluation"


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("evaluate", __doc__)
    flags.add_argument(
        "--metrics",
        help=f"name[:setting=value,...],...; --list shows all (default: {OF_SAMPLES}; no "
        f"classifier without labels)",
    )
    flags.add_argument(
        "--features",
        help="features that metrics compare, e.g. inception:weights=PATH; --list shows all "
        "(default: by the kind of data)",
    )
    flags.add_argument(
        "--samples",
        type=cli.path,
        help=".npz file (uint8 arr_0, labels arr_1) or folder of images from another program, to "
        "compare with the data of --data, or of --workdir",
    )
    flags.add_argument(
        "--table",
        nargs="+",
        type=cli.path,
        help="print results of runs, or of files that this command wrote, in Markdown, and exit",
    )
    flags.add_argument(
        "--num", type=cli.positive, help=f"samples per job (default: {NUM}), or of --samples (all)"
    )
    flags.add_argument(
        "--real", type=cli.positive, default=50_000, help="most real items to use per split"
    )
    cli.data_flags(flags)
    cli.sampling_flags(flags, lists=True)
    cli.cascade_flags(flags, lists=True)
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    if asked.table:
        return table(asked.table)
    if not asked.workdir and not (asked.samples and asked.data):
        raise ConfigError("--workdir: missing; it can be left out only with --samples and --data")
    for flag, count in (("num", asked.num), ("real", asked.real)):
        if count and count < LEAST:
            raise ConfigError(f"--{flag}={count}: needs at least {LEAST}")

    from diffjax import builder
    from diffjax.devices.processes import first
    from diffjax.evaluation.beforehand import beforehand
    from diffjax.files import write_text
    from diffjax.io.writing import writing
    from diffjax.report.evaluated import line
    from diffjax.training.workdir import provenance, read_config

    cli.start(asked)
    asked.base = asked.workdir
    asked.workdir = asked.then[-1][0] if asked.then else asked.workdir
    config = read_config(asked.workdir) if asked.workdir else {}
    of_samples, of_network = builder.construct_metrics(asked.metrics or OF_SAMPLES, "--metrics")
    path = place(asked)
    for name, metric in (of_samples | of_network).items():
        builder.refuse(f"--metrics={name}")(beforehand)(metric)
    check_place(asked, path)
    report = stored(path) | {"config": config} | provenance()
    if of_network:
        measured = network(asked, of_network)
        report["network"] = report.get("network", {}) | measured
        for name, result in measured.items():
            print(line(name, result))
    if of_samples:
        report["results"] = results(asked, config, of_samples)
        show(report["results"], path.with_suffix(".png"))
    if first():
        with writing(path):
            write_text(path, json.dumps(report, indent=2) + "\n")
    print(f"wrote {path}")
    if of_samples and not asked.samples:
        size = sum(file.stat().st_size for file in (asked.workdir / FOLDER).rglob("*.npz"))
        print(f"kept {size / 1e6:.1f} MB in {asked.workdir / FOLDER}, which is safe to delete")
    return 0


def table(paths: list[Path]) -> int:
    """Print the results stored at these paths as one table."""
    from diffjax.report import evaluated

    rows, notes = evaluated.gathered([p / RESULT if p.is_dir() else p for p in paths])
    if not rows:
        raise ConfigError(f"--table: no results found ({'; '.join(notes)})")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(evaluated.markdown(rows))
    return 0


def place(asked: argparse.Namespace) -> Path:
    """Return the file of results: in the workdir, or beside samples from elsewhere."""
    if not asked.samples:
        return asked.workdir / RESULT
    return asked.samples.with_name(f"{asked.samples.name.removesuffix('.npz')}.{RESULT}")


def check_place(asked: argparse.Namespace, path: Path) -> None:
    """Raise ConfigError for a place that cannot be written, before anything is computed."""
    from diffjax.devices.processes import first
    from diffjax.files import check_writable, reason

    if not path.parent.is_dir():  # of missing samples, which are reported elsewhere
        return
    try:
        if first():
            check_writable(path)
    except OSError as error:
        flag = "--samples" if asked.samples else "--workdir"
        there = asked.samples or asked.workdir
        raise ConfigError(
            f"{flag}={there}: {path} cannot be written ({reason(error)}), and samples, features "
            f"and results are stored beside it: copy {there} to a place where you may write"
        ) from error


def stored(path: Path) -> dict[str, Any]:
    """Return the results of earlier commands, each with its protocol."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {k: report[k] for k in ("results", "network") if k in report}


def network(asked: argparse.Namespace, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of the network, by name."""
    from diffjax import builder

    names = ", ".join(metrics)
    if asked.samples:
        raise ConfigError(f"--metrics={names}: needs a network, which --samples lacks")
    if len(asked.ema or ()) > 1:
        raise ConfigError(f"--ema={','.join(asked.ema)}: needs a single average for {names}")
    from diffjax.runs.subject import subject

    several = any(len(getattr(asked, k) or ()) > 1 for k in ("sampler", "guidance", "steps"))
    single = {k: (getattr(asked, k) or [None])[0] for k in ("sampler", "guidance", "steps", "ema")}
    of = subject(
        asked.workdir,
        data=asked.data,
        split=asked.split,
        seed=asked.seed,
        batch_size=asked.batch_size,
        ema=(asked.ema or [None])[0],
        adapters=dict(asked.adapter),
        sampling=None if several else cli.sampling(argparse.Namespace(**vars(asked) | single)),
    )
    return {k: builder.refuse(f"--metrics={k}")(m)(of) for k, m in metrics.items()}


class Scored(NamedTuple):
    """Samples to evaluate: their number and classes (0 without labels), and sets with protocols.

    cases: the number of held-out items whose conditions they have, 0 for none.
    """

    num: int
    classes: int
    sets: Iterable[tuple[dict[str, Any], Samples]]
    cases: int = 0


def results(
    asked: argparse.Namespace, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the metrics of each job, or of the samples from elsewhere, with their protocols."""
    from diffjax import builder
    from diffjax.evaluation import Real
    from diffjax.evaluation.samples import compared
    from diffjax.features.judge import judged
    from diffjax.runs.subject import compared_section

    planned = [] if asked.samples else jobs(asked)
    spec = compared_section(config.get("data", {}), asked.data, asked.codec)
    source, reading = builder.construct_data(spec, "--data" if asked.data else "config.data")
    form = dataclasses.replace(source("train").form, shape=reading.shape(source("train")))
    extractor = builder.construct_features(asked.features or form.items.features, "--features")
    scored = elsewhere(asked, form) if asked.samples else ours(asked, planned, form, source)
    if not asked.metrics and not (form.classes and scored.classes and judged(form)):
        metrics = {name: metric for name, metric in metrics.items() if name != "classifier"}
    check_counts(asked, metrics, scored, source, form)
    refuse = builder.refuse("evaluation")
    folder = asked.workdir / FOLDER if asked.workdir else asked.samples.parent
    folder.mkdir(exist_ok=True)
    try:
        real = refuse(Real)(source, reading, asked.real, folder, extractor)
        builder.check_features(metrics, real.extractor.name, "--metrics")
    except ConfigError:
        with contextlib.suppress(OSError):  # the folder holds results of earlier commands
            folder.rmdir()
        raise
    reference = compared(real, asked.data or spec["name"])
    measured = []
    for protocol, samples in scored.sets:
        values = {name: refuse(metric)(real, samples) for name, metric in metrics.items()}
        measured.append({"protocol": protocol | reference} | values)
    return measured


def check_counts(
    asked: argparse.Namespace,
    metrics: Mapping[str, Any],
    scored: Scored,
    source: Callable[[str], Source],
    form: Form,
) -> None:
    """Raise ConfigError for metrics with too few samples or items, before anything is sampled."""
    from diffjax import builder
    from diffjax.evaluation.beforehand import Counts, enough

    train, test = (min(len(source(split)), asked.real) for split in cli.SPLITS)
    counts = Counts(
        samples=scored.num,
        real=train,
        held_out=test,
        classes=form.classes if scored.classes else 0,
        asked=scored.classes,
        cases=scored.cases,
        kind=form.kind,
        ends=form.ends,
        gaps=form.gaps,
    )
    for name, metric in metrics.items():
        builder.refuse(f"--metrics={name}")(enough)(metric, counts)


def ours(
    asked: argparse.Namespace, planned: list[Cascade], form: Form, source: Callable[[str], Source]
) -> Scored:
    """Return the samples of all jobs in turn, to compare with data of this form."""
    from diffjax.evaluation import Samples

    num, of_network = asked.num or NUM, planned[0].decoding.stored
    if (form.kind, form.shape) != (of_network.kind, of_network.shape):
        raise ConfigError(
            f"--data={asked.data}: {form.kind} items of shape {form.shape}: the network generates "
            f"{of_network.kind} items of shape {of_network.shape}"
        )

    def sampled(job: Cascade) -> tuple[dict[str, Any], Samples]:
        print(job)
        generated = job.samples(num, asked.workdir / FOLDER / job.key)
        return job.protocol(generated), Samples(generated.x, generated.label, of)

    of = None if asked.data else held_out(planned[0].cond, num, len(source("test")), asked.real)
    labels = planned[0].cond.get("label", ())  # samples take them in turn
    classes = min(num, len({*map(int, labels)}))
    return Scored(num, classes, map(sampled, planned), 0 if of is None else len({*of.tolist()}))


def held_out(cond: Mapping[str, Any], num: int, size: int, most: int) -> Any:
    """Return the held-out items (num,) whose conditions samples have by default, None without any.

    cond: conditions in rows, which samples take in turn: those of the first held-out items, unless
    labels and lengths are the only ones. size, most: the number of held-out items, and of those in
    metrics.
    """
    import numpy as np

    drawn = ("label", "length")
    rows = [len(values) for name, values in cond.items() if name not in drawn]
    return np.arange(num) % rows[0] if rows and rows[0] <= size <= most else None


def jobs(asked: argparse.Namespace) -> list[Cascade]:
    """Return a job for each combination of the flags; raise ConfigError for an invalid one."""
    from diffjax.runs.cascade import Cascade, later
    from diffjax.runs.trained import load, resampled

    adapters, codec = dict(asked.adapter), "" if asked.then else asked.codec
    of = lambda ema: load(asked.base, ema=ema, codec=codec, adapters=adapters)
    networks = {ema: of(ema) for ema in asked.ema or [None]}
    after, settings = later(asked.then)
    guided = any(n.conditional and n.experiment.loss.drops_conditions for n in networks.values())
    weights = asked.guidance or ([1.0, 1.5] if guided else [1.0])
    lists = {"ema": networks, "sampler": asked.sampler, "guidance": weights, "steps": asked.steps}
    planned = []
    for values in itertools.product(*(v or [None] for v in (lists | {"tau": asked.tau}).values())):
        chosen = dict(zip((*lists, "tau"), values, strict=True))
        one = argparse.Namespace(**vars(asked) | chosen)
        first = resampled(networks[one.ema], cli.sampling(one))
        cascade = Cascade((first, *after))
        request = {"seed": one.seed, "batch_size": one.batch_size}
        planned.append(cascade.job(stages=settings, tau=one.tau, **request))
    return planned


def elsewhere(asked: argparse.Namespace, form: Form) -> Scored:
    """Return the samples of another program, with their protocol."""
    import numpy as np

    from diffjax import builder
    from diffjax.data import Memory
    from diffjax.evaluation.elsewhere import read
    from diffjax.evaluation.samples import digest

    refuse = builder.refuse(f"--samples={asked.samples}")
    samples = refuse(read)(asked.samples, form, asked.num)
    if len(samples.x) < LEAST:
        count = f"{len(samples.x)} samples; needs at least {LEAST}"
        raise ConfigError(f"--samples={asked.samples}: holds {count}")
    sha256 = digest(Memory(samples.x, kind=form.kind))
    protocol = {"samples": str(asked.samples), "num": len(samples.x), "sha256": sha256}
    classes = 0 if samples.label is None else len(np.unique(samples.label))
    return Scored(len(samples.x), classes, [(protocol, samples)])


def show(measured: list[dict[str, Any]], picture: Path) -> None:
    """Print the table, and draw trade-offs and histograms of ranks where there are any."""
    from diffjax.devices.processes import first
    from diffjax.report import evaluated, ranks

    print(f"\n{evaluated.markdown(measured)}\n")
    if not first():
        return
    if evaluated.tradeoffs(picture, measured):
        print(f"wrote {picture}")
    if ranks.drawn(beside := picture.with_name(picture.stem + "_ranks.png"), measured):
        print(f"wrote {beside}")


if __name__ == "__main__":
    cli.main(run)
