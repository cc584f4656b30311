"""A filter by any image classifier in ONNX."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import checks
from diffjax.files import reason
from diffjax.filters.base import Filter, Images
from diffjax.io.fetch import sha256

EXTRA = "pip install 'diffjax[filter]'"


def onnx(
    path: str,
    threshold: float = 0.5,
    output: int = -1,
    resize: int = 0,
    order: str = "rgb",
    scale: float = 255.0,
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0),
    softmax: bool = False,
) -> Filter:
    """Stop images to which a classifier gives a score above a threshold.

    path: an ONNX model with one input, float images (N, H, W, 3) or (N, 3, H, W) of fixed sides,
    and scores (N, K) as the first output. output: which of the K scores counts. resize: the side to
    which images are resized (bilinear) before their centre is cut to the sides of the input; 0 for
    these sides. order: of the channels, `rgb` or `bgr`. scale, mean, deviation: the network sees
    (grey levels / scale - mean) / deviation, in that order of channels. softmax: whether the
    outputs are logits. Needs onnxruntime. Raises ValueError for a file without such a model.

    >>> onnx("nowhere.onnx")
    Traceback (most recent call last):
    ValueError: path='nowhere.onnx': ...
    """
    checks.one_of(("rgb", "bgr"), order=order)
    checks.positive(scale=scale)
    if {len(mean), len(deviation)} != {3} or min(deviation) <= 0:
        asked = f"mean={mean}, deviation={deviation}"
        raise ValueError(f"{asked}: needs a number for each of three channels, deviations > 0")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"path={path!r}: no such file")
    session = opened(file)
    height, width, last = sides(session, path)
    prepare = functools.partial(
        prepared, sides=(height, width), resize=resize, order=order, scale=scale
    )
    centre, spread = (np.array(values, np.float32) for values in (mean, deviation))

    def scores(images: Images) -> np.ndarray:
        x = (prepare(images) - centre) / spread
        x = x if last else x.transpose(0, 3, 1, 2)
        (found, *_) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})
        found = np.asarray(found, np.float64).reshape(len(images), -1)
        if softmax:
            found = np.exp(found - found.max(1, keepdims=True))
            found /= found.sum(1, keepdims=True)
        if not -found.shape[1] <= output < found.shape[1]:
            raise ValueError(f"output={output}: the model has {found.shape[1]} scores per image")
        return found[:, output]

    try:  # a wrong model fails here, not at the end
        scores(np.zeros((3, height, width, 3), np.uint8))
    except ValueError:
        raise
    except Exception as error:  # those of onnxruntime have no common class
        needs = "needs float32 images, any number at once"
        raise ValueError(f"path={path!r}: {needs} ({reason(error)})") from error
    return Filter("onnx", scores, threshold, facts={"file": file.name, "sha256": sha256(file)[:12]})


def opened(file: Path) -> Any:
    """Return a session of onnxruntime on the CPU; raise ValueError where there is none."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"needs onnxruntime: {EXTRA}") from error
    try:
        return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # of the parser of protocol buffers
        raise ValueError(f"path={str(file)!r}: is no ONNX model ({reason(error)})") from error


def sides(session: Any, path: str) -> tuple[int, int, bool]:
    """Return height and width of a model's input, and whether the channels are its last axis."""
    shape = [tuple(one.shape) for one in session.get_inputs()]
    if len(shape) == 1 and len(shape[0]) == 4:
        _, *others = shape[0]
        for last in (True, False):
            channels, *plane = others[::-1] if last else others
            height, width = plane[::-1] if last else plane
            if channels == 3 and isinstance(height, int) and isinstance(width, int):
                return height, width, last
    raise ValueError(f"path={path!r}: takes {shape}; needs one input (N, H, W, 3) or (N, 3, H, W)")


def prepared(
    images: Images, sides: Sequence[int], resize: int, order: str, scale: float
) -> np.ndarray:
    """Return images resized, cut and divided by `scale`, float32 (B, H, W, 3)."""
    from PIL import Image

    height, width = sides
    large = (resize, resize) if resize else (width, height)
    left, top = (large[0] - width) // 2, (large[1] - height) // 2
    if left < 0 or top < 0:
        raise ValueError(f"resize={resize}: needs >= {max(sides)}, the larger side of the input")
    rows = []
    for image in images:
        picture = Image.fromarray(np.ascontiguousarray(image)).resize(
            large, Image.Resampling.BILINEAR
        )
        rows.append(np.asarray(picture.crop((left, top, left + width, top + height))))
    x = np.stack(rows).astype(np.float32) / np.float32(scale)
    return x[..., ::-1] if order == "bgr" else x
