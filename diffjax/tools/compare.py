"""Blinded human evaluation on one offline page: which image looks better, or which is real.

    python -m diffjax.tools.compare a.npz b.npz --out=page
    python -m diffjax.tools.compare a.npz runs/digits --test=real --out=page
    python -m diffjax.tools.compare --out=page --results ann.json bob.json

A and B are each an .npz file or a folder as `sample --out` writes them, the WORKDIR of a run, for
its training data, or a data set as in config.data.name: tfds:cifar10. Settings of the data set may
follow: pictures,size=64. Where both have labels, images of one class are compared.

The test `preference` shows an image of A beside an image of B; the test `real` shows generated
images (A) and real images (B) one at a time. OUT/index.html is the page for the participants: it
works offline, with keys or by touch, and saves the answers as a file. OUT/key.json holds the
solutions and must not be shown to them. --results prints rates with 95 % intervals.
"""

from __future__ import annotations

import argparse
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
    flags.add_argument("images", nargs="*", metavar="A B", help="two sets of images to compare")
    flags.add_argument("--out", type=cli.path, required=True, help="folder of the page and its key")
    flags.add_argument(
        "--test", choices=("preference", "real"), default="preference", help="which test to write"
    )
    flags.add_argument("--num", type=cli.positive, default=50, help="images from each set")
    flags.add_argument("--seed", type=cli.seed, default=0, help="seed of images and sides")
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
        raise ConfigError(f"{shown}: needs two sets of images, A and B, or --results=FILE")
    return page(asked)


def page(asked: argparse.Namespace) -> int:
    """Write the page and its key."""
    from diffjax.report import blind
    from diffjax.training.workdir import provenance

    questions = trials(asked)
    origin = {"test": asked.test, "a": asked.images[0], "b": asked.images[1], "seed": asked.seed}
    key = origin | provenance() | questions.key()
    write(asked.out, "index.html", blind.document(questions))
    write(asked.out, "key.json", json.dumps(key, indent=1) + "\n")
    size = (asked.out / "index.html").stat().st_size / 1e6
    print(f"wrote {asked.out / 'index.html'} ({len(questions.hit)} questions, {size:.1f} MB)")
    print(f"wrote {asked.out / 'key.json'}: do not show it to the participants")
    return 0


def trials(asked: argparse.Namespace) -> Trials:
    """Draw the images of A and B, and pair them as questions of the test."""
    import numpy as np

    from diffjax import builder
    from diffjax.report import blind

    rng = np.random.Generator(np.random.Philox(key=asked.seed))
    (a, of_a), (b, of_b) = (opened(text, asked.split) for text in asked.images)
    sizes = [reading.shape(source)[:2] for source, reading in ((a, of_a), (b, of_b))]
    if sizes[0] != sizes[1]:
        both = " and ".join(f"{h} x {w}" for h, w in sizes)
        raise ConfigError(f"A and B: images of {both}; needs one size, as by PATH,size=32")
    none = not (a.form.classes and b.form.classes)
    labels = [np.zeros(len(s), np.int32) if none else s.labels() for s in (a, b)]
    i, j = builder.refuse("A and B")(blind.paired)(*labels, asked.num, rng)
    x, y = shown(a, of_a, i), shown(b, of_b, j)
    make, question = blind.TESTS[asked.test]
    return make(x, y, np.stack([i, j], 1), asked.question or question, rng)


def opened(text: str, split: str) -> tuple[Source, Reading]:
    """Open the images that A or B names, and return them with the settings of reading.

    A file or a folder is used as a whole. split: the split of a run or a data set. Raises
    ConfigError for items that are not images.
    """
    from diffjax import builder
    from diffjax.runs.subject import compared_section
    from diffjax.training.workdir import read_config

    name, _, fields = text.partition(",")
    path, settings = Path(name).expanduser(), arguments(fields, text)
    if (path / "config.json").is_file():
        spec = {**compared_section(read_config(path)["data"]), **settings}
    elif path.exists():
        kind, split = "folder" if path.is_dir() else "array", "train"
        spec = {"holdout": 0.0} | settings | {"name": f"{kind}:{name}"}
    else:
        spec = settings | {"name": name}
    source, reading = builder.construct_data(spec, text)
    images = builder.refuse(text)(source)(split)
    if images.form.kind != "image":
        raise ConfigError(f"{text}: {images.form.kind} items {images.form.shape}; needs images")
    return images, reading


def shown(source: Source, reading: Reading, index: np.ndarray) -> np.ndarray:
    """Return items as uint8 (N, H, W, 3).

    Grey images become RGB images, so that the files do not reveal which set they come from.
    """
    import numpy as np

    from diffjax.data import centre, load

    items = load(source, index)
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
            print(f"{name} images called real: {part['share']:.1%} {span(part['interval'])}")
    what = "images called real" if real else "choice of the right image"
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
