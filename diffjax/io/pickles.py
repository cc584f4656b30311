"""Pickles read as data: nothing in them is imported, called or executed.

A pickle is a program for a stack machine. The machine here supports the instructions that build
plain containers. It looks up a name (module.function) in a table of our own builders and refuses
names that are not in the table. No object of the file's choosing ever exists, so none can be
called.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Builder = Callable[..., Any]


Stream = Any
"""Input of `pickletools.genops`: an open file, a BytesIO or a mmap."""


@dataclass(frozen=True)
class Name:
    """A global of the pickle, as text: "module.function" or "module.Class"."""

    text: str


@dataclass
class Object:
    """The state of an object of the class of this name; the object itself is not created."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


def interpret(
    stream: Stream,
    builders: Mapping[str, Builder],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Return the value of the next pickle in the stream, and leave the stream at its end.

    builders: functions by name that compute the value of `name(*arguments)`. A name that ends in
    "*" admits the classes below it, as `Object`. persistent: maps a persistent id to its value.
    Raises ValueError with the name that is refused, or where the pickle is damaged.
    """
    machine = Machine(builders, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop()
            machine.run(opcode.name, argument)
    except (LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from error
    raise ValueError("damaged pickle: it has no end")  # genops raises before


class Machine:
    """The stack machine: its stack, and the effect of each instruction."""

    def __init__(
        self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any] | None
    ) -> None:
        self.builders, self.persistent = builders, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self.stack.pop()

    def popped(self) -> list[Any]:
        """Pop the values above the last mark."""
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def run(self, opcode: str, argument: Any) -> None:
        if opcode in CONSTANTS:
            self.stack.append(argument)
        elif opcode in VALUES:
            self.stack.append(VALUES[opcode]())
        elif opcode in OPCODES:
            OPCODES[opcode](self, argument)
        else:
            raise ValueError(f"holds the instruction {opcode}, which no array needs: refused")

    def admit(self, text: str) -> None:
        """Push a name.

        Raises ValueError where it is not in the table.
        """
        admitted = text in self.builders or any(
            key.endswith("*") and text.startswith(key[:-1]) for key in self.builders
        )
        if not admitted:
            raise ValueError(f"holds {printable(text)}, which is not an array: refused")
        self.stack.append(Name(text))

    def named(self, argument: str) -> None:
        self.admit(argument.replace(" ", "."))

    def named_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.admit(f"{expect(str, module)}.{expect(str, name)}")

    def call(self, _: Any) -> None:
        """Execute REDUCE or NEWOBJ on a name and its arguments."""
        arguments, name = expect(tuple, self.pop()), expect(Name, self.pop())
        if name.text in self.builders:
            self.stack.append(self.builders[name.text](*arguments))
        else:
            self.stack.append(Object(name.text))

    def build(self, _: Any) -> None:
        """Execute BUILD: set the state of the object on the stack; dicts lose their attributes."""
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Object):
            target.state.update(expect(dict, state))
        elif hasattr(target, "filled"):
            target.filled(*expect(tuple, state))
        elif not isinstance(target, dict):
            raise ValueError(f"sets the state of a {type(target).__name__}: refused")

    def refer(self, _: Any) -> None:
        if self.persistent is None:
            raise ValueError("refers to an object outside of the pickle: refused")
        self.stack.append(self.persistent(self.pop()))

    def append(self, _: Any) -> None:
        value = self.pop()
        expect(list, self.stack[-1]).append(value)

    def extend(self, _: Any) -> None:
        values = self.popped()
        expect(list, self.stack[-1]).extend(values)

    def add(self, _: Any) -> None:
        values = self.popped()
        expect(set, self.stack[-1]).update(values)

    def item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        expect(dict, self.stack[-1])[key] = value

    def items(self, _: Any) -> None:
        values = self.popped()
        expect(dict, self.stack[-1]).update(pairs(values))

    def keep(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def fetch(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def collect(self, kind: Callable[[list[Any]], Any]) -> None:
        self.stack.append(kind(self.popped()))

    def join(self, n: int) -> None:
        values = tuple(self.stack[len(self.stack) - n :])
        del self.stack[len(self.stack) - n :]
        self.stack.append(values)


def expect(kind: type, value: Any) -> Any:
    """Return the value; raise ValueError unless it has the type `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"damaged pickle: {type(value).__name__} in place of {kind.__name__}")
    return value


def pairs(values: list[Any]) -> dict[Any, Any]:
    """Return the dict of alternating keys and values."""
    return dict(zip(values[::2], values[1::2], strict=True))


def printable(text: str) -> str:
    """Return the text in printable ASCII, on one line of at most 100 characters."""
    return ascii(text)[1:-1][:100]


CONSTANTS = frozenset(
    code.name
    for code in pickletools.opcodes
    if code.arg and not code.stack_before
    if code.stack_after not in ([], [pickletools.anyobject])
)
"""Instructions that push their argument: numbers, text, bytes."""
VALUES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
OPCODES: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": Machine.mark,
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.popped(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "LIST": lambda machine, _: machine.collect(list),
    "TUPLE": lambda machine, _: machine.collect(tuple),
    "DICT": lambda machine, _: machine.collect(pairs),
    "FROZENSET": lambda machine, _: machine.collect(frozenset),
    **{f"TUPLE{n}": (lambda machine, _, n=n: machine.join(n)) for n in (1, 2, 3)},
    "APPEND": Machine.append,
    "APPENDS": Machine.extend,
    "ADDITEMS": Machine.add,
    "SETITEM": Machine.item,
    "SETITEMS": Machine.items,
    "PUT": Machine.keep,
    "BINPUT": Machine.keep,
    "LONG_BINPUT": Machine.keep,
    "MEMOIZE": Machine.memoize,
    "GET": Machine.fetch,
    "BINGET": Machine.fetch,
    "LONG_BINGET": Machine.fetch,
    "GLOBAL": Machine.named,
    "STACK_GLOBAL": Machine.named_on_stack,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.refer,
}
