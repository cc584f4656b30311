"""Write the command reference from the commands themselves: python docs/commands.py FOLDER

Each command has a page, written from its docstring and its flags. Another page lists all fields of
a config, and one the built-in configs. The site fills in the tables of catalogues.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections_configs
from diffjax import __main__ as command
from diffjax.arrays import catalogue as catalogued
from diffjax.builder import guidance, sampling
from diffjax.data import Reading
from diffjax.nets import AUTOENCODERS, NETWORKS
from diffjax.objectives import OBJECTIVES
from diffjax.training import optimizer
from diffjax.training.experiment import Train

TOOLS = [f"tools.{name}" for name in command.TOOLS]
NAMES = ["train", "sample", "evaluate", "serve", *TOOLS]
CATALOGUES = {
    "evaluate": {
        "Metrics of samples": "diffjax.evaluation.OF_SAMPLES",
        "Metrics of the network": "diffjax.evaluation.OF_NETWORK",
        "Features": "diffjax.features.EXTRACTORS",
    },
}
"""The catalogues whose names a command takes, besides those of a config."""
SECTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "data": (
        "The data set, and the settings with which it is read.",
        {"`name`": "data.SOURCES", "`augment`": "data.AUGMENTATIONS"},
    ),
    "sde": (
        "The noising process. Its field `schedule` is the log-SNR over time.",
        {
            "`name`": "sde.SDES",
            "`schedule.name`": "schedules.SCHEDULES",
            "`schedule.name` of a schedule derived from the one in its own field `schedule`": (
                "schedules.DERIVED"
            ),
        },
    ),
    "parameterization": (
        "The target of the network, and the noise label that it receives.",
        {
            "`name`": "parameterization.PARAMETERIZATIONS",
            "`c_noise`": "parameterization.NOISE_LABELS",
        },
    ),
    "network": ("Its classes and the labels of augmentation follow from the data.", {}),
    "adapter": (
        "A config may lack this section. With it, the parameters of the network stay as they are, "
        "and a small change of its kernels, rows of a table, or a control beside it are trained "
        "instead. Several adapters, or several controls, have names of their own.",
        {"`name`": "nets.ADAPTERS", "`name` of a control": "nets.CONTROLS"},
    ),
    "loss": (
        "An entry may be written as its name alone. The default of `name` is `denoising`.",
        {
            "`name`": "objectives.OBJECTIVES",
            "`weight`": "weights.WEIGHTS",
            "`draw`": "draws.DRAWS",
            "`error`": "objectives.ERRORS",
            "`pairing`": "objectives.PAIRINGS",
            "`perceptual`": "features.DISTANCES",
            "`discriminator`": "nets.DISCRIMINATORS",
        },
    ),
    "optimizer": (
        "The fields of the optimizer, and those that every optimizer has. `frozen`: regular "
        "expressions; parameters whose path matches one of them are not trained.",
        {"`name`": "training.optimizer.OPTIMIZERS", "`schedule`": "training.optimizer.RATES"},
    ),
    "ema": (
        "The average of the parameters, or several averages under names of your own.",
        {"`name`": "training.ema.EMAS"},
    ),
    "sampling": (
        "The settings of `sample` and `evaluate` where no flag sets another value.",
        {
            "`sampler`": "samplers.SAMPLERS",
            "`corrector`": "samplers.CORRECTORS",
            "`grid`": "grids.GRIDS",
            "`guidance.reference`": "guidance.REFERENCES",
            "`guidance.rule`": "guidance.RULES",
            "`guidance.threshold`": "guidance.THRESHOLDS",
            "`guidance.ramp`": "guidance.RAMPS",
        },
    ),
    "train": (
        "The length of a training, what it logs and keeps, and what stops it.",
        {"`sharding`": "devices.mesh.SHARDINGS", "`writers`": "training.writers.WRITERS"},
    ),
}
"""Each section of a config: its description, and the catalogues that its fields name."""
SIGNATURES = {
    "data": Reading,
    "optimizer": optimizer.optimizer,
    "train": Train,
}
"""The signatures with the fields that a section has whatever its name is."""
ENTRIES = {"network": NETWORKS | AUTOENCODERS, "loss": OBJECTIVES}
"""Sections with one table of fields per entry."""
GIVEN = ("batch_size", "classes")
"""Settings that follow from other sections."""
PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def write(folder: Path) -> None:
    """Write all pages, and a page that lists them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, made in pages():
        (folder / f"{name}.md").write_text(made)


def pages() -> Iterator[tuple[str, str]]:
    yield "index", index()
    for name in NAMES:
        yield slug(name), command(name)
    yield "config", config()
    yield "configs", configs()


def index() -> str:
    rows = [["command", "what it does"]]
    for name in NAMES:
        rows.append([f"[`python -m diffjax.{name}`]({slug(name)}.md)", text(first(module(name)))])
    told = "Each page lists the flags of a command with the text of its `--help`."
    more = (
        "[Config](config.md) lists the fields of a config, [Configs](configs.md) the built-in ones."
    )
    tree = ["```{toctree}", ":hidden:", "", *map(slug, NAMES), "config", "configs", "```"]
    return page("Commands", told, table(rows), more, "\n".join(tree))


def command(name: str) -> str:
    """Return the page of a command: its docstring, its flags by group, and its catalogues."""
    flags = module(name).flags()
    parts = [*prose(module(name).__doc__ or ""), *groups(flags)]
    if flags.get_default("overrides") is not None:
        parts += [
            "## Fields of the config",
            "`--config.FIELD=VALUE` sets [any of them](config.md).",
        ]
    for title, path in CATALOGUES.get(name, {}).items():
        parts += [f"## {title}", catalogue(path)]
    return page(f"python -m diffjax.{name}", *parts)


def groups(flags: argparse.ArgumentParser, level: int = 2) -> Iterator[str]:
    """Yield a table per group of flags, with the subcommands of a command below it."""
    for group in flags._action_groups:
        rows = [["flag", "meaning", "default"]]
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, one in action.choices.items():
                    told = {c.dest: c.help for c in action._choices_actions}[name]
                    yield f"{'#' * level} {name}"
                    yield f"{capital(text(told or ''))}."
                    yield from groups(one, level + 1)
            elif action.dest != "help":
                rows.append([f"`{flag(action)}`", text(action.help or ""), default(action)])
        if len(rows) > 1:
            yield f"{'#' * level} {capital(group.title or '')}"
            if group.description:
                yield f"{capital(text(group.description))}."
            yield table(rows)


def flag(action: argparse.Action) -> str:
    """Return the flag as it is typed."""
    choices = r"\|".join(action.choices or ())
    value = str(action.metavar or choices or action.dest.upper())
    if not action.option_strings:
        return value
    shapes = {None: f"={value}", 0: "", "?": f"[={value}]", "+": f" {value} ..."}
    return action.option_strings[-1] + shapes[action.nargs]


def default(action: argparse.Action) -> str:
    if action.required and action.nargs != "*":
        return "required"
    none = action.nargs == 0 or action.default in (None, argparse.SUPPRESS, "", [])
    return "" if none else f"`{action.default}`"


def config() -> str:
    """Return the page of all fields, with their meaning and their defaults."""
    form = (
        "A config file has a function `get_config` that returns an `ml_collections.ConfigDict` of "
        "these sections, and `seed`; the `config.json` of a run is one too. On the command line, "
        "`--config.train.steps=500` sets a field, "
        "and `--config.sde.schedule=sigmoid:tau=0.7` replaces a whole section that has a name. "
        "`--config.network.name=dit` chooses another network and drops the settings of the old "
        "one. Fields that belong to no entry keep their values: those that read `data`, the "
        "schedule of `sde`, the conditions of `network`, and those that every `optimizer` has. "
        "Whole sections are applied first and single fields last, in whatever order they are "
        "written. Each name may be `module:attribute`, a function or class in the current folder "
        "or on the PYTHONPATH. A config that lacks a section, or has an unknown field, is "
        "refused; only `adapter` may be missing."
    )
    parts = [form]
    for section, (told, named) in SECTIONS.items():
        parts += [f"## {section}", told]
        if section in SIGNATURES:
            parts.append(fields(SIGNATURES[section]))
        if section == "sampling":
            parts += list(sampled())
        for name, entry in ENTRIES.get(section, {}).items():
            parts += [f"### {section}: {name}", text(first(entry)), fields(entry)]
        for field, path in named.items():
            parts += [f"### {section}: {field}", catalogue(f"diffjax.{path}")]
    return page("Config", *parts)


def sampled() -> Iterator[str]:
    """Yield the fields of config.sampling, and those of its guidance."""
    yield rows_of(told(sampling.plan, sampling.PLANNED), sampling.SAMPLING)
    yield "### sampling: `guidance`"
    section = guidance.Section
    functions = (section.weight, section.ramp, section.guidance)
    meaning = {k: v for f in functions for k, v in told(f, guidance.GUIDED).items() if v}
    yield rows_of(dict.fromkeys(guidance.GUIDED, "") | meaning, guidance.GUIDANCE)


def fields(reads: Any) -> str:
    """Return the table of the settings that a class or function leaves to the config."""
    parameters = inspect.signature(reads).parameters
    found = [k for k in GIVEN if k in parameters and reads is not Train]
    values = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    meaning = told(reads, tuple(parameters))
    return rows_of({k: meaning[k] for k in values if k not in found}, values)


def rows_of(meaning: Mapping[str, str], values: Mapping[str, Any]) -> str:
    rows = [["field", "meaning", "default"]]
    for name, said in meaning.items():
        shown = str(named(values.get(name)))
        rows.append([f"`{name}`", text(said), f"`{shown}`" if shown else ""])
    return table(rows)


def named(value: Any) -> Any:
    """Return a default as a config writes it."""
    if value is None or (inspect.isfunction(value) and value.__name__ == "<lambda>"):
        return ""
    if isinstance(value, dict):
        return value["name"]
    if dataclasses.is_dataclass(value):
        return "".join(catalogued(type(value)))
    return getattr(value, "__name__", value)


def told(reads: Any, names: Sequence[str]) -> dict[str, str]:
    """What the docstring says of each: "name: meaning", up to the next or a paragraph's end."""
    either = "|".join(sorted(names, key=len, reverse=True))
    start = re.compile(rf"(?<![\w.`'])((?:`?(?:{either})`?(?:, (?=`?\w+`?[,:]))?)+): ")
    found = dict.fromkeys(names, "")
    for paragraph in re.split(r"\n\n+", inspect.getdoc(reads) or ""):
        line = " ".join(paragraph.split())
        starts = [*start.finditer(line)]
        ends = [*(m.start() for m in starts[1:]), len(line)]
        for m, end in zip(starts, ends, strict=False):
            said = re.sub(r"[;,.]?( or)?$", "", line[m.end() : end].strip())
            found |= {name.strip("`"): said for name in m[1].split(", ")}
    if others := re.search(
        r"other(?:s| settings) are\s+those\s+of `(\w+)`", inspect.getdoc(reads) or ""
    ):
        cls = getattr(inspect.getmodule(reads), others[1])
        found |= {k: v for k, v in told(cls, names).items() if not found[k]}
    return found


def configs() -> str:
    """Return the page of the built-in configs, from their docstrings."""
    folder = Path(ml_collections_configs.__path__[0])
    parts = ["`--config=NAME`, or `--config=configs/NAME.py`."]
    for path in sorted(folder.glob("*_*.py")):
        if path.stem[0] != "_":
            made = importlib.import_module(f"ml_collections_configs.{path.stem}")
            parts += [f"## {path.stem}", *prose(made.__doc__ or "")]
    return page("Configs", *parts)


def prose(docstring: str) -> Iterator[str]:
    """Paragraphs; commands as code."""
    for paragraph in re.split(r"\n\n+", docstring.strip()):
        if re.match(r"\s+|(\w+=\S+ )*python -m ", paragraph):
            yield f"```bash\n{textwrap.dedent(paragraph)}\n```"
        else:
            yield text(" ".join(paragraph.split()))


def text(plain: str) -> str:
    """A docstring's words as Markdown: flags and what is quoted as code, papers as links."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z]\w+(?:[.-]\w+)*(?:=[^\s;)]*[\w)])?)", plain)
    return "".join(_marked(part) for part in parts)


def _marked(part: str) -> str:
    if part.startswith("--"):
        part = f"`{part}`"
    if part.startswith("`"):
        return part.replace("|", r"\|")
    escaped = re.sub(r"([\\*_|<>\[\]$])", r"\\\1", part.replace("%%", "%"))
    return PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", escaped)


def table(rows: Sequence[Sequence[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def catalogue(path: str) -> str:
    return f"```{{catalogue}} {path}\n```"


def page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *parts]) + "\n"


def module(name: str) -> ModuleType:
    return importlib.import_module(f"diffjax.{name}")


def slug(name: str) -> str:
    return name.replace(".", "_")


def first(documented: Any) -> str:
    """The first paragraph."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def capital(words: str) -> str:
    return words[:1].upper() + words[1:]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
