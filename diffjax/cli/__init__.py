"""Code shared by all commands: start-up, error handling and the parsing of flags."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from diffjax.cli.process import keep_memory, set_up_jax, spare_threads
from diffjax.cli.prompts import prompt_flags, prompts
from diffjax.cli.provenance import check_provenance, filtered, filters, provenance_flags
from diffjax.cli.values import (
    MOST,
    adapter,
    interval,
    listed,
    number,
    path,
    places,
    positive,
    seed,
    span,
    stage,
    whole,
)
from diffjax.config import ConfigError, RunError, entries
from diffjax.files import reason

__all__ = [
    "MOST",
    "SPLITS",
    "Formatter",
    "Parser",
    "adapter",
    "adapter_flag",
    "cascade_flags",
    "check_provenance",
    "cluster_flags",
    "data_flags",
    "filtered",
    "filters",
    "guidance",
    "interval",
    "keep_memory",
    "listed",
    "main",
    "number",
    "out_of_memory",
    "parser",
    "path",
    "places",
    "positive",
    "prompt_flags",
    "prompts",
    "provenance_flags",
    "read",
    "sampling",
    "sampling_flags",
    "seed",
    "set_up_jax",
    "span",
    "spare_threads",
    "stage",
    "start",
    "whole",
]
SPLITS = ("train", "test")
CONFIG = "(default: from the config)"


def main(run: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code; errors print one line on stderr.

    The exit code is 2 for an error that the user can correct, 130 for an interruption, and 1 for a
    run that has to stop, a network whose output is not finite, a file error and a lack of memory.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs the errors that it raises too
    try:
        sys.exit(run())
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if error.stuck:
            os._exit(error.code)  # sys.exit would wait for the blocked thread
        sys.exit(error.code)
    except FloatingPointError as error:  # a network that diverged; the message has row and time
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # piped into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a file error that no check has caught, such as a full disk
        file = f"{error.filename}: " if error.filename else ""
        print(f"error: {file}{reason(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if not (line := out_of_memory(error)):
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def out_of_memory(error: Exception) -> str:
    """Return one line for a lack of memory on the host or a device, "" for any other error."""
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
        return ""
    return (
        f"out of memory ({reason(error)}); use a smaller batch (config.train.batch_size, "
        f"--batch-size), a smaller network or a smaller --num"
    )


def parser(name: str, description: str | None, overrides: bool = False) -> argparse.ArgumentParser:
    """Return a parser of flags `--flag=value` that shows the defaults in its help.

    name: the module of the command below `diffjax`. overrides: accept fields of a config as well,
    such as `--config.train.steps=500`; `read` collects them.
    """
    flags = Parser(
        prog=f"python -m diffjax.{name}",
        description=description,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    if overrides:
        flags.set_defaults(overrides=[])
    return flags


class Parser(argparse.ArgumentParser):
    """A parser that refuses flags in one line, in the form of all other errors of commands."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message.removeprefix('argument ')}; see {self.prog} --help\n")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter of help that keeps the layout of texts and shows the default of each flag."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default in (None, argparse.SUPPRESS, [], "") or action.nargs == 0
        return action.help if none else f"{action.help or ''} (default: %(default)s)"


def read(
    flags: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse flags to a namespace, whose `overrides` are the texts of --config.field=value.

    arguments: by default those of the process. An empty value exits with code 2, since the shell
    leaves one where a variable is not set; so does an unknown flag.
    """
    arguments, field = sys.argv[1:] if arguments is None else arguments, "--config."
    for text in arguments:
        name, sign, value = text.partition("=")
        if not text or (sign and not value and name[:2] == "--" and not name.startswith(field)):
            flags.error(f"{name or repr(name)}: the value is empty; is a shell variable unset?")
    takes = flags.get_default("overrides") is not None
    known = [name for action in flags._actions for name in action.option_strings]
    unknown = lambda texts: [t for t in texts if not (takes and t.startswith(field))]

    def refuse(texts: Sequence[str], near: str) -> None:
        hint = f" (did you mean {near}?)" if near else ""
        if not texts[0].startswith("-"):
            hint = "; flags have the form --name=value, and lists the form a,b without spaces"
        note = f"; to set a field of the config, write {field}field=value" if takes else ""
        flags.error(f"unrecognized arguments: {' '.join(texts)}{hint}{note}")

    def nearest(text: str) -> str:
        name = text.partition("=")[0]
        matches = difflib.get_close_matches(name, known, n=1) if name not in known else []
        return "".join(matches)

    # A misspelt flag comes before the flags that are missing for it.
    for text in unknown(arguments) if flags._subparsers is None else ():
        if text.startswith("--") and (near := nearest(text)):
            refuse([text], near)
    asked, others = flags.parse_known_args(arguments)
    if bad := unknown(others):
        refuse(bad, nearest(bad[0]))
    if takes:
        asked.overrides = [text.removeprefix(field) for text in others]
    return asked


def cluster_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of a command that several processes run together."""
    several = flags.add_argument_group(
        "several processes", "not needed with SLURM, on GKE and on TPU pods"
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    several.add_argument(
        "--processes", type=positive, help="number of processes; 1 for a single one"
    )
    several.add_argument("--process_id", type=whole(0, MOST), help="number of this process, from 0")


def start(asked: argparse.Namespace) -> None:
    """Set up JAX and join the other processes, of which only the first one prints to stdout."""
    from diffjax.devices import processes

    set_up_jax()
    processes.join(asked.coordinator, asked.processes, asked.process_id)
    if not processes.first():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sampling_flags(
    flags: argparse.ArgumentParser, lists: bool = False, seeds: bool = False, draws: bool = True
) -> None:
    """Add the flags that replace parts of config.sampling; `lists` lets some list several values.

    seeds: let `--seed` list several seeds, which samples use in turn. draws: whether the command
    draws samples, and has the flags `--seed` and `--batch-size`.
    """
    many = lambda one: listed(one) if lists else one
    more = "; a,b for several" if lists else ""
    network_flags(flags, lists)
    sampler = flags.add_argument_group(
        "sampling", "entries are name[:argument=value,...]; --list shows all of them"
    )
    sampler.add_argument(
        "--sampler",
        type=entries if lists else str,
        help=f"sampler, e.g. ddim:eta=0.5{more} {CONFIG}",
    )
    sampler.add_argument("--grid", help=f"time grid, e.g. karras:rho=7 {CONFIG}")
    sampler.add_argument(
        "--steps", type=many(positive), help=f"steps of the time grid{more} {CONFIG}"
    )
    sampler.add_argument(
        "--corrector", help=f"corrector between the steps, e.g. langevin:snr=0.16 {CONFIG}"
    )
    _noise_flags(sampler)
    several = {"type": listed(seed), "default": [0], "metavar": "SEED,..."}
    if draws:
        sampler.add_argument(
            "--seed",
            **(several if seeds else {"type": seed, "default": 0}),
            help=f"sample k depends only on (seed, k){'; a,b for several in turn' * seeds}",
        )
        sampler.add_argument("--batch-size", type=positive, default=256, help="samples per batch")
    sampler.add_argument(
        "--list", action=_List, help="list samplers, grids, rules of guidance, ..., and exit"
    )
    guided = flags.add_argument_group("guidance")
    default = "; a,b for several (default: 1, and 1.5 with conditions)" if lists else f" {CONFIG}"
    guided.add_argument("--guidance", type=many(number), help=f"weight; 1: no guidance{default}")
    guided.add_argument("--rule", help=f"how guidance acts, e.g. rescale:phi=0.7 {CONFIG}")
    guided.add_argument(
        "--reference",
        help=f"what guidance leads away from: negative:label=3, network:workdir=RUN {CONFIG}",
    )
    guided.add_argument("--threshold", help=f"threshold on x0 in every row, e.g. dynamic {CONFIG}")
    guided.add_argument("--ramp", help=f"how the weight varies over time, e.g. cosine {CONFIG}")
    guided.add_argument(
        "--interval",
        type=interval,
        metavar="LOW,HIGH",
        help=f"guide only where sigma / alpha lies in this interval {CONFIG}",
    )


def _noise_flags(sampler: argparse._ArgumentGroup) -> None:
    """Add the flags of the times of positions and of the noise."""
    sampler.add_argument(
        "--lanes",
        help="times of the positions of items, e.g. pyramid:delay=2, for networks that were "
        f"trained by forcing {CONFIG}",
    )
    sampler.add_argument(
        "--noise", help=f"independent, or brownian: more steps refine one sample {CONFIG}"
    )


def network_flags(flags: argparse.ArgumentParser, lists: bool = False) -> None:
    """Add the flags that select a trained network; `lists` lets --ema list several averages."""
    more = "; a,b for several" if lists else ""
    run = flags.add_argument_group("the network")
    run.add_argument("--workdir", type=path, required=not lists, help="folder of a trained run")
    run.add_argument(
        "--ema",
        type=listed(str) if lists else str,
        help=f"average in config.ema, raw, or a width from tools.ema, as 0.10{more} {CONFIG}",
    )
    run.add_argument(
        "--codec",
        default="",
        help="autoencoder that decodes a network's latents, published or a run: PATH[,rule=edm2], "
        "or zoo:NAME (default: config.data.codec)",
    )
    adapter_flag(run)


def adapter_flag(flags: argparse._ActionsContainer) -> None:
    """Add the flag that names adapters of the network."""
    flags.add_argument(
        "--adapter",
        type=adapter,
        action="append",
        default=[],
        metavar="PATH[=WEIGHT[,START,END]]",
        help="add an adapter or a control, a run or a file, with a weight (default: 1); a control "
        "acts between two shares of the rows (default: 0,1); may be repeated",
    )


def cascade_flags(flags: argparse.ArgumentParser, lists: bool = False) -> None:
    """Add the flags of a cascade; `lists` lets --tau list values of several jobs, without --low."""
    turn = "; a,b for several" if lists else "; a,b for samples in turn"
    chain = flags.add_argument_group("cascade")
    if not lists:
        chain.add_argument(
            "--low",
            type=path,
            metavar="FILE|FOLDER",
            help="smaller items that the run enlarges, in turn: an image or a folder of images of "
            "one size, an .npy or .npz file (default: held-out items made smaller)",
        )
    chain.add_argument(
        "--then",
        type=stage,
        action="append",
        default=[],
        metavar="RUN[,SETTING=VALUE,...]",
        help="enlarge the samples with another run, trained with config.data.enlarged; settings: "
        "tau, steps, sampler, grid, guidance, ema, ...; may be repeated",
    )
    chain.add_argument(
        "--tau",
        type=listed(number),
        metavar="LEVEL,...",
        help="noise level of the smaller items that are enlarged, as in config.data.enlarged.levels"
        f"{turn} (default: the least of training)",
    )


def data_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that select the data on which the network is evaluated."""
    about = flags.add_argument_group("data")
    about.add_argument(
        "--data", help=f"data set, as config.data.name, e.g. folder:PATH,size=32 {CONFIG}"
    )
    about.add_argument("--split", choices=SPLITS, default="test", help="split of the data")


def sampling(asked: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of config.sampling that flags set."""
    flags = {
        "sampler": asked.sampler,
        "grid": asked.grid,
        "steps": asked.steps,
        "guidance": guidance(asked),
        "corrector": asked.corrector,
        "noise": asked.noise,
        "lanes": asked.lanes,
        "ema": asked.ema,
    }
    return {k: v for k, v in flags.items() if v is not None}


def guidance(asked: argparse.Namespace) -> dict[str, Any] | None:
    """Return the fields of config.sampling.guidance that flags set, or None without any."""
    flags = {
        "weight": asked.guidance,
        "ramp": asked.ramp,
        "interval": asked.interval,
        "reference": asked.reference,
        "rule": asked.rule,
        "threshold": asked.threshold,
    }
    return {k: v for k, v in flags.items() if v is not None} or None


class _List(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, help: str):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from diffjax import builder

        print(builder.listing())
        parser.exit()
