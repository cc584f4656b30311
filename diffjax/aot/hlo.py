"""Compiled programs as XLA prints them: computations, instructions, and how often each runs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

WIDTHS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128}
"""Bits of the types whose name does not state them, as `f32` and `s4` do."""
ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](\{[^{}]*\})?")
SPACE = re.compile(r"S\((\d+)\)")
LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
CALLED = re.compile(r"\b(body|condition|calls|to_apply|branch_computations|called_computations)=")
NAME = re.compile(r"%([\w.\-]+)")


class Part(NamedTuple):
    """An array of a shape, as a program holds it: its bytes, and the memory space it lies in."""

    bytes: int
    space: int


def parts(shape: str) -> list[Part]:
    """Return the arrays of a shape, which is an array or a tuple of shapes.

    >>> parts("(f32[16,256]{1,0:T(8,128)S(1)}, u32[])")
    [Part(bytes=16384, space=1), Part(bytes=4, space=0)]
    """
    arrays = []
    for kind, sides, layout in ARRAY.findall(shape):
        digits = re.search(r"\d+", kind)
        bits = WIDTHS.get(kind, int(digits[0]) if digits else 0)
        count = math.prod(int(n.strip("<=")) for n in sides.split(",") if n)
        space = SPACE.search(layout)
        arrays.append(Part(-(-count * bits // 8), int(space[1]) if space else 0))
    return arrays


def size(shape: str) -> int:
    """Return the bytes of all arrays of a shape, on any memory.

    >>> size("(bf16[2,3]{1,0}, s4[3])")
    14
    """
    return sum(part.bytes for part in parts(shape))


class Instruction(NamedTuple):
    """One instruction: its name, operation, result shape, operands, and the text after them."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    text: str
    root: bool

    @property
    def called(self) -> list[str]:
        """The names of the computations that it runs."""
        names = []
        for match in CALLED.finditer(self.text):
            rest = self.text[match.end() :]
            braced = re.match(r"\{([^{}]*)\}", rest)
            names += NAME.findall(braced[1] if braced else rest.partition(",")[0])
        return names

    @property
    def op_name(self) -> str:
        """The place in the Python program, as JAX records it; "" where there is none."""
        match = re.search(r'op_name="([^"]*)"', self.text)
        return match[1] if match else ""


@dataclass(frozen=True)
class Program:
    """A compiled program: instructions by computation, of which `entry` is the first to run.

    unstated: the number of iterations of loops whose length the program does not state.
    """

    computations: dict[str, list[Instruction]]
    entry: str
    unstated: int = 1

    @cached_property
    def by_name(self) -> dict[str, dict[str, Instruction]]:
        """The instructions of each computation by name."""
        return {k: {i.name: i for i in v} for k, v in self.computations.items()}

    @cached_property
    def callers(self) -> dict[str, tuple[str, Instruction]]:
        """The computation and the instruction that run each computation."""
        calls = ((k, i) for k, v in self.computations.items() for i in v)
        return {name: (k, i) for k, i in calls for name in i.called}

    @cached_property
    def times(self) -> Counter[str]:
        """How often one run of the program runs each computation."""
        times: Counter[str] = Counter()

        def visit(name: str, count: int) -> None:
            times[name] += count
            for instruction in self.computations[name]:
                inside = count * self.length(instruction)
                for other in instruction.called:
                    if other in self.computations:
                        visit(other, inside)

        visit(self.entry, 1)
        return times

    def length(self, loop: Instruction) -> int:
        """Return the number of iterations of a loop, 1 for any other instruction.

        XLA states it on CPU and GPU. On TPU, it follows from the condition `index < constant` of a
        loop that counts from 0, and from the step of the index: the rings into which XLA splits a
        gathered product handle several parts in one iteration.
        """
        if loop.opcode != "while":
            return 1
        if match := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text):
            return int(match[1])
        condition, body = (
            self.computations.get(match[1], []) if match else []
            for match in (
                re.search(rf"{part}=%?([\w.\-]+)", loop.text) for part in ("condition", "body")
            )
        )
        known = constants(condition)
        for i in condition:
            if i.opcode == "compare" and "direction=LT" in i.text:
                bounds = [known[name] for name in i.operands if name in known]
                if bounds:
                    index = [o for o in condition if o.name in i.operands and o.name not in known]
                    return -(-bounds[0] // max(1, stride(body, index)))
        return self.unstated

    def running(self) -> Iterator[tuple[str, Instruction, int]]:
        """Yield the instructions that run, with their computation and how often they do."""
        for name, count in self.times.items():
            for instruction in self.computations[name]:
                yield name, instruction, count


def constants(body: list[Instruction]) -> dict[str, int]:
    """Return the integer constants of a computation by name."""
    return {i.name: int(i.text) for i in body if i.opcode == "constant" and i.text.isdecimal()}


def stride(body: list[Instruction], index: list[Instruction]) -> int:
    """Return what an iteration adds to the index of a loop, 1 where it does not say.

    index: the instruction of the condition that reads the index from the tuple of the loop.
    """
    place = re.search(r"index=(\d+)", index[0].text) if index else None
    root = next((i for i in body if i.root and i.opcode == "tuple"), None)
    if place is None or root is None:
        return 1
    by_name, known, total = {i.name: i for i in body}, constants(body), 0
    current = by_name.get(root.operands[int(place[1])])
    while current is not None and current.opcode in ("add", "copy"):
        total += sum(known.get(name, 0) for name in current.operands)
        others = [name for name in current.operands if name not in known]
        current = by_name.get(others[0]) if len(others) == 1 else None
    return total or 1


def parse(text: str, unstated: int = 1) -> Program:
    """Parse the text of a compiled program; unstated: see `Program`.

    Raises ValueError for a text without an entry computation.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = header[2]
            computations[current] = []
            entry = current if header[1] else entry
        elif current and (match := LINE.match(line)):
            computations[current].append(_instruction(match[2], match[3], root=bool(match[1])))
    if not entry:
        raise ValueError("no text of a compiled program: it has no entry computation")
    return Program(computations, entry, unstated)


def _instruction(name: str, text: str, root: bool) -> Instruction:
    """Parse `SHAPE OPCODE(OPERANDS), TEXT`; of a constant or parameter, the text is its value."""
    end = _closed(text, 0) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].strip()
    opcode = rest[: rest.index("(")]
    close = _closed(rest, len(opcode))
    inside, after = rest[len(opcode) + 1 : close - 1], rest[close:]
    operands = tuple(NAME.findall(inside))
    text = inside if opcode in ("constant", "parameter") else after
    return Instruction(name, opcode, shape, operands, text, root)


def _closed(text: str, start: int) -> int:
    """Return the place after the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return len(text)
