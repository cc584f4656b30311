"""Two towers of CLIP side by side, as the networks of Stable Diffusion XL and 3 read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffjax.checks import at_least
from diffjax.encoders.base import TEXT
from diffjax.encoders.pretrained import POOLED, Pretrained, clip
from diffjax.io.trees import fingerprint
from diffjax.specs import Spec

FOLDERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Pair:
    """The states of two encoders for the tokens of a text, side by side (arXiv:2307.01952).

    The condition `text` has the features of the first encoder, then those of the second one, and
    `text_pooled` has the pooled text of the first one, if it has any, that of the second one, and
    the numbers.

    numbers: the sizes and crops that the network receives besides, which are missing where the text
    is.
    """

    first: Pretrained
    second: Pretrained
    numbers: tuple[float, ...] = field(default=())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.first.fingerprint, self.second.fingerprint], ())

    @property
    def specs(self) -> tuple[Spec, ...]:
        (one, *pooled), (two, vector) = self.first.specs, self.second.specs
        width = sum(spec.size for spec in pooled) + vector.size + len(self.numbers)
        return Spec(TEXT, "tokens", one.size + two.size), Spec(POOLED, "vector", width)

    def check(self, texts: Iterable[str]) -> None:
        listed = [*texts]
        self.first.check(listed)
        self.second.check(listed)

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        first, second = self.first(texts), self.second(texts)
        numbers = np.tile(np.asarray(self.numbers, np.float32), (len(texts), 1))
        numbers[np.isnan(second[POOLED]).all(-1)] = np.nan
        pooled = [first[POOLED]] if self.first.rule.pooled else []
        return {
            TEXT: np.concatenate([first[TEXT], second[TEXT]], -1),
            POOLED: np.concatenate([*pooled, second[POOLED], numbers], -1),
        }


def clip_pair(
    *, path: str, size: int | tuple[int, ...], empty: str = "missing", cut: bool = False
) -> Pair:
    """Return both towers of Stable Diffusion XL, with the states before their last blocks.

    path: a pipeline with the folders `text_encoder` and `text_encoder_2`, and `tokenizer` and
    `tokenizer_2` beside them. size: the side of the images in pixels, or (height, width), which the
    network receives as those of images that are not cropped. empty, cut: as in `clip`; the
    published network has the empty text "zeros". Raises ValueError as `clip` does, and for towers
    of different lengths.

    >>> clip_pair(path="nowhere", size=1024)
    Traceback (most recent call last):
    ValueError: path=nowhere/text_encoder: no such folder
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2:
        raise ValueError(f"size={size}: needs one side, or height and width")
    at_least(1, height=sides[0], width=sides[1])
    numbers = (*map(float, sides), 0.0, 0.0, *map(float, sides))
    return paired(path, empty, cut, False, numbers)


def paired(path: str, empty: str, cut: bool, both: bool, numbers: tuple[float, ...] = ()) -> Pair:
    """Return the states before the last blocks of both towers in a pipeline.

    path, empty, cut: as in `clip_pair`. both: whether the pooled text of the first tower counts.
    """
    places = [str(Path(path) / folder) for folder in FOLDERS]
    first = clip(path=places[0], state="before", empty=empty, pooled=both, cut=cut)
    second = clip(path=places[1], state="before", empty=empty, pooled=True, cut=cut)
    if first.rule.length != second.rule.length:
        raise ValueError(
            f"path={path}: {' and '.join(FOLDERS)} have {first.rule.length} and "
            f"{second.rule.length} positions; needs equal numbers"
        )
    return Pair(first, second, numbers)
