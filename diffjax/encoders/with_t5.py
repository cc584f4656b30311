"""T5 beside one or two towers of CLIP, as the networks of Stable Diffusion 3 and Flux.1 read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffjax.checks import at_least, one_of
from diffjax.encoders.base import TEXT
from diffjax.encoders.pair import Pair, paired
from diffjax.encoders.pretrained import EMPTY, POOLED, Pretrained, clip, t5
from diffjax.io.trees import fingerprint
from diffjax.specs import Spec


@dataclass(frozen=True)
class Zeros:
    """Zeros in place of the states of T5 in a pipeline without it, `length` tokens of `width`.

    >>> Zeros(length=2, width=3)(["an apple"])["text"].tolist()
    [[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]
    """

    length: int
    width: int
    empty: str = "encoded"

    def __post_init__(self):
        one_of(EMPTY, empty=self.empty)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.length, self.width], ())

    @property
    def specs(self) -> tuple[Spec, ...]:
        return (Spec(TEXT, "tokens", self.width),)

    def check(self, texts: Iterable[str]) -> None:
        """Accept any text."""

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        tokens = np.zeros((len(texts), self.length, self.width), np.float32)
        if self.empty == "missing":
            tokens[[not text.strip() for text in texts]] = np.nan
        return {TEXT: tokens}


@dataclass(frozen=True)
class WithT5:
    """The pooled text of CLIP, and the states of T5 for the tokens of a text.

    The networks see the states of the padding as well. before: whether the condition `text` begins
    with the states of CLIP, with zeros up to the width of T5 (arXiv:2403.03206, sec. 4). Raises
    ValueError where these are wider than T5.
    """

    clip: Pretrained | Pair
    t5: Pretrained | Zeros
    before: bool

    def __post_init__(self):
        of_clip, of_t5 = (encoder.specs[0].size for encoder in (self.clip, self.t5))
        if self.before and of_clip > of_t5:
            raise ValueError(f"CLIP has the width {of_clip}; needs at most that of T5, {of_t5}")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.clip.fingerprint, self.t5.fingerprint], ())

    @property
    def specs(self) -> tuple[Spec, ...]:
        return self.t5.specs[0], self.clip.specs[1]

    def check(self, texts: Iterable[str]) -> None:
        listed = [*texts]
        self.clip.check(listed)
        self.t5.check(listed)

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        of_clip, tokens = self.clip(texts), self.t5(texts)[TEXT]
        if self.before:
            first = of_clip[TEXT]
            more = [(0, 0), (0, 0), (0, tokens.shape[-1] - first.shape[-1])]
            wide = np.pad(first, more)
            wide[np.isnan(first).all(-1)] = np.nan
            tokens = np.concatenate([wide, tokens], 1)
        return {TEXT: tokens, POOLED: of_clip[POOLED]}


def clip_pair_t5(
    *, path: str, length: int = 256, empty: str = "missing", cut: bool = False, zeros: int = 0
) -> WithT5:
    """Return the three encoders of Stable Diffusion 3 and 3.5 in the folder of a pipeline.

    path: a pipeline with the folders `text_encoder`, `text_encoder_2` and `text_encoder_3`, and
    those of their tokenizers. length: the number of tokens of T5. empty, cut: as in `clip`; the
    published networks have the empty text "encoded". zeros: 0 for T5, or the width of the zeros
    that stand in its place, so that a pipeline needs no `text_encoder_3` (arXiv:2403.03206, sec.
    5.3); it is the width of the tokens that the network takes, 4096. Raises ValueError as
    `clip_pair` and `t5` do, and for a width below that of both towers.

    >>> clip_pair_t5(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere/text_encoder: no such folder
    """
    at_least(0, zeros=zeros)
    at_least(1, length=length)
    towers = paired(path, empty, cut, both=True)
    tokens = Zeros(length, zeros, empty) if zeros else _t5(path, "_3", length, empty, cut)
    return WithT5(towers, tokens, True)


def clip_t5(*, path: str, length: int = 512, empty: str = "missing", cut: bool = False) -> WithT5:
    """Return the encoders of Flux.1 in the folder of a pipeline: the pooled text of CLIP, and T5.

    path: a pipeline with the folders `text_encoder` and `text_encoder_2`, and those of their
    tokenizers. length, empty, cut: as in `clip_pair_t5`. Raises ValueError as `clip` and `t5` do.

    >>> clip_t5(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere/text_encoder: no such folder
    """
    tower = clip(path=str(Path(path) / "text_encoder"), empty=empty, pooled=True, cut=cut)
    return WithT5(tower, _t5(path, "_2", length, empty, cut), False)


def _t5(path: str, end: str, length: int, empty: str, cut: bool) -> Pretrained:
    folder = str(Path(path) / f"text_encoder{end}")
    return t5(path=folder, length=length, masked=False, empty=empty, cut=cut)
