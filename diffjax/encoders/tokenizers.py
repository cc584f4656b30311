"""Tokenizers of published folders, by their own files: tokenizer.json, spiece.model, merges.txt."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.io import bpe
from diffjax.io.trees import fingerprint

PACKAGE = "pip install 'diffjax[text]'"
SHOWN = 60
"""Largest number of characters of a text in a message."""


class Ids(NamedTuple):
    """The numbers of tokens (N, L), and the mask (N, L) of those before the padding."""

    ids: np.ndarray
    mask: np.ndarray


class Tokenizer(NamedTuple):
    """A tokenizer of texts.

    ids: text -> numbers of its tokens with those at its ends. pad: the number that fills rows.
    """

    ids: Callable[[str], list[int]]
    pad: int

    def __call__(self, texts: Sequence[str], length: int, cut: bool = False) -> Ids:
        """Return rows of `length` tokens; raise ValueError for a text with more tokens.

        cut: cut such a text before its last token instead.
        """
        rows = np.full((len(texts), length), self.pad, np.int32)
        mask = np.zeros(rows.shape, bool)
        for row, there, text in zip(rows, mask, texts, strict=True):
            ids = self.ids(text)
            if cut and len(ids) > length:
                ids = [*ids[: length - 1], ids[-1]]
            if len(ids) > length:
                text = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
                raise ValueError(f"{text!r}: has {len(ids)} tokens; needs at most {length}")
            row[: len(ids)], there[: len(ids)] = ids, True
        return Ids(rows, mask)


def read(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer in a folder of Hugging Face.

    config: the fields of the config.json of its network. Raises ValueError where the folder holds
    no tokenizer, and where the package that reads it is not installed.
    """
    folder = place(folder)
    if (folder / "tokenizer.json").is_file():
        return of_json(folder, config)
    if (folder / "spiece.model").is_file():
        return of_pieces(folder / "spiece.model")
    if (folder / "merges.txt").is_file():
        return of_merges(folder)
    raise ValueError(f"{folder}: has no tokenizer; known: {', '.join(FILES)}")


FILES = ("tokenizer.json", "spiece.model", "merges.txt")
"""Files that define a tokenizer, the first of them that a folder holds."""


def place(folder: Path) -> Path:
    """Return the folder of the tokenizer of a network: its own, or the one beside it in a pipeline.

    >>> place(Path("nowhere/text_encoder_2"))
    PosixPath('nowhere/text_encoder_2')
    """
    beside = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    own = any((folder / name).is_file() for name in FILES)
    return beside if not own and beside.is_dir() else folder


def digest(folder: Path) -> str:
    """Return a fingerprint of the files of the tokenizer of a network in this folder."""
    files = [place(folder) / name for name in (*FILES, *SPECIAL)]
    texts = [file.read_bytes() for file in files if file.is_file()]
    return fingerprint("", [np.frombuffer(content, np.uint8) for content in texts])


SPECIAL = ("special_tokens_map.json", "tokenizer_config.json")
"""Files that state which tokens pad and end a text."""


def padding(folder: Path) -> str:
    """Return the token that pads by tokenizer_config.json or special_tokens_map.json, or ""."""
    filler = ""
    for name in SPECIAL:
        if (folder / name).is_file():
            stated = json.loads((folder / name).read_text(encoding="utf-8"))
            value = stated.get("pad_token")
            value = value.get("content") if isinstance(value, dict) else value
            filler = value if isinstance(value, str) else filler
    return filler


def of_json(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json, by the package `tokenizers`."""
    try:
        from tokenizers import Tokenizer as Theirs
    except ImportError as error:
        raise ValueError(
            f"{folder}/tokenizer.json: needs the package tokenizers: {PACKAGE}"
        ) from error

    try:
        tokenizer, lock = Theirs.from_file(str(folder / "tokenizer.json")), threading.Lock()
    except Exception as error:  # the package raises no narrower one
        raise ValueError(f"{folder}/tokenizer.json: cannot be read ({error})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    pad = tokenizer.token_to_id(padding(folder))

    def ids(text: str) -> list[int]:
        with lock:  # it is not safe to use by several threads
            return tokenizer.encode(text).ids

    stated = config.get("pad_token_id")
    return Tokenizer(ids, pad if pad is not None else stated or 0)


def of_pieces(file: Path) -> Tokenizer:
    """Return the tokenizer of T5 in a spiece.model, by the package `sentencepiece`."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ValueError(f"{file}: needs the package sentencepiece: {PACKAGE}") from error

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    except RuntimeError as error:
        raise ValueError(f"{file}: cannot be read ({error})") from error
    end = pieces.eos_id()
    return Tokenizer(lambda text: [*pieces.encode(text), end], pieces.pad_id())


def of_merges(folder: Path) -> Tokenizer:
    """Return the tokenizer of CLIP in a merges.txt, which needs no package.

    The token that pads, such as "!" for the second encoder of SDXL, is never part of a word.
    """
    known = bpe.read(folder / "merges.txt")
    start, end = known.ids[bpe.START], known.ids[bpe.END]
    filler = padding(folder) or bpe.END
    if filler not in known.ids:
        raise ValueError(f"{folder}: pad_token={filler!r}: is no token of merges.txt")
    pad = known.ids[filler]

    def ids(text: str) -> list[int]:
        found = [start]
        for k, part in enumerate(text.split(filler)):
            found += [pad] if k else []
            found += [known.ids[t] for word in bpe.words(part) for t in known.tokens(word)]
        return [*found, end]

    return Tokenizer(ids, pad)
