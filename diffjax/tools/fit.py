"""Compile the train step of a config for a TPU or GPU that is not here, and print what it needs.

    python -m diffjax.tools.fit --config=configs/imagenet256_dit.py --target=tpu:v5e:4x4 \\
        --shape=32,32,4 --classes=1000 --kind=latent --config.train.sharding=fsdp
    python -m diffjax.tools.fit --config=configs/cifar_edm.py --target=gpu:h100:8 \\
        --shape=32,32,3 --sweep=batch,remat --out=fit.json
    python -m diffjax.tools.fit --config=configs/cifar_vp.py --target=tpu:v6e:2x4 \\
        --shape=32,32,3 --largest

The program is the one that `diffjax.train` runs, or with --sample the one that `diffjax.sample`
runs. It is compiled from shapes: nothing is initialised, and no device of the target is needed.
The command prints, per device, the memory of state, batch and temporary buffers, the bytes moved
and sent, and the collectives by kind and place. The time is an estimate, not a measurement: the
program cannot run faster at the peak rates of the data sheets, and usually runs slower.

Targets are tpu:v4, v5e, v5p or v6e with a topology, gpu:a100, h100, h200 or b200 with a number of
devices, and cpu with a number of devices. The compilers are wheels: a missing one is named with
the command that installs it. Use a virtual environment of its own for each of them.

--sweep compiles the product of the values below and prints one row for each:
batch: half, once, twice and four times the batch of the config; sharding: data and fsdp; remat: the
settings of the network. --largest searches for the largest batch that fits, to 1 %.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli, config
from diffjax.cli.form import asked_form, form_flags
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.aot.analysis import Analysis
    from diffjax.aot.targets import Target
    from diffjax.data.form import Form
    from diffjax.training.experiment import Experiment

FIELDS = {"batch": "train.batch_size", "sharding": "train.sharding", "remat": "network.remat"}
"""What --sweep varies, with the field of the config."""


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.fit", __doc__, overrides=True)
    flags.add_argument("--config", required=True, help="config file, or name of a built-in one")
    flags.add_argument(
        "--target", required=True, help="tpu:v5e:4x4, gpu:h100:8, cpu:8, ...: see above"
    )
    flags.add_argument("--sample", action="store_true", help="compile the sampler instead")
    flags.add_argument(
        "--batch-size", type=cli.positive, default=256, help="samples per batch, with --sample"
    )
    flags.add_argument(
        "--sweep", type=cli.listed(str), metavar="FIELD,...", help="batch, sharding, remat"
    )
    flags.add_argument("--largest", action="store_true", help="search for the largest batch")
    flags.add_argument("--out", type=cli.path, help=".json file for all numbers")
    flags.add_argument("--hlo", type=cli.path, help="text file for the program, as XLA prints it")
    form_flags(flags)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())

    from diffjax.aot import targets
    from diffjax.files import check_place
    from diffjax.io.writing import writing

    target = targets.target(asked.target)
    if line := targets.missing(target.platform):
        raise ConfigError(f"--target={target}: {line}")
    if unknown := [name for name in asked.sweep or () if name not in FIELDS]:
        raise ConfigError(f"--sweep={unknown[0]}: unknown; known: {', '.join(FIELDS)}")
    if (asked.sweep or asked.largest) and asked.sample:
        raise ConfigError("--sweep, --largest: vary the train step; allowed: without --sample")
    if asked.largest and not target.memory:
        raise ConfigError(f"--largest: the memory of {target} is unknown; allowed: a TPU or GPU")
    chosen = config.override(config.load(asked.config), asked.overrides)
    if asked.hlo and (asked.sweep or asked.largest):
        raise ConfigError("--hlo: is for one program; allowed: without --sweep and --largest")
    for flag, path in (("--out", asked.out), ("--hlo", asked.hlo)):
        if path:
            with writing(f"{flag}={path}"):
                check_place(path)
    targets.prepare(target.size if target.platform == "cpu" else 0)
    results = compiled(asked, chosen, target)
    if asked.out:
        with writing(f"--out={asked.out}"):
            asked.out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"wrote {asked.out}")
    return 0


def compiled(asked: argparse.Namespace, chosen: Any, target: Target) -> list[dict[str, Any]]:
    """Compile what the flags ask for, print it, and return it as JSON data."""
    from diffjax import builder

    form = asked_form(asked)
    experiment = builder.experiment(chosen, form)
    if asked.sweep:
        return sweep(chosen, form or experiment.form, target, asked.sweep)
    if asked.largest:
        return largest(chosen, form or experiment.form, target)
    result = analysed(experiment, target, asked.batch_size if asked.sample else 0, asked.hlo)
    name = "sampler" if asked.sample else "train step"
    print(f"{name}, {result.items} {experiment.form.items.noun}s on all devices\n{result}")
    return [result.as_json()]


def analysed(
    experiment: Experiment, target: Target, samples: int = 0, text: Path | None = None
) -> Analysis:
    """Compile the train step, or with `samples` the sampler of such a batch, and analyse it.

    text: the file to which the text of the program is written. Raises ConfigError for a program
    that the compiler refuses because of its memory.
    """
    from diffjax.aot.analysis import analyse
    from diffjax.aot.programs import TooLarge, sampler, train_step
    from diffjax.io.writing import writing

    network = experiment.complete(experiment.config)["network"]
    try:
        if samples:
            program = sampler(experiment, target, samples)
        else:
            program = train_step(experiment, target)
    except TooLarge as error:
        raise ConfigError(f"--target={target}: does not fit: {error}") from error
    if text:
        with writing(f"--hlo={text}"):
            text.write_text(program.text)
    return analyse(program, target, network.get("dtype") == "bfloat16")


def variants(chosen: Any, axes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the changes of a sweep, as fields of the config with their values.

    Raises ConfigError for a network without the setting `remat`.
    """
    from diffjax import builder
    from diffjax.nets.dit_settings import POLICIES

    network, batch = builder.completed(chosen)["network"], chosen["train"]["batch_size"]
    if "remat" in axes and "remat" not in network:
        raise ConfigError(f"--sweep=remat: {network['name']} has no such setting")
    values: dict[str, Sequence[Any]] = {
        "batch": [batch // 2, batch, 2 * batch, 4 * batch],
        "sharding": ["data", "fsdp"],
        "remat": [*POLICIES] if isinstance(network.get("remat"), str) else [False, True],
    }
    rows = itertools.product(*(values[axis] for axis in axes))
    return [dict(zip(axes, row, strict=True)) for row in rows]


def sweep(chosen: Any, form: Form, target: Target, axes: Sequence[str]) -> list[dict[str, Any]]:
    """Compile all variants, print a row for each, and return them as JSON data."""
    from diffjax import builder

    head = "".join(f"{axis:>10}" for axis in axes)
    print(f"{head}  peak GB  left GB   sent GB  collectives  estimate ms    MFU  compile s")
    results = []
    for change in variants(chosen, axes):
        fields = [f"{FIELDS[axis]}={value!r}" for axis, value in change.items()]
        cells = "".join(f"{value!s:>10}" for value in change.values())
        try:
            result = analysed(builder.experiment(config.override(chosen, fields), form), target)
        except ConfigError as error:
            print(f"{cells}  {error}", flush=True)
            results.append({**change, "error": str(error)})
            continue
        print(f"{cells} {row(result)}", flush=True)
        results.append({**change, **result.as_json()})
    return results


def row(result: Analysis) -> str:
    """Return the cells of one program in the table of a sweep."""
    e, left = result.estimate, result.left
    cells = [
        f"{result.sizes['peak'] / 1e9:8.3f}",
        f"{'-' if left is None else format(left / 1e9, '.3f'):>8}",
        f"{result.sent / 1e9:9.4f}",
        f"{sum(total.times for total in result.kinds.values()):12g}",
        f"{e.seconds * 1e3:12.2f}" if e else f"{'-':>12}",
        f"{e.mfu:6.2f}" if e else f"{'-':>6}",
        f"{result.seconds:10.1f}",
    ]
    return " ".join(cells)


def largest(chosen: Any, form: Form, target: Target) -> list[dict[str, Any]]:
    """Search for the largest batch that fits, print each try, and return the best as JSON data.

    Raises ConfigError where even the smallest batch does not fit.
    """
    from diffjax import builder
    from diffjax.aot import search
    from diffjax.devices import mesh

    e = builder.experiment(chosen, form)
    unit = mesh.layout(target.devices(), e.sharding).parts * e.train.accumulate
    results: dict[int, Analysis] = {}

    def used(batch: int) -> int | None:
        changed = config.override(chosen, [f"train.batch_size={batch}"])
        try:
            results[batch] = analysed(builder.experiment(changed, form), target)
        except ConfigError as error:
            print(f"  batch {batch}: {error}", flush=True)
            return None
        print(f"  batch {batch}: {row(results[batch])}", flush=True)
        return results[batch].sizes["peak"]

    assert target.memory
    best = search.largest(used, target.memory, unit, e.train.batch_size)
    if not best:
        raise ConfigError(f"--target={target}: not even a batch of {unit} fits")
    print(f"--config.train.batch_size={best}\n{results[best]}")
    return [{"batch": best, **results[best].as_json()}]


if __name__ == "__main__":
    cli.main(run)
