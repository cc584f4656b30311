"""The source `latents:<path>`: outputs of an encoder, read from memory maps of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffjax.data import conditions, kinds
from diffjax.data.array import labels, lengths
from diffjax.data.encoded import Encoded, about, encoded
from diffjax.data.form import Form
from diffjax.data.source import SPLITS, check_split, part
from diffjax.files import read_arrays
from diffjax.specs import Spec

LENGTHS = ("length", "mask")
"""Names of the files that state the lengths of padded items."""


@dataclass(frozen=True)
class Latents:
    """The rows `index` of an array, multiplied by `scale`, as float32.

    x: (N, ...), a memory map. index: (M,), the rows of this split. label: (N,), in [0, classes).
    cond: other conditions by name, (N, ...), also memory maps; with a `length` among them, items
    are NaN beyond it. masks: masks (N, L) by the name of a condition, which is missing where the
    mask is 0.
    """

    x: np.ndarray
    index: np.ndarray
    scale: float
    label: np.ndarray | None = None
    classes: int = 0
    kind: str = "latent"
    cond: Mapping[str, np.ndarray] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        label = (Spec("label", "label", self.classes),) if self.classes else ()
        longest = self.shape[0]
        others = (conditions.describe(k, v, longest=longest) for k, v in self.cond.items())
        return Form(self.kind, self.shape, (*label, *others))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        rows = self.index[index]
        items = {"x": np.asarray(self.x[rows], np.float32) * np.float32(self.scale)}
        label = {} if self.label is None else {"label": self.label[rows]}
        others = {
            k: v[rows] if k == "length" else conditions.typed(v[rows]) for k, v in self.cond.items()
        }
        others |= {k: conditions.masked(others[k], mask[rows]) for k, mask in self.masks.items()}
        items["x"] = self.form.completed(items["x"], others)
        return items | label | others

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32) if self.label is None else self.label[self.index]


def latents(
    split: str, path: str = "", scale: float = 1.0, holdout: float = 0.1, kind: str = "latent"
) -> Latents | Encoded:
    """Read `latents.npy` (N, ..., C), float16 or float32, and `labels.npy` (N,) if it exists.

    A folder that `tools.encode` wrote has moments in their place, and splits, a kind and a scale of
    its own.

    Other conditions are `vector.npy`, `tokens.npy`, `map.npy` and `cond_NAME.npy`, (N, ...);
    `tokens_mask.npy` (N, L) is 0 where a token is missing, see `array`. Padded sequences
    (kind="sequence") have `length.npy` (N,), or `mask.npy` (N, L). Folders `train` and `test` in
    `path` with these files are the splits; otherwise the share `holdout` is held out. scale: the
    factor that brings values to a standard deviation of about 1 (0.18215 for the autoencoder of
    arXiv:2112.10752). kind: the kind of items that are not latents, with floats and no bound.
    Raises ValueError for files of any other form.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     np.save(f"{place}/latents.npy", np.zeros((10, 8, 8, 4), np.float16))
    ...     latents("train", place, holdout=0.0).form.shape
    (8, 8, 4)
    """
    check_split(split, "latents")
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"path={path!r}: no such folder; the form is name=latents:PATH")
    if (described := about(root)) is not None:
        if (scale, kind) != (1.0, "latent"):
            raise ValueError(
                f"scale={scale}, kind={kind!r}: {root} holds moments, which their codec has "
                f"normalised; allowed: scale=1.0, kind='latent'"
            )
        return encoded(split, root, described)
    if not 0 < abs(scale) < np.inf:
        raise ValueError(f"scale={scale}: needs a finite factor other than 0")
    if kinds.lookup(kind).bound is not None:
        raise ValueError(f"kind={kind!r}: has a bound; needs a kind without one, or array:PATH")
    return _in_files(root, split, scale, holdout, kind)


def _in_files(root: Path, split: str, scale: float, holdout: float, kind: str) -> Latents:
    """Open the files that `latents` describes in an existing folder."""
    apart = all((root / s / "latents.npy").is_file() for s in SPLITS)
    every = [root / s for s in SPLITS] if apart else [root]
    here = root / split if apart else root
    x = _opened(here / "latents.npy")
    if x.ndim < 2 or not len(x) or not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"{here / 'latents.npy'}: is {x.dtype} of shape {x.shape}; needs floats (N, ..., C)"
        )
    every_row = range(len(x))
    index = np.array(every_row if apart else part([*map(str, every_row)], split, holdout))
    label, classes = None, 0
    if (here / "labels.npy").is_file():
        known = [_opened(folder / "labels.npy") for folder in every]
        try:
            label, classes = labels(_opened(here / "labels.npy"), len(x), known)
        except ValueError as error:
            raise ValueError(f"{here / 'labels.npy'}: {error}") from error
    ends = {k: _opened(here / f"{k}.npy") for k in LENGTHS if (here / f"{k}.npy").is_file()}
    try:
        cond, masks = _conditions(here)
        if (length := lengths(kind, ends, x)) is not None:
            cond["length"] = length
        conditions.check(cond, len(x), x.shape[1:])
        source = Latents(x, index, scale, label, classes, kind, cond, masks)
        source.form.items.check(source.shape, "float32")
    except ValueError as error:
        raise ValueError(f"{here}: {error}") from error
    return source


def _conditions(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Open the conditions other than the label in a folder, and their masks, as memory maps.

    Both are by the name of the condition. Raises ValueError for a mask without its condition.
    """
    files = {file.stem: file for file in sorted(folder.glob("*.npy"))}
    is_condition = lambda stem: stem in conditions.NAMED or stem.startswith(conditions.PREFIX)
    cond: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    for stem in filter(is_condition, files):
        if not stem.endswith("_mask"):
            cond[stem.removeprefix(conditions.PREFIX)] = _opened(files[stem])
    for stem in files:
        described = stem.removesuffix("_mask")
        if described == stem or not is_condition(described):
            continue
        if described not in files:
            raise ValueError(f"{stem}.npy: belongs to {described}.npy, which is missing")
        name, mask = described.removeprefix(conditions.PREFIX), _opened(files[stem])
        conditions.check_mask(described, cond[name], mask)
        masks[name] = mask
    return cond, masks


def _opened(file: Path) -> np.ndarray:
    """Open an .npy file as a memory map; raise ValueError for anything else."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        arrays = read_arrays(file, map_file=True)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if [*arrays] != ["x"]:
        raise ValueError(f"{file}: holds {', '.join(arrays) or 'nothing'}; needs an .npy file")
    return arrays["x"]
