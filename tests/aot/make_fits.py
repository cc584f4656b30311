"""Compile configs for targets, and write what they need to files, for documents and tests.

    python tests/aot/make_fits.py tpu:v5e:2x4 gpu:h100:8     # two small ones, to fits.json
    python tests/aot/make_fits.py                            # all whose compiler is installed
    python tests/aot/make_fits.py --published                # published ones, to published.json
    python tests/aot/make_fits.py --table                    # the tables of docs/devices.md

Each compiler has a virtual environment of its own; targets that are not named stay as they are. A
published config takes one to five minutes of a core for each target. Those that published.json
holds are not compiled again: remove an entry to repeat it.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

import jax

from diffjax import builder, config
from diffjax.aot import targets
from diffjax.aot.analysis import Analysis, amount
from diffjax.cli.form import asked_form, form_flags
from diffjax.config import ConfigError
from diffjax.tools.fit import analysed
from experiments.markdown import table

HERE = Path(__file__).parent
FILE, DOCUMENT = HERE / "fits.json", HERE.parents[1] / "docs" / "devices.md"
DIT = "network={'name': 'dit', 'width': 256, 'depth': 4, 'heads': 4, 'dtype': 'bfloat16'}"
CASES = {
    "mlp": ("moons_vp", ("network.width=256", "network.depth=2")),
    "dit": ("digits_vp", (DIT, "train.sharding=fsdp", "train.steps_per_dispatch=1")),
}
"""An MLP in data parallelism, and a DiT whose state is split (FSDP)."""
TARGETS = (
    *("tpu:v4:2x2x2", "tpu:v5e:2x4", "tpu:v5p:2x2x2", "tpu:v6e:2x4"),
    *("gpu:a100:8", "gpu:h100:8", "gpu:h200:8", "gpu:b200:8"),
)
PUBLISHED_FILE = HERE / "published.json"
PIXELS, LATENTS = "--shape=64,64,3 --classes=1000", "--shape=32,32,4 --classes=1000 --kind=latent"
IMAGES = "--shape=32,32,3"
SIXTEEN = "network.dtype=bfloat16"
FSDP = "train.sharding=fsdp"
SMALL = "network.size=S"
HOSTS = ("tpu:v5e:2x4", "gpu:a100:8", "gpu:h100:8", "gpu:h200:8", "gpu:b200:8")
"""Eight devices of five kinds."""
TPUS = ("tpu:v6e:2x4", "tpu:v5p:2x2x2")
PUBLISHED: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "cifar_vp": ("cifar_vp", IMAGES, (SIXTEEN,), ()),
    "cifar_edm": ("cifar_edm", IMAGES, (SIXTEEN,), ()),
    "imagenet64_adm": ("imagenet64_adm", PIXELS, (SIXTEEN, FSDP), ("train.accumulate=16",)),
    "imagenet64_edm2": ("imagenet64_edm2", PIXELS, (SIXTEEN, FSDP), ("train.accumulate=16",)),
    "imagenet256_dit, S": ("imagenet256_dit", LATENTS, (SIXTEEN, SMALL), ()),
    "imagenet256_dit, XL": ("imagenet256_dit", LATENTS, (SIXTEEN, FSDP), ("network.remat=all",)),
}
"""Name: config, form of the data, changes, and further changes on fewer than 32 devices; each with
the batch of its config."""
GROUPS = ("train.sharding=fsdp:within=16",)
"""Further changes on 256 TPUs, where parts of a 256th are too thin for a gather."""
MORE = {
    "cifar_vp": ("tpu:v5e:1x1", "gpu:h100:1"),
    "imagenet64_adm": ("tpu:v5e:16x16", "gpu:h100:32"),
    "imagenet64_edm2": ("tpu:v5e:16x16", "gpu:h100:32"),
    "imagenet256_dit, S": TPUS,
    "imagenet256_dit, XL": (*TPUS, "tpu:v5e:16x16", "gpu:h100:256"),
}
"""One device, and many, where a config is meant for them; and eight of other TPUs for transformers:
a U-Net, whose blocks are not a loop, takes the TPU compiler ten minutes or more."""


def published(name: str, target: str) -> dict:
    """Compile a published config for a target."""
    file, form, changes, few = PUBLISHED[name]
    devices = targets.target(target)
    changes = (*changes, *(few if devices.size < 32 else ()))
    if FSDP in changes and devices.size >= 256 and devices.platform == "tpu":
        changes = (*(c for c in changes if c != FSDP), *GROUPS)
    parsed = ArgumentParser()
    form_flags(parsed)
    chosen = config.override(config.load(file), changes)
    built = builder.experiment(chosen, asked_form(parsed.parse_args(form.split())))
    try:
        found = analysed(built, devices).as_json()
    except ConfigError as error:
        return {"changes": changes, "refused": str(error)}
    found.pop("by_place")
    params = sum(a.size for a in jax.tree.leaves(jax.eval_shape(built.parameters)))
    return {"changes": changes, "params": params} | found


def make_published(names: list[str]) -> None:
    """Compile published configs for their targets, but those that the file holds.

    names: targets, configs, or CONFIG/TARGET, by default all whose compiler is installed.
    """
    for name in PUBLISHED:
        for target in (*HOSTS, *MORE.get(name, ())):
            held = json.loads(PUBLISHED_FILE.read_text()) if PUBLISHED_FILE.exists() else {}
            platform = targets.target(target).platform
            if targets.missing(platform) or target in held.get(name, {}):
                continue
            if names and not {name, target, f"{name}/{target}"} & {*names}:
                continue
            found = published(name, target)
            held = json.loads(PUBLISHED_FILE.read_text()) if PUBLISHED_FILE.exists() else {}
            held.setdefault(name, {})[target] = found
            PUBLISHED_FILE.write_text(json.dumps(held, indent=1) + "\n")
            print(name, target, found.get("refused") or f"{found['seconds']:.0f} s", flush=True)


def published_rows(held: dict) -> str:
    """Return the table of the published configs."""
    heads = ("config", "target", "changes", "state", "temporary", "left", "sent", "estimate")
    lines = []
    for name in filter(held.get, PUBLISHED):
        for target in filter(held[name].get, (*HOSTS, *MORE.get(name, ()))):
            found = held[name][target]
            changes = ", ".join(f"`{c}`" for c in found["changes"])
            if "refused" in found:
                lines.append([name, f"`{target}`", changes, "", "", "does not fit", "", ""])
                continue
            sizes = [amount(found["sizes"][size]) for size in ("state", "temporary")]
            e = found["estimate"]
            time = f"{e['seconds'] * 1e3:.3g} ms, {e['bound']}"
            left = amount(found["left"]) if found["left"] >= 0 else f"-{amount(-found['left'])}"
            lines.append([name, f"`{target}`", changes, *sizes, left, amount(found["sent"]), time])
    return table(heads, lines)


def case(name: str, target: str) -> Analysis:
    """Compile a case for a target."""
    file, changes = CASES[name]
    built = builder.experiment(config.override(config.load(file), changes))
    return analysed(built, targets.target(target))


def rows(fits: dict) -> str:
    """Return the table of all targets."""
    heads = ("target", "network", "state", "temporary", "sent per step", "collectives", "estimate")
    lines = []
    for target, cases in fits.items():
        for name, found in cases.items():
            kinds = (f"{sum_['times']:g} {kind}" for kind, sum_ in found["by_kind"].items())
            e = found["estimate"]
            time = f"{e['seconds'] * 1e6:.0f} us, {e['bound']}"
            sizes = [amount(found["sizes"][size]) for size in ("state", "temporary")]
            lines.append(
                [f"`{target}`", name, *sizes, amount(found["sent"]), ", ".join(kinds), time]
            )
    return table(heads, lines)


def tables() -> dict[str, str]:
    """Return the tables of the document by name, from the files."""
    fits, published = (json.loads(file.read_text()) for file in (FILE, PUBLISHED_FILE))
    return {"fits": rows(fits), "published-fits": published_rows(published)}


def main(names: list[str]) -> None:
    fits = json.loads(FILE.read_text()) if FILE.exists() else {}
    if names == ["--table"]:
        from experiments.markdown import filled

        DOCUMENT.write_text(filled(DOCUMENT.read_text(), tables()))
        return
    targets.prepare()
    if names[:1] == ["--published"]:
        return make_published(names[1:])
    there = [t for t in TARGETS if not targets.missing(targets.target(t).platform)]
    for target in names or there:
        found = {name: case(name, target).as_json() for name in CASES}
        fits[target] = {
            name: {k: v for k, v in numbers.items() if k not in ("seconds", "by_place")}
            for name, numbers in found.items()
        }
        order = {name: fits[name] for name in TARGETS if name in fits}
        FILE.write_text(json.dumps(order, indent=1) + "\n")
        seconds = [f"{name} {numbers['seconds']:.0f} s" for name, numbers in found.items()]
        print(f"{target}: {', '.join(seconds)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
