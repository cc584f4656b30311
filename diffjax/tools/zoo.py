"""List the trained networks that come with the package, print the card of one, or write an entry.

    python -m diffjax.tools.zoo
    python -m diffjax.tools.zoo digits
    python -m diffjax.tools.zoo --add=runs/digits --out=diffjax/zoo/digits --about="8x8 digits"

`diffjax.load("digits")` loads one, and `--workdir=zoo:digits` of other commands works on a copy in
runs/zoo. An autoencoder is a codec: `--codec=zoo:NAME`, `--config.data.codec=zoo:NAME`.

--add writes an entry from a run: its weights in float16 and a card on its training. Its quality is
what `python -m diffjax.evaluate --workdir=OUT` then writes beside the weights. The weights of an
autoencoder stay in float32, since latents know their codec by its fingerprint, and
`python -m diffjax.tools.codec OUT` writes its quality. A network of latents needs a codec that all
have: an entry of the zoo, as --codec=zoo:NAME.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli, zoo
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained


def flags() -> Any:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.zoo", __doc__)
    flags.add_argument("name", nargs="?", help="the entry whose card to print (default: list all)")
    flags.add_argument("--add", type=cli.path, help="run to write an entry from")
    flags.add_argument("--out", type=cli.path, help="new folder of the entry, with --add")
    flags.add_argument("--about", help="what the network draws, in a few words, with --add")
    flags.add_argument("--ema", help="average of the parameters, with --add")
    flags.add_argument(
        "--codec", default="", help="codec of a network of latents in place of its own, with --add"
    )
    flags.add_argument(
        "--data-licence", default="", help="name and licence of the training data, with --add"
    )
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    if asked.add:
        if asked.name or not asked.out or not asked.about:
            raise ConfigError("--add: needs --out and --about as well, and no name")
        of = add(asked.add, asked.out, asked.about, asked.data_licence, asked.ema, asked.codec)
        then = "evaluate --workdir=" if of.experiment.loss.denoises else "tools.codec "
        print(f"wrote {asked.out}; next: python -m diffjax.{then}{asked.out}")
        return 0
    if asked.out or asked.about or asked.ema or asked.codec or asked.data_licence:
        raise ConfigError(
            "--out, --about, --ema, --codec, --data-licence: apply to --add, which is missing"
        )
    if asked.name:
        print(card(zoo.place(asked.name)))
        return 0
    for name in zoo.names():
        facts = json.loads((zoo.place(name) / zoo.CARD).read_text())
        size = sum(file.stat().st_size for file in zoo.place(name).rglob("*") if file.is_file())
        line = f"{facts['about']}, {facts['parameters']:,} parameters, {size / 1e6:.1f} MB"
        print(f"{name:24} {line}")
    return 0


def add(
    run: Path, out: Path, about: str, licence: str, ema: str | None = None, codec: str = ""
) -> Trained:
    """Write an entry from a run, without its measured quality, and return the network.

    Arguments are those of the flags. Raises ConfigError for weights that float16 cannot hold, and
    for a network of latents whose codec is no entry of the zoo.
    """
    import jax
    import jax.numpy as jnp

    from diffjax import plot
    from diffjax.builder.codec import RULE
    from diffjax.files import write_text
    from diffjax.runs.trained import load
    from diffjax.training.workdir import Weights, check_empty, write_weights

    check_empty(out)
    cli.set_up_jax()
    trained = load(run, ema=ema, codec=codec)
    draws, own = trained.experiment.loss.denoises, trained.config["data"].get("codec", "")
    if own and not own.startswith(zoo.PREFIX):
        raise ConfigError(
            f"--add={run}: its codec is {own}, which others lack; needs an entry of the zoo, as "
            f"--codec={zoo.PREFIX}NAME"
        )
    stored = trained.denoise.params
    if draws:
        stored = jax.tree.map(lambda a: a.astype(jnp.float16), stored)
    if not all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(stored)):
        raise ConfigError(f"--add={run}: has weights that float16 cannot hold")
    e = dataclasses.replace(trained.experiment, config=elsewhere(trained.config))
    write_weights(out, e, Weights(trained.step, stored, trained.ema))
    facts = {"about": about} | described(run, trained) | {"licence": licence}
    write_text(out / zoo.CARD, json.dumps(facts, indent=1))
    if draws:
        plot.save(out / zoo.PICTURE, trained.sample(32).picture())
    else:
        write_text(out / RULE, (run / RULE).read_text())
    return trained


def elsewhere(config: Any) -> Any:
    """Return a config whose absolute paths are names, since they lead nowhere on other machines.

    >>> elsewhere({"loss": {"teacher": "/home/me/runs/digits"}, "name": "sounds:/home/me/voice"})
    {'loss': {'teacher': 'digits'}, 'name': 'sounds:voice'}
    """
    if isinstance(config, dict):
        return {key: elsewhere(value) for key, value in config.items()}
    if not isinstance(config, str):
        return config
    source, _, path = config.rpartition(":")
    kept = f"{source}:" if source else ""
    return kept + Path(path).name if Path(path).is_absolute() else config


def local(flag: str) -> str:
    """Return a flag whose absolute path is a name.

    >>> local("--config=/home/me/digits_vp.py")
    '--config=digits_vp.py'
    """
    name, sign, value = flag.partition("=")
    return f"{name}{sign}{elsewhere(value)}" if sign else elsewhere(flag)


def described(run: Path, trained: Any) -> dict[str, Any]:
    """Return the facts of a card: data, parameters, and the command and length of the training."""
    import jax

    read = lambda name: (run / name).read_text() if (run / name).exists() else ""
    launches = [json.loads(line) for line in read("launches.jsonl").splitlines()]
    cost = json.loads(read("cost.json") or "{}")
    batch = trained.config["train"]["batch_size"]
    module, *flags = (launches or [{}])[0].get("command", []) or ["diffjax.train"]
    module = "diffjax.train" if module.endswith("train.py") else module
    kept = [text for text in flags if not text.startswith("--workdir")]
    return {
        "data": elsewhere(trained.config["data"]["name"]),
        "parameters": sum(a.size for a in jax.tree.leaves(trained.denoise.params)),
        "command": " ".join(["python -m", module, *map(local, kept)]),
        "steps": trained.step,
        "images": trained.step * batch,
        "flops": trained.step * cost.get("flops", 0),
        "average": trained.ema,
        "versions": (launches or [{}])[-1].get("packages", {}),
    }


def card(entry: Path) -> str:
    """Return the card of an entry as Markdown, written from its files."""
    from diffjax.builder.codec import RULE

    facts, codec = json.loads((entry / zoo.CARD).read_text()), (entry / RULE).exists()
    use = f'`diffjax.load("{entry.name}")`, or `--workdir={zoo.PREFIX}{entry.name}`'
    lines = [
        f"# {entry.name}: {facts['about']}",
        "",
        f"- Use: {f'`--codec={zoo.PREFIX}{entry.name}`' if codec else use}",
        f"- Data: {facts['data']}; {facts['licence']}".removesuffix("; "),
        f"- Network: {facts['parameters']:,} parameters, stored in float{32 if codec else 16}",
        f"- Training: `{facts['command']}`; {facts['steps']:,} steps, {facts['images']:,} items, "
        f"{facts['flops'] / 1e12:,.3g} TFLOP; average {facts['average']}",
        f"- Samples: {entry / (zoo.REBUILT + '.png' if codec else zoo.PICTURE)}",
    ]
    return "\n".join([*lines, *quality(entry)])


def quality(entry: Path) -> list[str]:
    """Return the lines of a card on what was measured; [] where nothing was."""
    from diffjax.report import evaluated
    from diffjax.tools.codec import described as reconstructed

    rebuilt, written = entry / f"{zoo.REBUILT}.json", entry / zoo.WRITTEN
    if rebuilt.exists():
        of, *rest = reconstructed(json.loads(rebuilt.read_text())).splitlines()[:3]
        return ["", *(f"- {line}" for line in (f"Reconstructions: {of}", *rest))]
    if not written.exists():
        return []
    measured = json.loads(written.read_text())
    of_network = measured.get("network", {}).items()
    lines = ["", *(f"- {evaluated.line(name, result)}" for name, result in of_network)]
    results = measured.get("results")
    return [*lines, "", evaluated.markdown(results)] if results else lines


if __name__ == "__main__":
    cli.main(run)
