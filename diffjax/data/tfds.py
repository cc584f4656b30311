"""The source `tfds:<name>`: data sets that TFDS prepared as ArrayRecord, without TensorFlow."""

from __future__ import annotations

import functools
import io
import itertools
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diffjax.config import ConfigError, nearest
from diffjax.data.decoded import Decoded
from diffjax.data.source import BLOCK, NoSplit, check_split

if TYPE_CHECKING:
    from PIL import Image


DEFAULT = "label"
"""Default name of the feature that holds the class of an image."""
CAPTIONS = ("captions", "caption", "text")
"""Default names of the features that hold captions; `tools.prepare` writes the first."""


class _Files:
    """Encoded images of one split, with their labels and captions."""

    def __init__(self, builder: Any, split: str, image: str, label: str, texts: Sequence[str]):
        from tensorflow_datasets import decode
        from tensorflow_datasets.core import features as kinds

        raw = decode.DeserializeMethod.RAW_BYTES
        self._source = builder.as_data_source(split, deserialize_method=raw)
        self._skip = {image: decode.SkipDecoding()}
        self._image, self._label = image, label
        self._parts = builder.info.splits[split].file_instructions
        features = builder.info.features
        # Only these features: decoding others may need further packages.
        only = {name: features[name] for name in (image, label) if name}
        self._features = kinds.FeaturesDict(only)
        self.names = features[label].names if label else []
        self._texts = texts and kinds.FeaturesDict({name: features[name] for name in texts})

    def __len__(self) -> int:
        return len(self._source)

    def labels(self) -> Sequence[int]:
        blocks = (range(i, min(i + BLOCK, len(self))) for i in range(0, len(self), BLOCK))
        return [label for block in blocks for _, label in self.read(block)]

    def name(self, i: int) -> str:
        ends = itertools.accumulate(part.take for part in self._parts)
        starts = itertools.pairwise((0, *ends))
        where = ((p, i - a) for p, (a, b) in zip(self._parts, starts, strict=True) if a <= i < b)
        file, k = next(where)
        return f"{file.filename}, record {file.skip + k}"

    def read(self, index: Sequence[int]) -> list[tuple[Callable[[], Image.Image], int]]:
        from PIL import Image

        return [
            (functools.partial(Image.open, io.BytesIO(r[self._image])), int(r.get(self._label, 0)))
            for r in self._records(index, self._features, self._skip)
        ]

    def captions(self, index: Sequence[int]) -> list[list[str]]:
        if not self._texts:
            return [[] for _ in index]
        parts = lambda value: [value] if isinstance(value, bytes) else [*value]
        return [
            [text.decode() for value in record.values() for text in parts(value) if text]
            for start in range(0, len(index), BLOCK)
            for record in self._records(index[start : start + BLOCK], self._texts, None)
        ]

    def _records(self, index: Sequence[int], features: Any, decoders: Any) -> list[dict[str, Any]]:
        """Return the features of records; raise ConfigError, which names it, for a damaged one."""
        try:
            stored = self._source.__getitems__(list(index))
            known = features.deserialize_example_np
            return [cast(Any, known(record, decoders=decoders)) for record in stored]
        except Exception as error:
            if len(index) > 1:  # read one record at a time, to name the damaged one
                return [item for i in index for item in self._records([i], features, decoders)]
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{self.name(index[0])}: damaged ({reason}); prepare the data set again"
            ) from error


def tfds(
    split: str,
    dataset: str = "",
    data_dir: str = "",
    train: str = "train",
    test: str = "test",
    image: str = "image",
    label: str = DEFAULT,
    size: int = 0,
    channels: int = 3,
    unreadable: int = 0,
    captions: tuple[str, ...] = (),
) -> Decoded:
    """Open the images of `dataset`, as "name", "name/config" or "name:version", under `data_dir`.

    data_dir: by default TFDS_DATA_DIR or ~/tensorflow_datasets. train, test: the splits in the
    notation of TFDS ("validation", "train[:90%]"). image, label: the names of the features, with
    label="" for none. The label must be a ClassLabel; the default feature is ignored where it is of
    another type. size, channels, unreadable: as for a folder. captions: the features with texts, or
    lists of texts; by default those of the names `captions`, `caption` and `text`. Raises
    ValueError where the data set does not exist, is not prepared as ArrayRecord, or lacks the split
    or the feature; the message states the remedy.

    >>> tfds("valid", "cifar10")
    Traceback (most recent call last):
    ValueError: split='valid': ...
    """
    import tensorflow_datasets

    check_split(split, "tfds")
    builder = _builder(dataset, data_dir)
    wanted = {"train": train, "test": test}[split]
    known = sorted(builder.info.splits)
    for name in (term.split("[")[0].strip() for term in wanted.split("+")):
        if name not in known:
            raise NoSplit(f"{split}={wanted!r}: no such split of {dataset}{nearest(name, known)}")
    features = sorted(builder.info.features)
    if image not in features:
        raise ValueError(f"image={image!r}: no such feature{nearest(image, features)}")
    if not isinstance(builder.info.features[image], tensorflow_datasets.features.Image):
        raise ValueError(f"image={image!r}: is not an image but {builder.info.features[image]}")
    if label not in ("", DEFAULT, *features):
        raise ValueError(f"label={label!r}: no such feature{nearest(label, features)}")
    label = _class_label(builder.info.features, label, split)
    texts = _of_texts(builder.info.features, captions)
    try:
        files = _Files(builder, wanted, image, label, texts)
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{split}={wanted!r} of {builder.data_dir}: {reason}") from error
    return Decoded(files, size, channels, unreadable)


def _class_label(features: Any, name: str, split: str) -> str:
    """Return the name of the feature with the class of each image, "" for none.

    Raises ValueError for a feature that is not a ClassLabel. Where such a feature has the default
    name, a line on stderr reports that it is ignored.
    """
    import tensorflow_datasets

    if not name or name not in features:
        return ""
    feature, known = features[name], tensorflow_datasets.features.ClassLabel
    if isinstance(feature, known):
        return name
    of = getattr(feature, "feature", None)
    kind = type(feature).__name__ + (f" of {type(of).__name__}" if of is not None else "")
    line = f"label={name!r}: is {kind}; needs ClassLabel, which gives each image one class"
    if name != DEFAULT:
        raise ValueError(f"{line}; label='' reads no labels")
    if split == "train":
        print(f"{line}: no labels are read", file=sys.stderr)
    return ""


def _of_texts(features: Any, names: Sequence[str]) -> list[str]:
    """Return the names of the features that hold captions.

    Raises ValueError for a feature among `names` that is neither a text nor a list of texts.
    """
    import tensorflow_datasets

    text = tensorflow_datasets.features.Text
    holds = lambda feature: isinstance(getattr(feature, "feature", feature), text)
    known = [name for name in features if holds(features[name])]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"captions={unknown[0]!r}: no such feature of texts{nearest(unknown[0], known)}"
        )
    return [*(names or (name for name in CAPTIONS if name in known))]


def _builder(dataset: str, data_dir: str) -> Any:
    """Return the TFDS builder of a data set that is prepared on disk; nothing is downloaded."""
    from tensorflow_datasets.core import constants, read_only_builder

    root = Path(data_dir or constants.DATA_DIR).expanduser()
    name, place = shlex.quote(dataset or "NAME"), shlex.quote(str(root))
    build = f"tfds build {name} --file_format=array_record --data_dir={place}"
    fetch = f"python -m diffjax.tools.fetch cifar10 --out={place} downloads it. "
    try:
        if not dataset:
            raise ValueError("no name given")
        builder = read_only_builder.builder_from_files(dataset, data_dir=str(root))
    except Exception:  # TFDS raises many types: no data set, no such version, damaged metadata
        files = ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
        there = {p.relative_to(root).parts[0] for pattern in files for p in root.glob(pattern)}
        raise ValueError(
            f"dataset={dataset!r}: not prepared in {root} (config.data.data_dir or TFDS_DATA_DIR)"
            f"{nearest(dataset, there)}. The form is name=tfds:NAME. "
            f"{fetch if dataset == 'cifar10' else ''}"
            f"Where tensorflow is installed, prepare it: {build}"
        ) from None
    form = builder.info.file_format
    if form is None or form.value != "array_record":
        raise ValueError(
            f"{builder.data_dir}: is stored as {form and form.value}, which has no random access. "
            f"Where tensorflow is installed, prepare it again: {build}"
        )
    return builder
