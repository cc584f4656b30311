"""Blinded human evaluation on one offline page: which image or sound is better, or which is real.

    python -m diffjax.tools.compare a.npz b.npz --out=page
    python -m diffjax.tools.compare a.npz runs/digits --test=real --out=page
    python -m diffjax.tools.compare --out=page --results ann.json bob.json

A and B are each an .npz file or a folder as `sample --out` writes them, the WORKDIR of a run, for
its training data, or a data set as in config.data.name: tfds:cifar10. Settings of the data set may
follow: pictures,size=64. A folder of WAV files is one of sounds: made,length=8192. Where both have
labels, items of one class are compared.

The test `preference` shows an item of A beside an item of B; the test `real` shows generated items
(A) and real items (B) one at a time. OUT/index.html is the page for the participants: it
works offline, with keys or by touch, and saves the answers as a file. OUT/key.json holds the
solutions and must not be shown to them. --results prints rates with 95 % intervals.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError, arguments

if TYPE_CHECKING:
    import numpy as np

    from diffjax.data import Reading, Source
    from diffjax.report.blind import Trials


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.compare", __doc__)
    flags.add_argument(
        "images", nargs="*", metavar="A B", help="two sets of images or sounds to compare"
    )
    flags.add_argument("--out", type=cli.path, required=True, help="folder of the page and its key")
    flags.add_argument(
        "--test", choices=("preference", "real"), default="preference", help="which test to write"
    )
    flags.add_argument("--num", type=cli.positive, default=50, help="items from each set")
    flags.add_argument("--seed", type=cli.seed, default=0, help="seed of items and sides")
    flags.add_argument(
        "--split",
        choices=cli.SPLITS,
        default="test",
        help="split of a run or a data set",
    )
    flags.add_argument("--question", help="question to ask (default: by the test)")
    flags.add_argument("--results", nargs="+", metavar="FILE", help="saved answers to evaluate")
    return flags


def run() -> int:
    asked = cli.read(flags())
    if asked.results:
        return results(asked.out, [Path(p) for p in asked.results + asked.images])
    if len(asked.images) != 2:
        shown = " ".join(asked.images) or "nothing"
        raise ConfigError(f"{shown}: needs two sets of items, A and B, or --results=FILE")
    return page(asked)


def page(asked: argparse.Namespace) -> int:
    """Write the page and its key."""
    from diffjax.report import blind
    from diffjax.training.workdir import provenance

    questions = trials(asked)
    origin = {"test": asked.test, "a": asked.images[0], "b": asked.images[1], "seed": asked.seed}
    key = origin | {"rate": questions.rate} | provenance() | questions.key()
    write(asked.out, "index.html", blind.document(questions))
    write(asked.out, "key.json", json.dumps(key, indent=1) + "\n")
    size = (asked.out / "index.html").stat().st_size / 1e6
    print(f"wrote {asked.out / 'index.html'} ({len(questions.hit)} questions, {size:.1f} MB)")
    print(f"wrote {asked.out / 'key.json'}: do not show it to the participants")
    return 0


def trials(asked: argparse.Namespace) -> Trials:
    """Draw the items of A and B, and pair them as questions of the test."""
    import numpy as np

    from diffjax import builder
    from diffjax.report import blind

    rng = np.random.Generator(np.random.Philox(key=asked.seed))
    (a, of_a), (b, of_b) = (opened(text, asked.split) for text in asked.images)
    rate = check_alike(a, of_a, b, of_b)
    none = not (a.form.classes and b.form.classes)
    labels = [np.zeros(len(s), np.int32) if none else s.labels() for s in (a, b)]
    i, j = builder.refuse("A and B")(blind.paired)(*labels, asked.num, rng)
    x, y = shown(a, of_a, i), shown(b, of_b, j)
    make, questions = blind.TESTS[asked.test]
    question = asked.question or questions[a.form.kind]
    made = make(x, y, np.stack([i, j], 1), question, rng)
    return dataclasses.replace(made, rate=rate)


def check_alike(a: Source, of_a: Reading, b: Source, of_b: Reading) -> int:
    """Return the rate of two sets of sounds in hertz, 0 for images.

    Raises ConfigError for items of different kinds, sizes, rates or numbers of channels, by which
    people would tell them apart.
    """
    from diffjax.data.kinds.storing import RATE

    if a.form.kind != b.form.kind:
        raise ConfigError(f"A and B: {a.form.kind} and {b.form.kind}; needs one kind")
    if a.form.kind == "image":
        sizes = [reading.shape(source)[:2] for source, reading in ((a, of_a), (b, of_b))]
        if sizes[0] != sizes[1]:
            both = " and ".join(f"{h} x {w}" for h, w in sizes)
            raise ConfigError(f"A and B: images of {both}; needs one size, as by PATH,size=32")
        return 0
    facts = [(s.form.shape, dict(s.form.units).get("rate", RATE)) for s in (a, b)]
    if facts[0] != facts[1]:
        both = " and ".join(f"{shape} at {rate} Hz" for shape, rate in facts)
        raise ConfigError(f"A and B: sounds {both}; needs equal ones, as by PATH,length=8192")
    return int(facts[0][1])


def opened(text: str, split: str) -> tuple[Source, Reading]:
    """Open the items that A or B names, and return them with the settings of reading.

    A file or a folder is used as a whole. split: the split of a run or a data set. Raises
    ConfigError for items that are neither images nor sounds.
    """
    from diffjax import builder
    from diffjax.runs.subject import compared_section
    from diffjax.training.workdir import read_config

    name, _, fields = text.partition(",")
    path, settings = Path(name).expanduser(), arguments(fields, text)
    if (path / "config.json").is_file():
        spec = {**compared_section(read_config(path)["data"]), **settings}
    elif path.exists():
        heard = path.is_dir() and any(path.rglob("*.wav"))
        kind = "sounds" if heard else "folder" if path.is_dir() else "array"
        spec, split = {"holdout": 0.0} | settings | {"name": f"{kind}:{name}"}, "train"
    else:
        spec = settings | {"name": name}
    source, reading = builder.construct_data(spec, text)
    items = builder.refuse(text)(source)(split)
    if items.form.kind not in ("image", "audio"):
        what = f"{items.form.kind} items {items.form.shape}"
        raise ConfigError(f"{text}: {what}; needs images or sounds")
    return items, reading


def shown(source: Source, reading: Reading, index: np.ndarray) -> np.ndarray:
    """Return images as uint8 (N, H, W, 3), and sounds as int16 (N, L, channels).

    Grey images become RGB images, so that the files do not reveal which set they come from.
    """
    import numpy as np

    from diffjax.data import centre, load
    from diffjax.data.kinds.storing import to_int16

    items = load(source, index)
    if items.form.kind == "audio":
        return to_int16(items.x)
    x = items.form.items.tiles(centre(items.x, reading.crop))
    return np.broadcast_to(x, (*x.shape[:3], 3))


def results(out: Path, paths: list[Path]) -> int:
    """Join answers with the key, print the rates, and write them to results.json."""
    from diffjax.report import answers

    key = answers.read_key(out / "key.json")
    people = [answers.read_answers(path, key) for path in paths]
    contents = [p.right.tobytes() + p.seconds.tobytes() for p in people]
    for i, path in enumerate(paths):
        if contents[i] in contents[:i]:
            same = paths[contents.index(contents[i])]
            raise ConfigError(f"--results={path}: holds the same answers as {same}")
    rates = answers.rates(key, people)
    show(key, rates)
    about = {k: v for k, v in key.items() if k != "trials"}
    write(out, "results.json", json.dumps(about | rates, indent=1) + "\n")
    print(f"wrote {out / 'results.json'}")
    return 0


def show(key: dict[str, Any], rates: dict[str, Any]) -> None:
    """Print the table of rates."""
    real, whole = key.get("test") == "real", rates["all"]
    noun = "sounds" if key.get("rate") else "images"
    print(f"{key['question']} A: {key.get('a')}, B: {key.get('b')}")
    print(f"{'':>20} {'answers':>8} {'correct' if real else 'for B':>9}   95 % interval")
    for name, one in [*((p["person"], p) for p in rates["people"]), ("all", whole)]:
        print(f"{name[:20]:>20} {one['answers']:>8} {one['rate']:>9.1%}   {span(one['interval'])}")
    if "clustered" in whole:
        count, interval = (whole["clustered"][k] for k in ("count", "interval"))
        note = f"equivalent to {count:.0f} independent answers: shared images, differing tastes"
        print(f"{'':>20} {'':>8} {'':>9}   {span(interval)} {note}")
    if real:
        for name, side in (("generated", "left"), ("real", "right")):
            part = whole["right_where"][side]
            print(f"{name} {noun} called real: {part['share']:.1%} {span(part['interval'])}")
    what = f"{noun} called real" if real else "choice of the right one"
    side = whole["right"]
    print(f"{what}: {side['share']:.1%} of all answers (p = {side['p']:.2g} for 50 %)")


def span(interval: list[float]) -> str:
    """Return an interval of rates as text, in percent."""
    return "[{:.1%}, {:.1%}]".format(*interval)


def write(out: Path, name: str, text: str) -> None:
    """Write a file in the folder `out`; raise ConfigError where it cannot be written."""
    from diffjax.files import write_text
    from diffjax.io.writing import writing

    with writing(f"--out={out}"):
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / name, text)


if __name__ == "__main__":
    cli.main(run)
