"""Communication of a compiled program: its collectives, their bytes, and where they come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from diffjax.aot.hlo import Program, size

SENT: dict[str, Callable[[int, int], float]] = {
    "all-gather": lambda part, n: part * (n - 1),
    "reduce-scatter": lambda whole, n: whole * (n - 1) / n,
    "all-reduce": lambda whole, n: 2 * whole * (n - 1) / n,
    "all-to-all": lambda whole, n: whole * (n - 1) / n,
    "ragged-all-to-all": lambda whole, n: whole * (n - 1) / n,
    "collective-permute": lambda whole, n: whole,
    "collective-broadcast": lambda whole, n: whole,
}
"""Bytes that a device sends in each kind of collective, by rings over n devices, as a function of
the bytes of its operands and n."""


class Collective(NamedTuple):
    """One collective of a program.

    kind: an entry of `SENT`. times: how often a run of the program performs it. group: the number
    of devices that take part. sent: bytes that each device sends in all these times. loop: whether
    it lies in a loop. op_name: the operation that it serves, as JAX records it.
    """

    kind: str
    times: int
    group: int
    sent: float
    loop: bool
    op_name: str

    @property
    def place(self) -> str:
        """The part of a step that it belongs to, in a few words: see `place`."""
        return place(self.op_name) + ("" if not self.loop else ", in a loop")


def collectives(program: Program, devices: int) -> list[Collective]:
    """Return the collectives of a program that each device of `devices` runs.

    One that a compiler has split over several fusions, as on TPU, has one channel and counts once,
    as often as it starts: its parts may lie in loops that run while it is under way.
    An all-reduce of which a fusion keeps a part is a reduce-scatter (TPU again).
    """
    seen: dict[Any, Collective] = {}
    for computation, i, times in program.running():
        kind = i.opcode.removesuffix("-start")
        if kind not in SENT:
            continue
        if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"
        group = members(i.text, devices)
        if group == 1:
            continue
        operands = program.by_name[computation]
        whole = sum(size(operands[name].shape) for name in i.operands if name in operands)
        channel = re.search(r"channel_id=(\d+)", i.text)
        key = (kind, channel[1]) if channel else (computation, i.name)
        item = Collective(
            kind=kind,
            times=times,
            group=group,
            sent=SENT[kind](whole, group) * times,
            loop=in_loop(program, computation),
            op_name=i.op_name or _called_for(program, computation),
        )
        known = seen.get(key)
        if known is None or (-item.times, item.sent) > (-known.times, known.sent):
            seen[key] = item
    return list(seen.values())


def members(text: str, devices: int) -> int:
    """Return the number of devices in each group of a collective, from its attributes.

    >>> members("replica_groups=[2,4]<=[8]", 8), members("replica_groups={{0,1},{2,3}}", 4)
    (4, 2)
    >>> members("replica_groups=mesh['data'=4,'model'=2] {'data','model'}, x={}", 8)
    8
    >>> members("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}, x={}", 8)
    4
    """
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text):
        sides = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
        count = 1
        for name, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2]):
            count *= int(part or sides[name])
        return count
    if match := re.search(r"replica_groups=\[([\d,]+)\]<=", text):
        return int(match[1].split(",")[-1])
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(match[1].split(","))
    return devices


def in_loop(program: Program, computation: str) -> bool:
    """Return whether a computation runs within a loop."""
    while computation in program.callers:
        computation, caller = program.callers[computation]
        if caller.opcode == "while":
            return True
    return False


def _called_for(program: Program, computation: str) -> str:
    """Return the place in the Python program of a computation that a fusion runs."""
    while computation in program.callers:
        computation, caller = program.callers[computation]
        if caller.op_name:
            return caller.op_name
    return ""


def place(op_name: str) -> str:
    """Return the phase of a train step to which an operation belongs, and its module.

    >>> place("jit(run)/while/body/jvp(DiT)/blocks/while/body/TransformerBlock/qkv/dot_general")
    'forward DiT/blocks/TransformerBlock/qkv'
    >>> place("jit(run)/transpose(jvp(DiT))/blocks/while/body/mul"), place("jit(run)/add")
    ('backward DiT/blocks', 'outside')
    """
    phase = "backward" if "transpose(" in op_name else "forward" if "jvp(" in op_name else "outside"
    # XLA joins the names of operations whose collectives it has combined by `:` or `;`.
    names = op_name.split(";")[0].split("/")[1:-1]
    names = [re.sub(r"^(?:transpose\()?(?:jvp\()?([\w.]*)\)*$", r"\1", name) for name in names]
    plain = [n for n in names if n not in NOISE and not re.search(r"[(:]|\._|^$", n)]
    if len(plain) > DEPTH:
        plain = [*plain[: DEPTH - 1], "..."]
    return " ".join([phase, "/".join(plain)]) if plain and phase != "outside" else phase


NOISE = ("while", "body", "cond", "checkpoint", "closed_call", "rematted_computation", "remat")
"""Names in an `op_name` that JAX adds, and that say nothing about the module; so do those of
methods, such as `DiT._loop`."""
DEPTH = 5
"""Number of names of a module's path that are shown."""


class Total(NamedTuple):
    """Collectives together: instructions in the program, executions, bytes that a device sends."""

    count: int
    times: int
    sent: float


def totals(items: Iterable[Collective], key: Callable[[Collective], str]) -> dict[str, Total]:
    """Sum up collectives by a key, such as their kind; the largest sum of bytes comes first."""
    groups: dict[str, list[Collective]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    sums = {
        name: Total(len(group), sum(i.times for i in group), sum(i.sent for i in group))
        for name, group in groups.items()
    }
    return dict(sorted(sums.items(), key=lambda pair: -pair[1].sent))
