"""`tfds:<name>`: data sets prepared by TFDS as ArrayRecord, read without TensorFlow."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax.config import ConfigError, nearest
from diffjax.data.decoded import Decoded
from diffjax.data.source import check_split

if TYPE_CHECKING:
    from PIL import Image


class _Files:
    """Encoded images of one split, with their labels."""

    def __init__(self, builder: Any, split: str, image: str, label: str):
        import tensorflow_datasets

        skip = {image: tensorflow_datasets.decode.SkipDecoding()}
        self._source = builder.as_data_source(split, decoders=skip)
        self._image, self._label = image, label
        self._parts = builder.info.splits[split].file_instructions
        features = builder.info.features
        self.classes = features[label].num_classes if label in features else 0

    def __len__(self) -> int:
        return len(self._source)

    def name(self, i: int) -> str:
        ends = itertools.accumulate(part.take for part in self._parts)
        starts = itertools.pairwise((0, *ends))
        where = ((p, i - a) for p, (a, b) in zip(self._parts, starts, strict=True) if a <= i < b)
        file, k = next(where)
        return f"{file.filename}, record {file.skip + k}"

    def read(self, index: Sequence[int]) -> list[tuple[Callable[[], Image.Image], int]]:
        from PIL import Image

        try:
            records = self._source.__getitems__(list(index))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{self.name(index[0])} or one of {len(index)} read with it: damaged ({reason}); "
                f"prepare the data set again"
            ) from error
        return [
            (functools.partial(Image.open, io.BytesIO(r[self._image])), int(r.get(self._label, 0)))
            for r in records
        ]


def tfds(
    split: str,
    dataset: str = "",
    data_dir: str = "",
    train: str = "train",
    test: str = "test",
    image: str = "image",
    label: str = "label",
    size: int = 0,
    channels: int = 3,
    unreadable: int = 0,
) -> Decoded:
    """Images of `dataset`, as "name", "name/config" or "name:version", under `data_dir`.

    data_dir: TFDS_DATA_DIR or ~/tensorflow_datasets where it is empty. train, test: the splits, as
    TFDS writes them ("validation", "train[:90%]"). image, label: names of the features. size,
    channels, unreadable: as for a folder. Raises ValueError where the data set is not there, not
    prepared as ArrayRecord, or lacks the split or the feature, and says what to do.
    """
    check_split(split, "tfds")
    builder = _builder(dataset, data_dir)
    wanted = {"train": train, "test": test}[split]
    known = sorted(builder.info.splits)
    name = wanted.split("[")[0]
    if name not in known:
        raise ValueError(f"{split}={wanted!r}: no such split of {dataset}{nearest(name, known)}")
    features = sorted(builder.info.features)
    if image not in features:
        raise ValueError(f"image={image!r}: no such feature{nearest(image, features)}")
    if label not in features and label != "label":
        raise ValueError(f"label={label!r}: no such feature{nearest(label, features)}")
    try:
        files = _Files(builder, wanted, image, label)
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{split}={wanted!r} of {builder.data_dir}: {reason}") from error
    return Decoded(files, size, channels, unreadable)


def _builder(dataset: str, data_dir: str) -> Any:
    """The prepared data set, found on disk alone: nothing is downloaded."""
    import tensorflow_datasets
    from tensorflow_datasets.core import constants, read_only_builder

    root = Path(data_dir or constants.DATA_DIR).expanduser()
    there = sorted(p.name for p in root.glob("*") if any(p.glob("**/dataset_info.json")))
    place = f"{root} (config.data.data_dir or TFDS_DATA_DIR)"
    build = f"tfds build {dataset or 'NAME'} --file_format=array_record --data_dir={root}"
    if not dataset:
        raise ValueError(f"no data set named; the form is name=tfds:NAME{nearest('', there)}")
    try:
        builder = read_only_builder.builder_from_files(dataset, data_dir=str(root))
    except (tensorflow_datasets.core.DatasetNotFoundError, ValueError, KeyError, OSError):
        raise ValueError(
            f"dataset={dataset!r}: not prepared in {place}{nearest(dataset, there)}. "
            f"Where tensorflow is installed, prepare it: {build}"
        ) from None
    form = builder.info.file_format
    if form is None or form.value != "array_record":
        raise ValueError(
            f"{builder.data_dir}: prepared as {form and form.value}, which cannot be read in any "
            f"order. Where tensorflow is installed, prepare it again: {build}"
        )
    return builder
