"""Published transformers of text as encoders, from a folder of Hugging Face, without torch."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.checks import at_least, finite, one_of, within
from diffjax.encoders import tokenizers
from diffjax.encoders.base import TEXT
from diffjax.encoders.tokenizers import Tokenizer
from diffjax.io import reading
from diffjax.io.contents import Contents
from diffjax.io.trees import fingerprint
from diffjax.nets.text import text
from diffjax.published import adapters, adapting
from diffjax.published import text as published
from diffjax.published.adapters import PREFIXES
from diffjax.published.text import Published
from diffjax.specs import Spec

POOLED = f"{TEXT}_pooled"
"""The name of the condition that holds one vector for a whole text."""
KEPT = 1 << 14
"""Number of texts beyond which an encoder forgets those of earlier calls."""
STATES = ("last", "before")
EMPTY = ("missing", "encoded", "zeros")
FAMILIES = {
    "clip": ("clip_text_model",),
    "bert": ("bert",),
    "t5": ("t5", "umt5"),
    "language": ("gemma2", "qwen3"),
}
"""The `model_type` of the transformers of each entry."""


class Rule(NamedTuple):
    """The conditions that an encoder makes of the states of its tokens.

    length: the number of tokens of the condition `text`. state: "last" for the states after the
    last block, "before" for those before it. masked: whether the tokens of the padding are missing;
    otherwise a network sees them. empty: what the text without characters becomes: "missing", as
    conditions that dropout has removed; "encoded", its states; or "zeros". pooled: whether there is
    a condition `text_pooled`. cut: whether texts with more tokens are cut before their last token,
    as published pipelines do; otherwise they are refused. lower: whether texts are read in lower
    case, without spaces at their ends. prefix: what stands before each text.
    """

    length: int
    state: str = "last"
    masked: bool = True
    empty: str = "missing"
    pooled: bool = False
    cut: bool = False
    lower: bool = False
    prefix: str = ""


@dataclass(frozen=True)
class Pretrained:
    """The states of a published transformer for the tokens of a text; it is never trained.

    Each text is encoded alone, so that its states do not depend on other texts, and they are kept
    in memory, those of about `KEPT` texts.

    fingerprint: of the weights and the files of the tokenizer. rule: what becomes of the states.
    network: the transformer. tokenizer: that of its folder. states: (params, ids, mask) -> states
    by name. kept: the conditions of recent texts.
    """

    fingerprint: str
    rule: Rule
    network: Published = field(compare=False, repr=False)
    tokenizer: Tokenizer = field(compare=False, repr=False)
    states: Callable[..., Mapping[str, Any]] = field(compare=False, repr=False)
    kept: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict, compare=False, repr=False)
    lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ()

    @property
    def specs(self) -> tuple[Spec, ...]:
        network = self.network
        width = network.settings.width
        tokens = Spec(TEXT, "tokens", width)
        size = width if network.project is None else network.project.shape[1]
        return (tokens, Spec(POOLED, "vector", size)) if self.rule.pooled else (tokens,)

    def check(self, texts: Iterable[str]) -> None:
        for here in texts:
            self._tokens(here)

    def _tokens(self, here: str) -> tokenizers.Ids:
        """Return the tokens of a text (1, L); raise ValueError where it cannot be encoded."""
        here = here.lower().strip() if self.rule.lower else here
        here = self.rule.prefix + here
        tokens = self.tokenizer([here], self.rule.length, cut=self.rule.cut)
        known = self.network.settings.vocabulary
        if (largest := tokens.ids.max()) >= known:
            raise ValueError(f"{here!r}: has the token {largest}; the network knows {known} tokens")
        return tokens

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        with self.lock:  # of two threads with one new text, one encodes it
            if len(self.kept) > KEPT:
                self.kept.clear()
            for new in dict.fromkeys(texts):
                if new not in self.kept:
                    self.kept[new] = self._encoded(new)
            kept = {text: self.kept[text] for text in texts}
        values = [np.full((len(texts), *shape), np.nan, np.float32) for shape in self._shapes]
        for row, here in enumerate(texts):
            tokens, *vectors = kept[here]
            values[0][row, : len(tokens)] = tokens
            for value, vector in zip(values[1:], vectors, strict=True):
                value[row] = vector
        return {spec.name: value for spec, value in zip(self.specs, values, strict=True)}

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the conditions of one text."""
        tokens, *vectors = self.specs
        return [(self.rule.length, tokens.size), *((spec.size,) for spec in vectors)]

    def _encoded(self, here: str) -> tuple[np.ndarray, ...]:
        """Return the states (L, width) of the tokens that are present, and the pooled vector."""
        if not here.strip() and self.rule.empty != "encoded":
            value = {"missing": np.nan, "zeros": 0.0}[self.rule.empty]
            return tuple(np.full(shape, value, np.float32) for shape in self._shapes)
        ids, there = self._tokens(here)
        mask = there if self.rule.masked else np.ones_like(there)
        out = self.states(self.network.params, ids, mask)
        tokens = np.asarray(out[self.rule.state])[0][mask[0]]
        if not self.rule.pooled:
            return (tokens,)
        return tokens, published.pooled(self.network, ids, np.asarray(out["last"]))[0]


def clip(
    *,
    path: str,
    state: str = "last",
    empty: str = "missing",
    pooled: bool = False,
    cut: bool = False,
    adapter: str = "",
    adapter_weight: float = 1.0,
) -> Pretrained:
    """Return the text tower of CLIP (arXiv:2103.00020) in a folder of Hugging Face.

    It has all positions of its network, also those of the padding, as networks that were trained
    with it. path: the folder with config.json and tensors; the files of the tokenizer are in it, or
    in a pipeline in the folder `tokenizer` beside `text_encoder`. state: "last", the states after
    the last norm, as in Stable Diffusion 1.5, or "before", those before the last block, as in SDXL.
    empty, pooled, cut: see `Rule`. Stable Diffusion 1.5 has the empty text "encoded", SDXL has
    "zeros". adapter, adapter_weight: an adapter of the network and its weight, see `merged`. Raises
    ValueError for a folder of another network, and for one that lacks files.

    >>> clip(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere: no such folder
    """
    rule = Rule(0, state, False, empty, pooled, cut)
    return opened("clip", path, rule, adapter, adapter_weight)


def bert(
    *,
    path: str,
    length: int = 64,
    state: str = "last",
    empty: str = "missing",
    cut: bool = False,
    adapter: str = "",
    adapter_weight: float = 1.0,
) -> Pretrained:
    """Return BERT (arXiv:1810.04805), or a sentence encoder of its form such as MiniLM.

    path: see `clip`. length: the largest number of tokens, with the two at the ends. state, empty,
    cut: see `Rule`. adapter, adapter_weight: see `clip`. Raises ValueError as `clip` does.

    >>> bert(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere: no such folder
    """
    at_least(1, length=length)
    return opened(
        "bert", path, Rule(length, state, True, empty, False, cut), adapter, adapter_weight
    )


def t5(
    *,
    path: str,
    length: int = 120,
    masked: bool = True,
    empty: str = "missing",
    cut: bool = False,
    lower: bool = False,
    adapter: str = "",
    adapter_weight: float = 1.0,
) -> Pretrained:
    """Return the encoder of T5 (arXiv:1910.10683) 1.0 or 1.1, or of UMT5 (arXiv:2304.09151).

    path: see `clip`. length: the largest number of tokens, with END. masked: False for networks
    that attend to the states of the padding, such as Stable Diffusion 3 and Flux. In published
    pipelines the empty text is "encoded". empty, cut, lower: see `Rule`; PixArt reads lower case.
    adapter, adapter_weight: see `clip`. Raises ValueError as `clip` does.

    >>> t5(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere: no such folder
    """
    at_least(1, length=length)
    rule = Rule(length, "last", masked, empty, False, cut, lower)
    return opened("t5", path, rule, adapter, adapter_weight)


def opened(
    family: str, path: str, rule: Rule, adapter: str = "", adapter_weight: float = 1.0
) -> Pretrained:
    """Return the encoder in a folder, loaded again only after its files have changed.

    family: an entry of `FAMILIES`. rule: with the length 0 for all positions of the network.
    adapter: the path of an adapter, "" for none. Raises ValueError, which names the folder, as
    `clip` does.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"path={path}: no such folder")
    one_of(STATES, state=rule.state)
    one_of(EMPTY, empty=rule.empty)
    finite(adapter_weight=adapter_weight)
    files = [*folder.iterdir(), *tokenizers.place(folder).iterdir()]
    change = Path(adapter).expanduser() if adapter else None
    if change:
        if not change.exists():
            raise ValueError(f"adapter={adapter}: no such file or folder")
        files += change.iterdir() if change.is_dir() else [change]
    stats = ((str(file), file.stat()) for file in sorted(set(files)))
    stamps = tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
    try:
        return _loaded(family, folder, rule, change, adapter_weight, stamps)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(path) else f"{path}: {message}") from error


@functools.lru_cache(maxsize=3)  # an experiment is built several times, with up to 3 encoders
def _loaded(
    family: str, folder: Path, rule: Rule, adapter: Path | None, weight: float, stamps: Any
) -> Pretrained:
    contents = reading.read(folder)
    network = published.read(contents)
    if (kind := network.config["model_type"]) not in FAMILIES[family]:
        entry = next(name for name, kinds in FAMILIES.items() if kind in kinds)
        raise ValueError(f"holds {kind}; needs {' or '.join(FAMILIES[family])}; allowed: {entry}")
    settings = network.settings
    rule = rule._replace(length=rule.length or settings.length)
    if settings.length:
        within(1, settings.length, length=rule.length)
    facts = [dataclasses.asdict(settings), tokenizers.digest(folder)]
    stated = fingerprint(facts, [network.params, network.project])
    if adapter:
        network = published.read(merged(contents, adapter, weight, part_of(folder)))
    return Pretrained(
        stated,
        rule,
        network=network._replace(params=jax.device_put(network.params)),
        tokenizer=tokenizers.read(folder, network.config),
        states=jax.jit(text(settings).apply),
    )


def part_of(folder: Path) -> str:
    """Return the part of a pipeline that an encoder in this folder is, by the folder's name.

    >>> part_of(Path("sdxl/text_encoder_2")), part_of(Path("clip-vit-base"))
    ('text_encoder_2', 'text_encoder')
    """
    return folder.name if folder.name in PREFIXES else "text_encoder"


def merged(contents: Contents, adapter: Path, weight: float, part: str) -> Contents:
    """Return the contents of a folder with an adapter merged into the weights.

    adapter: a file or a folder of PEFT, diffusers or kohya, whose tensors of this part are used.
    The fingerprint of the encoder stays that of the folder. Raises ValueError where the adapter
    does not fit.
    """
    changes, above = adapters.opened(adapter, part), "text_model."
    names = adapting.weights(contents.tensors)
    # Models and adapters may differ in whether their names begin with that of CLIP's tower.
    known = {k: name for name in names for k in (name, above + name, name.removeprefix(above))}
    own = {known[k]: change for k, change in adapters.fitted(changes, known).items()}
    return contents._replace(tensors=adapting.patched(contents.tensors, [(own, weight)]))
