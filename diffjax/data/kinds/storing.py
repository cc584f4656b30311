"""File formats of items: images, arrays, tables, sounds and points."""

from __future__ import annotations

import io
import math
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Files, Texts, Units

if TYPE_CHECKING:
    from PIL import Image

Shape = tuple[int, ...]
RATE = 16_000
"""Samples per second of a sound whose form states no rate."""
APART = 6.0
"""Distance of neighbouring clouds in a PLY file."""


def _write_png(path: Path, item: np.ndarray, units: Units, texts: Texts) -> None:
    drawing.save(path, item, texts)


def _read_png(path: Path, shape: Shape, units: Units) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return _pixels(image, shape[-1])


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    """Return an image as uint8 (H, W, channels), in grey where `channels` is 1."""
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array


def _write_npy(path: Path, item: np.ndarray, units: Units, texts: Texts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, ended(item), allow_pickle=False)


def _read_npy(path: Path, shape: Shape, units: Units) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def ended(item: np.ndarray) -> np.ndarray:
    """Return an item (L, ...) without its padding, the positions at the end that are all NaN."""
    if not np.issubdtype(item.dtype, np.floating):
        return item
    inside = np.flatnonzero(~np.isnan(item.reshape(len(item), -1)).all(1))
    return item[: inside[-1] + 1] if len(inside) else item


def _write_csv(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    """Write a row per item, under the names of the columns where the units state them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = units.get("columns") or [f"x{i}" for i in range(items.shape[1])]
    np.savetxt(path, items, "%.9g", ",", header=",".join(names), comments="")


def _read_csv(path: Path, shape: Shape, units: Units) -> np.ndarray:
    return np.loadtxt(path, np.float32, delimiter=",", skiprows=1, ndmin=2)


def _write_wav(path: Path, item: np.ndarray, units: Units, texts: Texts) -> None:
    """Write 16 bits per sample; floats beyond [-1, 1] are clipped, as the file cannot hold them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(ended(item), int(units.get("rate", RATE))))


def wav_bytes(sound: np.ndarray, rate: int) -> bytes:
    """Return the bytes of a WAV file of a sound (L, channels), 16 bits at `rate` hertz.

    >>> len(wav_bytes(np.zeros((8, 1), np.int16), 8000))
    60
    """
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(sound.shape[-1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(to_int16(sound).astype("<i2").tobytes())
    return buffer.getvalue()


def _read_wav(path: Path, shape: Shape, units: Units) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path}: has {8 * file.getsampwidth()} bits; needs 16")
        rate, needed = file.getframerate(), int(units.get("rate", file.getframerate()))
        if rate != needed:
            raise ValueError(f"{path}: has {rate} samples per second; needs {needed}")
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return frames.reshape(-1, file.getnchannels()).astype(np.int16)


def to_int16(x: np.ndarray) -> np.ndarray:
    """Return sound as 16-bit integers: floats in [-1, 1) times 32,768, clipped beyond."""
    if x.dtype == np.int16:
        return x
    return np.clip(np.round(np.asarray(x) * 32768), -32768, 32767).astype(np.int16)


def _write_xyz(path: Path, item: np.ndarray, units: Units, texts: Texts) -> None:
    """Write points (N, d) in the format XYZ: their number, a comment, and a line for each point.

    The element is X; a point in the plane has z = 0.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    points = np.pad(ended(item), ((0, 0), (0, 3 - item.shape[1])))
    lines = ["X " + " ".join(f"{value:.9g}" for value in point) for point in points]
    comment = " ".join(f"{name}={value}" for name, value in units.items())
    path.write_text("\n".join([str(len(points)), comment, *lines]) + "\n")


def _read_xyz(path: Path, shape: Shape, units: Units) -> np.ndarray:
    return np.loadtxt(path, np.float32, skiprows=2, usecols=range(1, 1 + shape[-1]), ndmin=2)


def _write_ply(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    """Write clouds (K, N, d) as one PLY file in text: places, colours, and the number of each item.

    The clouds stand side by side, as `places` says; points in the plane have z = 0.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number = np.repeat(np.arange(len(items)), items.shape[1])
    points = np.pad(items, ((0, 0), (0, 0), (0, 3 - items.shape[2]))).astype(np.float64)
    colours = drawing.COLOURS[number % len(drawing.COLOURS)]
    x = (points + places(len(items))[:, None]).reshape(-1, 3)
    properties = [*(f"double {axis}" for axis in "xyz")]
    properties += [*(f"uchar {name}" for name in ("red", "green", "blue")), "int item"]
    header = ["ply", "format ascii 1.0", f"element vertex {len(x)}"]
    header += [*(f"property {name}" for name in properties), "end_header"]
    rows = np.concatenate([x, colours, number[:, None]], 1)
    with path.open("w") as file:
        np.savetxt(file, rows, ["%.9g"] * 3 + ["%d"] * 4, header="\n".join(header), comments="")


def places(count: int) -> np.ndarray:
    """Return where the middles of clouds stand in a PLY file, in an upright grid, (count, 3).

    >>> places(3).tolist()
    [[0.0, 0.0, 0.0], [6.0, 0.0, 0.0], [0.0, -6.0, 0.0]]
    """
    row, column = np.divmod(np.arange(count), math.ceil(math.sqrt(count)))
    return APART * np.stack([column, -row, 0 * row], 1)


def _read_ply(path: Path, shape: Shape, units: Units) -> np.ndarray:
    """Read the clouds of a file that `_write_ply` wrote."""
    text = path.read_text()
    values = np.array(text.partition("end_header\n")[2].split(), np.float64).reshape(-1, 7)
    x = values[:, :3].reshape(-1, shape[0], 3)
    return (x - places(len(x))[:, None])[..., : shape[-1]].astype(np.float32)


PNG = Files(".png", _write_png, _read_png)
NPY = Files(".npy", _write_npy, _read_npy)
CSV = Files(".csv", _write_csv, _read_csv, each=False)
WAV = Files(".wav", _write_wav, _read_wav)
XYZ = Files(".xyz", _write_xyz, _read_xyz)
PLY = Files(".ply", _write_ply, _read_ply, each=False)
