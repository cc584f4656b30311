"""The protocol of encoders of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from diffjax.specs import Spec

TEXT = "text"
"""The name of the condition that holds the tokens of a text, and the prefix of further ones."""


@runtime_checkable
class Encoder(Protocol):
    """A frozen dataclass that maps texts to conditions; its fields are its settings.

    The values of all texts have one shape for each condition, and mark tokens beyond the end of a
    text as missing (-1 for integers, NaN for floats), so that the mask travels with the values.
    The empty text gives the null of guidance.

    specs: the conditions: the tokens under the name `TEXT`, of kind `words` or `tokens`, and
    further ones, such as a vector. vocabulary: what the encoder has learned from the captions of
    training, which is stored with the run; it is empty for an encoder that brings its own. A
    constructor with the argument `vocabulary` has a static method `learn(captions, begin)`, which
    returns the vocabulary of captions, after the words `begin` of another run. fingerprint: of the
    weights of the encoder, "" without any; it is stored with the run, which other weights cannot
    sample.
    """

    @property
    def specs(self) -> tuple[Spec, ...]: ...

    @property
    def vocabulary(self) -> tuple[str, ...]: ...

    @property
    def fingerprint(self) -> str: ...

    def check(self, texts: Iterable[str]) -> None:
        """Raise ValueError, which names it, for a text that cannot be encoded."""
        ...

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the conditions of texts by name, (N, ...); raise ValueError as in `check`."""
        ...
