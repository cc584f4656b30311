"""Trained networks that come with the package, and larger ones of the package `diffjax_zoo`.

    diffjax.load("digits").sample(16, label=3).picture()
    python -m diffjax.sample --workdir=zoo:digits --label=3 --num=16
    python -m diffjax.tools.zoo

`diffjax_zoo` is the folder `zoo` of the repository (`pip install ./zoo`). An entry is a folder: an
export of a run (`Trained.save`) with parameters in float16, `card.json` on its training,
`evaluation.json` with its measured quality, and `samples.png`. Entries of autoencoders are codecs,
as in `--config.data.codec=zoo:emoji_vae`, with parameters in float32 and `reconstruction.json`.
`diffjax.tools.zoo` writes entries and prints their cards.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from diffjax.config import ConfigError, nearest

HERE = Path(__file__).parent
MORE = "diffjax_zoo"
PREFIX = "zoo:"
CARD, PICTURE, WRITTEN = "card.json", "samples.png", "evaluation.json"
REBUILT = "reconstruction"
"""Name of the files on the quality of an autoencoder, without their endings."""
COPIES = Path("runs", "zoo")
"""The folder, in the current one, of the copies that commands work on."""


def folders() -> list[Path]:
    """Return the folders that hold entries: this one, and that of `diffjax_zoo` if it is there."""
    spec = importlib.util.find_spec(MORE)
    more = spec.submodule_search_locations if spec else None
    return [HERE, *map(Path, more or ())]


def names() -> list[str]:
    """Return the names of all entries.

    >>> "digits" in names()
    True
    """
    return sorted(path.parent.name for here in folders() for path in here.glob(f"*/{CARD}"))


def place(name: str) -> Path:
    """Return the folder of an entry; raise ConfigError for an unknown name.

    >>> place("digits").name
    'digits'
    >>> place("digit")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: zoo:digit: unknown (did you mean 'digits'?); ...
    """
    if name not in (known := names()):
        more = "" if len(folders()) > 1 else "; more come with diffjax_zoo (pip install ./zoo)"
        raise ConfigError(f"{PREFIX}{name}: unknown{nearest(name, known)}{more}")
    return next(here / name for here in folders() if (here / name / CARD).exists())


def found(path: str | Path) -> Path:
    """Return a path, or the folder of the entry that it names, as `zoo:NAME`.

    A bare NAME is that of an entry where nothing lies at this path.

    >>> found("digits") == found("zoo:digits") == place("digits")
    True
    """
    text = str(path)
    if text.startswith(PREFIX):
        return place(text.removeprefix(PREFIX))
    return place(text) if text in names() and not Path(path).exists() else Path(path)


def copied(name: str) -> Path:
    """Return the folder of a copy of an entry, in the current folder, that commands may write to.

    It is copied on first use.
    """
    out, entry = COPIES / name, place(name)
    if not out.exists():
        beside = out.with_name(f".{name}")
        shutil.rmtree(beside, ignore_errors=True)
        left_out = shutil.ignore_patterns(WRITTEN, PICTURE, f"{REBUILT}.*")
        shutil.copytree(entry, beside, ignore=left_out)
        beside.rename(out)
        print(f"{PREFIX}{name}: copied to {out}", file=sys.stderr)
    return out
