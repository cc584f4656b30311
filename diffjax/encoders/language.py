"""Language models as encoders: the states of Gemma 2 and Qwen 3 for the tokens of a text."""

from __future__ import annotations

from diffjax.checks import at_least
from diffjax.encoders.pretrained import Pretrained, Rule, opened


def gemma2(
    *,
    path: str,
    length: int = 256,
    state: str = "last",
    empty: str = "missing",
    cut: bool = False,
    prefix: str = "",
    adapter: str = "",
    adapter_weight: float = 1.0,
) -> Pretrained:
    """Return Gemma 2 (arXiv:2408.00118) in a folder of Hugging Face, without its head.

    A token knows those before it. path: see `clip`. length: the largest number of tokens, with the
    one that begins a text. state: "last", the states after the last norm, or "before", those before
    the last block. prefix: what stands before each text, such as an instruction, whose tokens are
    part of the condition. empty, cut: see `Rule`. adapter, adapter_weight: see `clip`. Raises
    ValueError as `clip` does.

    >>> gemma2(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere: no such folder
    """
    at_least(1, length=length)
    rule = Rule(length, state, True, empty, False, cut, prefix=prefix)
    return opened("gemma2", path, rule, adapter, adapter_weight)


def qwen3(
    *,
    path: str,
    length: int = 512,
    state: str = "last",
    empty: str = "missing",
    cut: bool = False,
    prefix: str = "",
    adapter: str = "",
    adapter_weight: float = 1.0,
) -> Pretrained:
    """Return Qwen 3 (arXiv:2505.09388) in a folder of Hugging Face, without its head.

    A token knows those before it. length: the largest number of tokens. state, prefix: see
    `gemma2`; no template of a chat is added. empty, cut: see `Rule`. adapter, adapter_weight: see
    `clip`. Raises ValueError as `clip` does.

    >>> qwen3(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere: no such folder
    """
    at_least(1, length=length)
    rule = Rule(length, state, True, empty, False, cut, prefix=prefix)
    return opened("qwen3", path, rule, adapter, adapter_weight)
