"""Search for the largest batch that fits the memory of a device."""

from __future__ import annotations

from collections.abc import Callable

PRECISION = 0.01
"""Of a largest batch, relative. Compilers choose buffers anew for each batch, so that memory does
not grow by the same amount with each item."""


def largest(used: Callable[[int], int | None], memory: int, unit: int, start: int) -> int:
    """Return the largest multiple of `unit` whose program fits in `memory` bytes, 0 if none does.

    It is the largest to within `PRECISION`: the next batch is not tried where it is closer than
    that. used: the bytes of the program of a batch, None where its compiler refuses it; it should
    grow with the batch. start: the batch to try first. The bracket between what fits and what does
    not is cut, in turn, where the line through two measured sizes reaches the limit, and in the
    middle.

    >>> tries = []
    >>> largest(lambda n: tries.append(n) or 1000 + 10 * n, memory=9000, unit=8, start=128)
    800
    >>> tries
    [128, 256, 800, 1600, 808]
    """
    fitting, refused = 0, 0  # in units; nothing is refused yet
    sizes: dict[int, int] = {}
    number, turn = max(1, start // unit), 0
    while not refused or refused - fitting > max(1, PRECISION * fitting):
        size = used(number * unit)
        if size is not None:
            sizes[number] = size
        if size is not None and size <= memory:
            fitting = number
        else:
            refused = number
        number, turn = 2 * fitting if not refused else (fitting + refused) // 2, turn + 1
        if (guess := _guess(sizes, memory)) is not None and turn % 2 == 0:
            below = guess + 1 if guess == fitting else guess  # does the next one really not fit?
            number = max(below, fitting + 1)
            number = min(number, refused - 1) if refused else number
    return fitting * unit


def _guess(sizes: dict[int, int], memory: int) -> int | None:
    """Return the largest number whose size is within the limit, by the line through two sizes.

    These are the two closest to the limit. The result is None without two sizes that grow.
    """
    if len(sizes) < 2:
        return None
    (a, used_a), (b, used_b) = sorted(sizes.items(), key=lambda pair: abs(pair[1] - memory))[:2]
    slope = (used_b - used_a) / (b - a)
    return int(a + (memory - used_a) / slope) if slope > 0 else None
