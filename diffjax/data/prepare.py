"""Conversion of images from any source to a data set that `tfds:NAME` reads.

The originals are scanned in parts, which stay on disk until the data set is complete: an
interrupted conversion resumes and writes bit-for-bit identical files. After the scan, duplicates
are removed, and the remaining images are split and written.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from diffjax.data import duplicates
from diffjax.data.decoded import Files
from diffjax.data.duplicates import Removed
from diffjax.data.images import Unreadable, decode
from diffjax.data.source import SPLITS
from diffjax.data.tfds import CAPTIONS
from diffjax.files import write_arrays
from diffjax.progress import Progress

VERSION = "1.0.0"
PART = 512
SHARD = 2**28
"""Size in bytes after which a split continues in another file."""


@dataclass(frozen=True)
class Scan:
    """Properties of the readable originals, (N, ...) each, and a list of the unreadable ones.

    part, place: the part that holds the PNG of an image, and its position there. split: the number
    in SPLITS. number: the index in the files of the split. label: the class. digest: SHA-256 of
    shape and pixels. bits, small: see `duplicates.look`. sums: (N, 2, C), sums of the pixels and of
    their squares. size: width and height of the original. shape: the shape of the result. bad:
    (split, number, reason) of each unreadable original.
    """

    part: np.ndarray
    place: np.ndarray
    split: np.ndarray
    number: np.ndarray
    label: np.ndarray
    digest: np.ndarray
    bits: np.ndarray
    small: np.ndarray
    sums: np.ndarray
    size: np.ndarray
    shape: np.ndarray
    bad: list[tuple[int, int, str]]


def scan(
    originals: Mapping[str, Files], work: Path, size: int, channels: int, workers: int
) -> Scan:
    """Read, resize and hash all originals, in parts that are stored in the folder `work`.

    Parts that exist there are reused. originals: the files by split. size: height and width to
    resize and crop to, or 0 to keep them. channels: 1 (grey) or 3 (RGB). workers: the number of
    threads.
    """
    tasks = [
        (SPLITS.index(split), files, range(start, min(start + PART, len(files))))
        for split, files in originals.items()
        for start in range(0, len(files), PART)
    ]

    def one(k: int) -> int:
        split, files, index = tasks[k]
        file = work / f"{k:06d}.npz"
        if not file.exists():
            write_arrays(file, _scanned(split, files, index, size, channels))
        return len(index)

    with (
        Progress("read images", sum(len(f) for f in originals.values()), "image") as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        jobs = [pool.submit(one, k) for k in range(len(tasks))]
        try:
            for job in jobs:
                progress.advance(job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    parts = [_load(work, k) for k in range(len(tasks))]
    bad = [tuple(json.loads(text)) for part in parts for text in part["bad"].tolist()]
    names = ("split", "number", "label", "digest", "bits", "small", "sums", "size", "shape")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    lengths = [len(part["label"]) for part in parts]
    place = np.concatenate([np.arange(n) for n in lengths])
    return Scan(part=np.repeat(np.arange(len(parts)), lengths), place=place, bad=bad, **joined)


def _scanned(
    split: int, files: Files, index: range, size: int, channels: int
) -> dict[str, np.ndarray]:
    """Scan one part: return the arrays of `Scan`, and the PNG files.

    `png` holds the PNG files one after another, and `ends` the position where each of them ends.
    """
    images, rows, encoded, bad = [], [], [], []
    for number, (open_image, label) in zip(index, files.read(index), strict=True):
        try:
            x, original = decode(open_image, size, channels)
        except Unreadable as error:
            bad.append(json.dumps((split, number, str(error))))
            continue
        digest = hashlib.sha256(repr(x.shape).encode() + x.tobytes()).digest()
        wide = x.astype(np.int64)
        sums = (wide.sum((0, 1)), (wide**2).sum((0, 1)))
        rows.append((number, label, np.frombuffer(digest, np.uint8), sums, original, x.shape))
        images.append(x)
        encoded.append(_png(x))
    number, label, digest, sums, original, shape = zip(*rows, strict=True) if rows else [()] * 6
    bits, small = duplicates.look(images)
    return {
        "split": np.full(len(rows), split),
        "number": np.array(number, np.int64),
        "label": np.array(label, np.int64),
        "digest": np.array(digest, np.uint8).reshape(-1, 32),
        "bits": bits,
        "small": small,
        "sums": np.array(sums, np.int64).reshape(-1, 2, channels),
        "size": np.array(original, np.int64).reshape(-1, 2),
        "shape": np.array(shape, np.int64).reshape(-1, 3),
        "bad": np.array(bad, str),
        "png": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(e) for e in encoded], dtype=np.int64),
    }


def _png(x: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x).save(out, "PNG")
    return out.getvalue()


def _load(work: Path, part: int) -> dict[str, np.ndarray]:
    with np.load(work / f"{part:06d}.npz") as stored:
        return {k: stored[k] for k in stored.files if k not in ("png", "ends")}


def encoded(seen: Scan, work: Path, index: np.ndarray) -> Iterator[bytes]:
    """Iterate over the PNG files of these items; consecutive items of a part load it only once."""
    part, png, ends = -1, b"", np.zeros(0, np.int64)
    for i in index:
        if seen.part[i] != part:
            part = int(seen.part[i])
            with np.load(work / f"{part:06d}.npz") as stored:
                png, ends = stored["png"].tobytes(), stored["ends"]
        place = seen.place[i]
        yield png[ends[place - 1] if place else 0 : ends[place]]


def captions(seen: Scan, originals: Mapping[str, Files]) -> list[list[str]]:
    """Return the captions of all readable images, [] where no image has any."""
    every = {split: files.captions(range(len(files))) for split, files in originals.items()}
    places = zip(seen.split.tolist(), seen.number.tolist(), strict=True)
    texts = [every[SPLITS[split]][number] for split, number in places]
    return texts if any(texts) else []


def remove(seen: Scan, dedup: str, most: int) -> Removed:
    """Remove copies ("exact"), also images that look alike ("near"), or nothing ("none").

    The first image of each group is kept, where held-out images come before training images. most:
    the largest Hamming distance of images that look alike, in bits.
    """
    order = np.argsort(-seen.split, kind="stable")
    none = Removed(*np.zeros((3, 0), np.int64))
    if dedup == "none":
        return none
    copies = duplicates.exact(seen.digest, order)
    left = order[~np.isin(order, copies.item)]
    alike = duplicates.near(seen.bits, seen.small, left, most) if dedup == "near" else none
    return Removed(*(np.concatenate(pair) for pair in zip(copies, alike, strict=True)))


def divide(seen: Scan, test: float) -> np.ndarray:
    """Return a mask (N,) of the held-out items: a share `test` of the distinct images per class.

    The digest decides which images are held out. Copies stay in one split, whatever their labels.
    """
    _, first, group = np.unique(seen.digest, axis=0, return_index=True, return_inverse=True)
    held_out = np.zeros(len(first), bool)
    for kind in np.unique(seen.label[first]):
        ours = np.flatnonzero(seen.label[first] == kind)  # np.unique has sorted them by digest
        held_out[ours[: round(test * len(ours))]] = True
    return held_out[group.ravel()]


def write(
    folder: Path,
    name: str,
    items: Mapping[str, np.ndarray],
    seen: Scan,
    work: Path,
    kinds: Any,
    texts: Sequence[Sequence[str]] = (),
) -> None:
    """Write the ArrayRecord files of each split and the metadata of TFDS to a new folder.

    The files are written to a temporary folder, which is renamed once they are complete. items: the
    indices of the items of each split. kinds: the names of the classes; empty for no labels. texts:
    the captions of each image, or empty.
    """
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    infos = []
    fresh = folder.with_name(folder.name + ".fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for split, index in items.items():
        shards = _shards(seen, work, index)
        with Progress(f"write {split}", len(index), "image") as progress:
            for k, shard in enumerate(shards):
                of = f"{k:05d}-of-{len(shards):05d}"
                writer = ArrayRecordWriter(
                    str(fresh / f"{name}-{split}.array_record-{of}"), "group_size:1"
                )
                for i, png in zip(shard, encoded(seen, work, shard), strict=True):
                    label = int(seen.label[i]) if kinds else None
                    # TFDS reads no empty lists.
                    writer.write(_example(png, label, (texts[int(i)] or [""]) if texts else ()))
                    progress.advance()
                writer.close()
        sizes = [p.stat().st_size for p in fresh.glob(f"{name}-{split}.*")]
        infos.append(tfds.core.SplitInfo(split, [len(s) for s in shards], sum(sizes)))
    image = tfds.features.Image(shape=tuple(int(n) for n in seen.shape[0]), encoding_format="png")
    label = {"label": tfds.features.ClassLabel(names=list(kinds))} if kinds else {}
    captions = {CAPTIONS[0]: tfds.features.Sequence(tfds.features.Text())} if texts else {}
    tfds.folder_dataset.write_metadata(
        data_dir=fresh,
        features=tfds.features.FeaturesDict({"image": image, **label, **captions}),
        split_infos=infos,
        version=VERSION,
        check_data=False,
        disable_shuffling=True,
    )
    fresh.replace(folder)


def _shards(seen: Scan, work: Path, index: np.ndarray) -> list[np.ndarray]:
    """Return the items of each file of a split, of about SHARD bytes."""
    lengths = np.array([len(png) for png in encoded(seen, work, index)])
    starts = np.flatnonzero(np.diff((np.cumsum(lengths) - lengths) // SHARD)) + 1
    return np.split(index, starts)


def _example(png: bytes, label: int | None, texts: Sequence[str]) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    example: Any = cast(Any, tf_example_pb2).Example()
    example.features.feature["image"].bytes_list.value.append(png)
    if label is not None:
        example.features.feature["label"].int64_list.value.append(label)
    if texts:
        values = example.features.feature[CAPTIONS[0]].bytes_list.value
        values.extend(text.encode() for text in texts)
    return example.SerializeToString(deterministic=True)


def statistics(seen: Scan, items: Mapping[str, np.ndarray], kinds: Sequence[str]) -> dict[str, Any]:
    """Return counts, colour statistics of the training images and sizes of the originals.

    The mean and the standard deviation per channel are those of values in [-1, 1], as the network
    sees them. items: the indices of the items of each split. kinds: the names of the classes.
    """
    train = items["train"]
    pixels = float(len(train) * np.prod(seen.shape[0, :2]))
    total, squares = seen.sums[train].sum(0) / pixels
    every = np.concatenate(list(items.values()))
    digest = hashlib.sha256(seen.digest[every].tobytes() + seen.label[every].tobytes())
    count = lambda index: np.bincount(seen.label[index], minlength=len(kinds)).tolist()
    return {
        "images": {split: len(index) for split, index in items.items()},
        "classes": {
            split: dict(zip(kinds, count(index), strict=bool(kinds)))
            for split, index in items.items()
        },
        "shape": seen.shape[0].tolist(),
        "mean": (total / 127.5 - 1).tolist(),
        "std": (np.sqrt(squares - total**2) / 127.5).tolist(),
        "original_width_height": {
            name: pick(seen.size[every], axis=0).tolist()
            for name, pick in (("least", np.min), ("median", np.median), ("most", np.max))
        },
        "sha256": digest.hexdigest(),
    }
