"""Convert a published checkpoint to a workdir for all other commands, or export a run as one.

    python -m diffjax.tools.convert ddpm-cifar10-32 --out=runs/ddpm
    python -m diffjax.tools.convert DiT-XL-2-256x256.pt --family=dit --out=runs/dit
    python -m diffjax.tools.convert runs/digits --out=exported
    python -m diffjax.tools.convert runs/nine --merge --out=merged
    python -m diffjax.tools.convert runs/nine --format=kohya --out=nine_lora
    python -m diffjax.tools.convert runs/digits --adapter=nine_lora=0.8 --out=with_nine

SOURCE is a file of tensors, a folder of diffusers (a model, or a pipeline with unet and scheduler),
or the workdir of a run, which is exported. The folder --out receives config.json and data.json, as
in every workdir, and weights.safetensors with the averaged parameters (--ema selects the average).
No code in SOURCE is executed.

--format writes the adapter of a run alone, for PEFT, diffusers or kohya, with the names of the
run's own modules. --merge exports a run without its adapter, which is merged into the kernels.
--adapter=PATH=WEIGHT merges the adapters of files and of other runs into SOURCE; files have the
names of the modules of SOURCE, those of a published checkpoint as it was published.

--set heads=4 states a value that the checkpoint lacks; --config.sampling.steps=20 changes the
config. For a network of latents, --config.data.codec=PATH names the autoencoder by which samples
become images: a published one, such as sd-vae-ft-ema, or PATH,rule=edm2.
"""

from __future__ import annotations

import argparse
import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError, literal, override

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.convert", __doc__, overrides=True)
    flags.add_argument("source", type=cli.path, metavar="SOURCE", help="checkpoint or run")
    flags.add_argument("--out", type=cli.path, required=True, help="new folder to write")
    flags.add_argument(
        "--family", default="", help="code base of the network, if its tensors do not show it"
    )
    flags.add_argument(
        "--set", action="append", default=[], help="name=value for the family; may be repeated"
    )
    flags.add_argument(
        "--ema", help=f"of a run: an average in config.ema, raw, or a width {cli.CONFIG}"
    )
    cli.adapter_flag(flags)
    own = flags.add_mutually_exclusive_group()
    own.add_argument("--merge", action="store_true", help="merge the adapter of a run into it")
    own.add_argument("--format", default="", help="write the adapter alone: peft, diffusers, kohya")
    flags.add_argument("--data", help="data set for evaluation: tfds:cifar10, folder:PATH, ...")
    return flags


def run() -> int:
    asked = cli.read(flags())
    settings = assignments(asked.set)
    changes = asked.overrides + ([f"data.name={asked.data}"] if asked.data else [])

    from diffjax.runs.rule import copy_rule
    from diffjax.training.workdir import check_empty

    check_empty(asked.out)
    adapters = dict(asked.adapter)
    trained = read(asked.source, asked.family, settings, asked.ema, changes, adapters)
    if asked.format:
        from diffjax.runs.adapters import write

        print(f"wrote {', '.join(map(str, write(trained, asked.format, asked.out)))}")
        return 0
    if asked.merge:
        if "adapter" not in trained.config:
            raise ConfigError("--merge: has no adapter; needs a run with config.adapter")
        trained = trained.merged()
        if "adapter" in trained.config:
            raise ConfigError("--merge: a control is no change of kernels; leave --merge out")
    _ = trained.codec  # refuses a codec that does not fit the latents
    trained.save(asked.out)
    copy_rule(asked.source, asked.out)
    show(trained, asked.out)
    return 0


def assignments(texts: list[str]) -> dict[str, Any]:
    """Parse texts name=value to a dict; raise ConfigError for a text without a value."""
    pairs = [text.partition("=") for text in texts]
    if bad := [name for name, sign, _ in pairs if not sign]:
        raise ConfigError(f"--set={bad[0]}: has no value; the form is --set name=value")
    return {name: literal(value) for name, _, value in pairs}


def read(
    source: Path,
    family: str,
    settings: dict[str, Any],
    ema: str | None = None,
    changes: Sequence[str] = (),
    adapters: Mapping[Path, float] | None = None,
) -> Trained:
    """Load the network of a run or of a published checkpoint, with `changes` in its config.

    adapters: the weights of adapters that are merged into it, by path.
    """
    from diffjax.runs import trained
    from diffjax.runs.adapters import read as opened

    if not (source / "data.json").exists():
        if ema:
            raise ConfigError(f"--ema={ema}: {source} holds one set of weights; leave --ema out")
        contents, family = trained.opened(source, family)
        print(f"{source}: {family}, {len(contents.tensors)} tensors; converting", flush=True)
        change = functools.partial(override, assignments=changes)
        chosen = opened(adapters or {})
        return trained.convert(contents, family, source, settings, change, chosen)
    if family or settings:
        raise ConfigError(f"{source}: is a run of diffjax; --family and --set do not apply")
    return changed(trained.load(source, ema=ema, adapters=adapters or {}), changes)


def changed(trained: Trained, changes: Sequence[str]) -> Trained:
    """Return the network with changes in its config.

    Raises ConfigError where the weights do not fit the changed config.
    """
    if not changes:
        return trained
    import dataclasses

    from diffjax import builder
    from diffjax.training.workdir import check_weights

    config = override(trained.config, changes)
    experiment = builder.experiment(config, trained.experiment.form)
    builder.refuse("config.network")(check_weights)(experiment, trained.denoise.params)
    denoise = experiment.denoiser(trained.denoise.params)
    return dataclasses.replace(trained, experiment=experiment, denoise=denoise)


def show(trained: Trained, out: Path) -> None:
    """Print a description of the network, and the commands to run next."""
    print(trained)
    for section in ("network", "parameterization", "sampling"):
        fields = (f"{k}={v}" for k, v in trained.config.get(section, {}).items())
        print(f"{section}: {', '.join(fields)}")
    for note in trained.notes:
        print(f"note: {note}")
    place = shlex.quote(str(out))
    if not trained.experiment.loss.denoises:
        print(f"wrote {out}\nnext: python -m diffjax.tools.codec {place}")
        return
    print(
        f"wrote {out}\n"
        f"next: python -m diffjax.sample --workdir={place} --num=16\n"
        f"      python -m diffjax.evaluate --workdir={place}  # with the data set "
        f"{trained.config['data']['name']}"
    )


if __name__ == "__main__":
    cli.main(run)
