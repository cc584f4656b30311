"""Conditions of captions that `tools.encode` has written: each unique caption is encoded once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.config import ConfigError
from diffjax.data.encoded import file_of, opened
from diffjax.encoders.base import Encoder
from diffjax.files import reason, write_text
from diffjax.io.rows import Rows, claimed, finished, record
from diffjax.io.writing import writing
from diffjax.progress import Progress
from diffjax.specs import Spec

ABOUT, UNFINISHED, CAPTIONS = "texts.json", "encoding.json", "captions.jsonl"
"""The files that describe finished and unfinished captions, and the captions, one in each row."""
SECONDS, BATCH = 10.0, 64
"""Seconds after which finished rows are recorded, and the number of captions per call."""


@dataclass(frozen=True)
class Stored:
    """An encoder that looks its captions up in a folder, in place of running a network.

    It knows these captions alone, which suffices for training; prompts need the encoder itself.

    specs, fingerprint: those of the encoder. rows: the number of the row of each caption. values:
    the conditions by name, (U, ...), memory maps. place: the folder, for messages.

    >>> spec, values = Spec("text", "vector", 1), {"text": np.ones((1, 1))}
    >>> Stored((spec,), "", "texts", {"red": 0}, values)(["red"])["text"].tolist()
    [[1.0]]
    """

    specs: tuple[Spec, ...]
    fingerprint: str
    place: str
    rows: Mapping[str, int] = field(compare=False, repr=False)
    values: Mapping[str, np.ndarray] = field(compare=False, repr=False)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def check(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self.rows:
                raise ValueError(
                    f"{text!r}: is none of the {len(self.rows)} captions in {self.place}; encode "
                    f"the captions again (tools.encode)"
                )

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        self.check(texts)
        index = np.array([self.rows[text] for text in texts], int)
        return {k: np.asarray(value[index], np.float32) for k, value in self.values.items()}


def stored(path: Path, text: str) -> Stored:
    """Open the captions that an encoder has encoded to a folder.

    text: the encoder, as `name:argument=value`. Raises ValueError, which names it, for a folder
    without captions or with unfinished ones, for those of another encoder, and for damaged files.

    >>> stored(Path("nowhere"), "t5:path=t5-base")
    Traceback (most recent call last):
    ValueError: nowhere: holds no encoded captions; needs a folder of tools.encode --encoder
    """
    file = path / ABOUT
    if not file.is_file():
        if (path / UNFINISHED).is_file():
            raise ValueError(f"{path}: the encoding is not complete; repeat the command")
        raise ValueError(
            f"{path}: holds no encoded captions; needs a folder of tools.encode --encoder"
        )
    try:
        about = json.loads(file.read_text())
        of, specs = about["settings"], tuple(Spec(**spec) for spec in about["specs"])
        lines = (path / CAPTIONS).read_text(encoding="utf-8").split("\n")
        captions = [json.loads(line) for line in lines if line]
        theirs, fingerprint = of["encoder"], of["fingerprint"]
        wrong = digest(captions) != of["captions"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: cannot be read ({reason(error)})") from error
    if theirs != text:
        raise ValueError(f"{path}: holds captions that the encoder {theirs} made, not {text}")
    if wrong:
        raise ValueError(f"{path / CAPTIONS}: holds other captions than {ABOUT} states")
    values = {spec.name: opened(path / file_of(spec.name), (len(captions),)) for spec in specs}
    rows = {caption: row for row, caption in enumerate(captions)}
    return Stored(specs, fingerprint, str(path), rows=rows, values=values)


@dataclass(frozen=True)
class TextEncoding:
    """The encoding of the unique captions of a data set.

    encoder, text: the encoder, and the text that names it in a config. captions: all captions; each
    is encoded once, and the empty text besides. half: whether the files are float16, half as large;
    otherwise training reads the values that the encoder returns.

    >>> import tempfile
    >>> from diffjax.encoders import Words
    >>> with tempfile.TemporaryDirectory() as place:  # any encoder; published ones are worth it
    ...     TextEncoding(Words(("red",)), "words", ["red", "red"]).run(Path(place))["number"]
    2
    """

    encoder: Encoder
    text: str
    captions: Iterable[str]
    half: bool = False

    def run(self, out: Path) -> dict[str, Any]:
        """Encode to the folder `out`, or resume there, and return the description.

        The folder receives texts.json, captions.jsonl, and a file for each condition, (U, ...). An
        interrupted call resumes, with the same bytes as a result. Raises ValueError for a caption
        that the encoder refuses, and ConfigError for a folder with other files, or with captions of
        other settings, and for values beyond the range of float16.
        """
        captions = sorted({*self.captions, ""})
        self.encoder.check(captions)
        settings = {
            "encoder": self.text,
            "fingerprint": self.encoder.fingerprint,
            "captions": digest(captions),
            "half": self.half,
        }
        done = claimed(out, (ABOUT, UNFINISHED), settings, "captions") or 0
        if not (out / ABOUT).exists():
            if not (out / UNFINISHED).is_file():
                record(out, UNFINISHED, settings, done)
            with Progress("encode", len(captions), "caption", done, lines=60) as progress:
                self._encode(captions, out, settings, done, progress)
            about = {
                "settings": settings,
                "specs": [
                    {"name": s.name, "kind": s.kind, "size": s.size} for s in self.encoder.specs
                ],
                "number": len(captions),
            }
            with writing(f"--out={out}"):
                lines = "".join(json.dumps(caption) + "\n" for caption in captions)
                write_text(out / CAPTIONS, lines)
                write_text(out / ABOUT, json.dumps(about, indent=2) + "\n")
            finished(out, UNFINISHED)
        return json.loads((out / ABOUT).read_text())

    def _encode(
        self,
        captions: Sequence[str],
        out: Path,
        settings: Mapping[str, Any],
        done: int,
        progress: Progress,
    ) -> None:
        """Append the rows from `done` on, and record them from time to time."""
        files: dict[str, Rows] = {}
        recorded, dtype = time.monotonic(), np.dtype(np.float16 if self.half else np.float32)
        try:
            while done < len(captions):
                values = self.encoder(captions[done : done + BATCH])
                for name, block in values.items():
                    if name not in files:
                        place, shape = out / file_of(name), (len(captions), *block.shape[1:])
                        files[name] = Rows(place, shape, dtype, done)
                    with np.errstate(over="ignore"):
                        block = block.astype(dtype)
                    if np.isinf(block).any():
                        raise ConfigError(f"--half: {name}: exceeds float16; allowed: without it")
                    with writing(f"--out={out}"):
                        files[name].append(block)
                done += min(BATCH, len(captions) - done)
                progress.advance(min(BATCH, done))
                if time.monotonic() - recorded > SECONDS:
                    record(out, UNFINISHED, settings, done, files.values())
                    recorded = time.monotonic()
        finally:
            record(out, UNFINISHED, settings, done, files.values())
            for file in files.values():
                file.close()


def digest(captions: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that differ where captions or their order do.

    >>> digest(["red", "apple"]) == digest(["red apple"])
    False
    """
    return hashlib.sha256(json.dumps([*captions]).encode()).hexdigest()[:16]
