"""Names of tensors without the prefixes that tools around a network add to them.

Parallel, compiled and averaged modules put prefixes before the names of the network. Training
scripts store several networks, the state of an optimizer and arguments in one file. All of these
are removed here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from diffjax.io.contents import Contents
from diffjax.io.trees import some

INSIDE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts that compiled, sharded or recomputed modules insert anywhere into a name."""
AVERAGE = ("ema", "ema_model", "model_ema", "ema_state_dict", "averaged_model", "shadow", "ema_net")
"""Prefixes of averaged parameters, which take precedence over other parameters of a file."""
WRAPPERS = (
    *("module", "model", "state_dict", "model_state_dict", "net", "network", "unet", "denoiser"),
    *("diffusion_model", "diffusion", "online_model", "params", "weights", "generator", *AVERAGE),
    *("first_stage_model", "vae", "autoencoder"),
)
"""Prefixes that may stand before the name of a tensor."""
OPTIMIZER = re.compile(r"(^|\.)(exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer)$")
HELD = re.compile(r"(^|\.)(n_averaged|num_updates|decay|step|global_step)$")
"""Numbers that averages and training loops store beside the parameters."""


class Named(Mapping[str, np.ndarray]):
    """Tensors under new names; a missing tensor raises ValueError, not KeyError."""

    def __init__(self, tensors: Mapping[str, np.ndarray], names: Mapping[str, str]):
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise ValueError(f"not the tensors of this network: {some('missing', [name])}")
        return self._tensors[self._names[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def cleaned(contents: Contents) -> Contents:
    """Return the contents without the parts that modules insert into names.

    Raises ValueError for the state of an optimizer alone, and where two names become equal.
    """
    names = {INSIDE.sub("", name): name for name in contents.tensors}
    if len(names) < len(contents.tensors):
        raise ValueError(
            "holds a compiled and a plain copy of a network, with tensors of the same name"
        )
    states = [name for name in names if OPTIMIZER.search(name)]
    others = [n for n in names if n not in states and not HELD.search(n) and "." in n]
    if states and all(name.startswith(("state.", "optimizer.")) for name in others):
        raise ValueError(f"the state of an optimizer ({states[0]}, ...), not a network")
    return contents._replace(tensors=Named(contents.tensors, names))


def prefixes(names: Collection[str], marks: Collection[str]) -> list[str]:
    """Return the prefixes that stand before all of `marks`, names of a network.

    A prefix is "", or wrappers with dots.
    """
    first = next(iter(marks))
    heads = [n.removesuffix(first) for n in names if n == first or n.endswith(f".{first}")]
    return sorted(
        head
        for head in heads
        if all(part in WRAPPERS for part in parts(head))
        and all(f"{head}{mark}" in names for mark in marks)
    )


def parts(head: str) -> list[str]:
    """Split a prefix: "ema.module." into ema and module."""
    return head.split(".")[:-1]


def unwrapped(contents: Contents, marks: Collection[str]) -> tuple[Contents, tuple[str, ...]]:
    """Return the tensors of the network that has the names `marks`, and a note on what is left out.

    The tensors have the network's own names. Where a file holds several networks, the averaged one
    is returned. Raises ValueError where there is none, or more than one.
    """
    heads = prefixes(contents.tensors, marks)
    if not heads:
        missing = [mark for mark in marks if mark not in contents.tensors] or list(marks)
        raise ValueError(f"not the tensors of this network: {some('missing', missing)}")
    averages = [head for head in heads if any(part in AVERAGE for part in parts(head))]
    if len(heads) > 1 and len(averages) != 1:
        places = ", ".join(head or "no prefix" for head in heads)
        raise ValueError(
            f"holds several networks ({places}), but not exactly one average; store the "
            f"network to read in a file of its own"
        )
    (head,) = averages if averages else heads
    held = {n: n for n in contents.tensors if n.startswith(head)}
    beside = [n for n in contents.tensors if n not in held and not HELD.search(n)]
    names = {n.removeprefix(head): n for n in held if not HELD.search(n)}
    others = sorted({n.split(".")[0] for n in beside if "." in n})
    note = f"read: {head}*; left out: {', '.join(others)}" if others else ""
    return contents._replace(tensors=Named(contents.tensors, names)), (note,) * bool(note)
