"""Prepare a data set of images: resized, deduplicated and split, as ArrayRecord for fast reading.

    python -m diffjax.tools.prepare $HOME/pictures --out=data/mine --size=64 --dedup=near
    python -m diffjax.tools.prepare images.npz --out=data/mine --test=0.05
    python -m diffjax.tools.prepare tfds:cifar10 --out=data/cifar_clean --dedup=exact
    python -m diffjax.train --config=configs/cifar_vp.py --workdir=runs/mine \\
        --config.data.name=tfds:mine --config.data.data_dir=data

SOURCE is a folder of images (with one folder per class, if there are classes), an .npy or .npz
file, webdataset:SHARDS or tfds:NAME. Splits train and test in SOURCE are kept, unless --test is
set; after --dedup or --test no image is in both splits. Besides the data, the folder --out contains
statistics.json, bad_files.txt, and removed.csv with removed.png, which shows pairs of a removed and
a kept image, the least similar first. The same command resumes an interrupted preparation.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from diffjax.data.decoded import Files
    from diffjax.data.duplicates import Removed
    from diffjax.data.prepare import Scan

PAIRS, SIDE = 60, 128
"""Largest number of pairs in the picture, and the height of a pair in pixels."""


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.prepare", __doc__)
    flags.add_argument(
        "source", metavar="SOURCE", help="folder, .npy, .npz, webdataset:SHARDS, or tfds:NAME"
    )
    flags.add_argument(
        "--out", type=cli.path, required=True, help="folder; its name becomes that of the data set"
    )
    flags.add_argument(
        "--size",
        type=cli.whole(0, cli.MOST),
        default=0,
        help="height and width; 0 keeps both",
    )
    flags.add_argument("--channels", type=cli.positive, default=3, help="1 (grey) or 3 (RGB)")
    flags.add_argument(
        "--test", type=cli.number, help="share to hold out (default: the split of SOURCE, or 0.1)"
    )
    flags.add_argument(
        "--dedup",
        choices=("none", "exact", "near"),
        default="none",
        help="duplicates to remove: with equal pixels, or nearly equal by a hash of 63 bits",
    )
    flags.add_argument(
        "--distance",
        type=cli.whole(0, 16),
        default=4,
        help="most bits, of 63, in which near duplicates differ",
    )
    flags.add_argument("--workers", type=cli.positive, help="threads (default: one per core)")
    return flags


def run() -> int:
    asked = cli.read(flags())
    check(asked)
    settings = {k: v for k, v in vars(asked).items() if k not in ("out", "workers")}

    from diffjax.data import prepare
    from diffjax.files import write_text

    done, work = asked.out / prepare.VERSION, asked.out / ".work"
    if done.exists():
        old = json.loads((asked.out / "statistics.json").read_text())["settings"]
        if old != settings:
            raise ConfigError(f"--out={asked.out}: was prepared with {old}; remove it first")
        print(f"{asked.out}: is prepared already")
        return 0
    originals = opened(asked)
    check_share(asked.test, originals)
    claim(work, asked.source, asked.size, asked.channels, originals)
    workers = asked.workers or os.cpu_count() or 1
    seen = prepare.scan(originals, work, asked.size, asked.channels, workers)
    names = {split: files.name for split, files in originals.items()}
    kinds = originals["train"].names
    try:
        if not len(seen.label):
            raise ConfigError(f"{asked.source}: none of its {len(seen.bad)} images is readable")
        one_shape(seen, names)
        removed = prepare.remove(seen, asked.dedup, asked.distance)
        items = split(seen, removed, asked.test, "test" in originals)
    except ConfigError:  # the corrected command would find parts scanned with other settings
        shutil.rmtree(work)
        with contextlib.suppress(OSError):
            asked.out.rmdir()
        raise
    write_text(asked.out / "bad_files.txt", listed(seen, names))
    write_text(asked.out / "removed.csv", table(seen, removed, names))
    draw(asked.out / "removed.png", seen, removed, work)
    counts = {"unreadable": len(seen.bad), "removed": len(removed.item)}
    statistics = {"settings": settings} | counts | prepare.statistics(seen, items, kinds)
    write_text(asked.out / "statistics.json", json.dumps(statistics, indent=2) + "\n")
    texts = prepare.captions(seen, originals)
    prepare.write(done, asked.out.name, items, seen, work, kinds, texts)
    shutil.rmtree(work)
    print(
        f"{len(items['train'])} training and {len(items['test'])} held-out images in {asked.out}; "
        f"{len(seen.bad)} unreadable, {len(removed.item)} removed as duplicates\n"
        f"next: --config.data.name=tfds:{asked.out.name} "
        f"--config.data.data_dir={shlex.quote(str(asked.out.parent))}"
    )
    return 0


def check(asked: Any) -> None:
    """Raise ConfigError for settings out of range."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", asked.out.name):
        raise ConfigError(
            f"--out={asked.out}: the data set would be named {asked.out.name!r}; needs a name of "
            f"lower-case letters, digits and _ that begins with a letter"
        )
    if asked.channels not in (1, 3):
        raise ConfigError(f"--channels={asked.channels}: needs 1 (grey) or 3 (RGB)")
    if asked.test is not None and not 0 < asked.test < 1:
        raise ConfigError(f"--test={asked.test:g}: needs 0 < test < 1")


def opened(asked: Any) -> dict[str, Files]:
    """Open the originals by split; the split "test" is missing where the source has none.

    Raises ConfigError for an unknown source.
    """
    from diffjax import builder
    from diffjax.data.decoded import Stored
    from diffjax.data.source import NoSplit

    # With a fixed size, no image is decoded only to learn the size.
    kinds: dict[str, tuple[dict[str, Any], Any]] = {
        "folder": ({"holdout": 0.0, "size": 1}, lambda source: source.files),
        "webdataset": ({"holdout": 0.0, "size": 1}, lambda source: source.files),
        "array": ({"holdout": 0.0}, builder.refuse("SOURCE")(Stored)),
        "tfds": ({"size": 1}, lambda source: source.files),
    }
    name, path = asked.source, Path(asked.source).expanduser()
    if name.partition(":")[0] not in kinds:
        if not path.exists():
            raise ConfigError(
                f"SOURCE={name}: no such file or folder; a TFDS data set is tfds:NAME"
            )
        name = f"{'folder' if path.is_dir() else 'array'}:{name}"
    settings, files = kinds[name.partition(":")[0]]
    source, _ = builder.construct_data({"name": name, **settings}, "SOURCE")
    files_of = {"train": files(source("train"))}
    try:
        files_of["test"] = files(source("test"))
    except ConfigError as error:
        if not isinstance(error.__cause__, NoSplit):
            raise
    return files_of


def check_share(test: float | None, originals: dict[str, Files]) -> None:
    """Raise ConfigError for a share that holds out no image or all of them.

    This is checked before duplicates are removed.
    """
    import numpy as np

    if test is None:
        return
    labels = np.concatenate([np.asarray(files.labels()) for files in originals.values()])
    counts = np.unique(labels, return_counts=True)[1]
    held_out = sum(round(test * int(count)) for count in counts)
    if not 0 < held_out < len(labels):
        left = "the test split" if held_out == 0 else "the training split"
        raise ConfigError(
            f"--test={test:g}: leaves no image for {left}; this share of each class is held out, "
            f"and the largest class has {counts.max(initial=0)} of {len(labels)} images"
        )


def claim(work: Path, source: str, size: int, channels: int, originals: dict[str, Files]) -> None:
    """Create the folder of the scanned parts; raise ConfigError if it holds those of other files.

    Parts that were scanned with other settings are refused as well.
    """
    import hashlib

    from diffjax.files import write_text
    from diffjax.io.writing import writing

    listing = hashlib.sha256()
    for files in originals.values():
        listing.update("\n".join(files.name(i) for i in range(len(files))).encode())
    origin = {"source": source, "size": size, "channels": channels, "hash": listing.hexdigest()}
    file = work / "source.json"
    if file.exists() and json.loads(file.read_text()) != origin:
        raise ConfigError(f"{work}: holds images of other settings or other files; remove it")
    with writing(f"--out={work.parent}"):
        work.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(origin))


def one_shape(seen: Scan, names: dict[str, Any]) -> None:
    """Raise ConfigError where images differ in shape."""
    import numpy as np

    from diffjax.data.source import SPLITS

    other = np.flatnonzero((seen.shape != seen.shape[0]).any(1))
    if len(other):
        i = other[0]
        by = [" x ".join(map(str, seen.shape[k])) for k in (i, 0)]
        name = names[SPLITS[seen.split[i]]](int(seen.number[i]))
        raise ConfigError(f"{name}: is {by[0]}, and the first image is {by[1]}; set --size")


def split(
    seen: Scan, removed: Removed, test: float | None, has_test: bool
) -> dict[str, np.ndarray]:
    """Return the indices of the items that remain, by split.

    test: the share to hold out, None for the splits of the source, or 0.1 without them. Raises
    ConfigError for a split without items.
    """
    import numpy as np

    from diffjax.data import prepare

    if has_test and test is None:
        held_out = seen.split == 1
    else:
        held_out = prepare.divide(seen, 0.1 if test is None else test)
    stays = np.ones(len(held_out), bool)
    stays[removed.item] = False
    items = {
        "train": np.flatnonzero(stays & ~held_out),
        "test": np.flatnonzero(stays & held_out),
    }
    if empty := [name for name, index in items.items() if not len(index)]:
        raise ConfigError(f"--test: none of {len(held_out)} images is left for {empty[0]!r}")
    return items


def listed(seen: Scan, names: dict[str, Any]) -> str:
    """Return the unreadable files with the reasons, one line each."""
    from diffjax.data.source import SPLITS

    return "".join(f"{names[SPLITS[s]](i)}: {reason}\n" for s, i, reason in seen.bad)


def table(seen: Scan, removed: Removed, names: dict[str, Any]) -> str:
    """Return a CSV table of removed and kept originals, and the number of bits that differ."""
    from diffjax.data.source import SPLITS

    name = lambda k: names[SPLITS[seen.split[k]]](int(seen.number[k]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["removed", "kept", "bits"])
    writer.writerows([name(i), name(j), bits] for i, j, bits in zip(*removed, strict=True))
    return out.getvalue()


def draw(path: Path, seen: Scan, removed: Removed, work: Path) -> None:
    """Write a picture of pairs of a removed and a kept image, the least similar first.

    No picture is written where no image was removed.
    """
    import numpy as np
    from PIL import Image

    from diffjax import plot
    from diffjax.data import prepare

    path.unlink(missing_ok=True)
    far = np.abs(seen.small[removed.item].astype(int) - seen.small[removed.kept]).mean((1, 2, 3))
    chosen = np.lexsort((-far, -removed.bits))[:PAIRS]
    pairs = np.stack([removed.item[chosen], removed.kept[chosen]], 1)
    if not len(pairs):
        return
    images = [
        np.concatenate(
            [
                np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
                for png in prepare.encoded(seen, work, pair)
            ],
            axis=1,
        )
        for pair in pairs
    ]
    plot.save(path, plot.grid(np.stack(images), columns=min(6, len(images)), tile=SIDE))


if __name__ == "__main__":
    cli.main(run)
