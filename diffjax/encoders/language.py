"""Language models as encoders: the states of Gemma 2 or Qwen 3 for the tokens of a text."""

from __future__ import annotations

from diffjax.checks import at_least
from diffjax.encoders.pretrained import Pretrained, Rule, opened


def language(
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
    """Return Gemma 2 (arXiv:2408.00118) or Qwen 3 (arXiv:2505.09388), without its head.

    A token knows those before it. path: a folder of Hugging Face, see `clip`. length: the largest
    number of tokens, with the one that begins a text of Gemma. state: "last", the states after the
    last norm, or "before", those before the last block. prefix: what stands before each text, such
    as an instruction, whose tokens are part of the condition; no template of a chat is added.
    empty, cut: see `Rule`. adapter, adapter_weight: see `clip`. Raises ValueError as `clip` does.

    >>> language(path="nowhere")
    Traceback (most recent call last):
    ValueError: path=nowhere: no such folder
    """
    at_least(1, length=length)
    rule = Rule(length, state, True, empty, False, cut, prefix=prefix)
    return opened("language", path, rule, adapter, adapter_weight)
