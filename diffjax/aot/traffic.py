"""Bytes that a compiled program reads from and writes to the memory of a device."""

from __future__ import annotations

from diffjax.aot.hlo import Instruction, Program, parts

FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("while", "conditional", "call", "partition-id", "replica-id", "opt-barrier", "domain"),
)
"""Operations that move nothing themselves."""
ALIASES = ("bitcast", "get-tuple-element")
SLICES = ("dynamic-slice", "gather", "slice")


def traffic(program: Program) -> int:
    """Return the bytes that one run reads and writes, in the main memory of a device.

    Each operation outside of fusions reads its operands and writes its result once. Of an operand
    that is only sliced, the slices are read; of one that is updated in place, the update is read
    and written. Memory spaces other than the main one, such as the vector memory of a TPU, are
    free. Caches are left out, so this is an upper bound where data stay in them.
    """
    fused = {name for v in program.computations.values() for i in v for name in _inside(i)}
    return sum(
        times * _moved(program, computation, instruction)
        for computation, instruction, times in program.running()
        if computation not in fused
    )


def _inside(instruction: Instruction) -> list[str]:
    """Return the computations whose instructions work on registers, not on memory."""
    return [] if instruction.opcode in ("while", "conditional", "call") else instruction.called


def _bytes(shape: str) -> int:
    return sum(part.bytes for part in parts(shape) if part.space == 0)


def _moved(program: Program, computation: str, i: Instruction) -> int:
    """Return the bytes that one execution of an instruction moves."""
    if i.opcode in FREE or "AllocateBuffer" in i.text:
        return 0
    operands = program.by_name[computation]
    shapes = [operands[name].shape for name in i.operands if name in operands]
    if i.opcode == "fusion" and (inner := next(iter(i.called), "")) in program.computations:
        return _fusion(program, inner, shapes, i.shape)
    if i.opcode in SLICES:
        return 2 * _bytes(i.shape)
    if i.opcode == "dynamic-update-slice":
        return 2 * _bytes(shapes[1])
    read = sum(map(_bytes, shapes))
    if i.opcode.endswith("-start"):  # its result is written where it is done
        return read
    if i.opcode.endswith("-done"):
        return _bytes(i.shape)
    return read + _bytes(i.shape)


def _fusion(program: Program, name: str, operands: list[str], result: str) -> int:
    """Return the bytes that a fusion moves, whose operands may be sliced or updated in place."""
    body = program.computations[name]
    users: dict[str, list[tuple[Instruction, int]]] = {}
    for i in body:
        for place, operand in enumerate(i.operands):
            users.setdefault(operand, []).append((i, place))
    parameters = [i for i in body if i.opcode == "parameter"]
    order = {i.name: int(i.text) for i in parameters}
    read = sum(
        _read(users, i.name, operands[order[i.name]])
        for i in parameters
        if order[i.name] < len(operands)
    )
    by_name = program.by_name[name]
    root = next((i for i in body if i.root), None)
    outputs = root.operands if root and root.opcode == "tuple" else (root.name,) if root else ()
    updated = [_update(by_name, output) for output in outputs]
    if not any(updated):
        return read + _bytes(result)
    whole = parts(result)
    written = 0
    for update, part in zip(updated, whole, strict=False):
        written += (_bytes(update) if update else part.bytes) * (part.space == 0)
    return read + written


def _read(users: dict[str, list[tuple[Instruction, int]]], name: str, shape: str) -> int:
    """Return the bytes that are read of a parameter of a fusion, which has this shape outside."""
    whole, total = _bytes(shape), 0
    if not whole:
        return 0
    for user, place in users.get(name, ()):
        if user.opcode in ALIASES:
            total += _read(users, user.name, shape)
        elif user.opcode in SLICES and place == 0:
            total += sum(part.bytes for part in parts(user.shape))
        elif user.opcode == "dynamic-update-slice" and place == 0:
            total += 0  # overwritten in place: only the update is read
        else:
            return whole
    return min(total, whole)


def _update(by_name: dict[str, Instruction], name: str) -> str:
    """Return the shape of the update, where an output of a fusion is updated in place."""
    i = by_name.get(name)
    while i is not None and i.opcode in ALIASES and i.operands:
        i = by_name.get(i.operands[0])
    if i is None or i.opcode != "dynamic-update-slice":
        return ""
    update = by_name.get(i.operands[1])
    return update.shape if update else ""
