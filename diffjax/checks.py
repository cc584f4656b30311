"""Checks of settings and arguments, whose errors name the setting, its value and the allowed ones.

Each raises ValueError on the host, where an object is constructed or a function is traced, so that
compiled programs contain none of them. Settings are passed by name, and the first bad one is
reported: `at_least(1, width=width)` raises `width=0: needs width >= 1`. NaN is never allowed. The
builder adds the place in the config. Of traced arrays the shapes are checked, not the values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

SEEDS = 2**32
"""Seeds are integers in [0, 2**32); JAX would take others modulo this number."""
COUNTS = 2**31
"""Counts are below this number, for they travel as 32-bit integers."""


def at_least(least: float, **settings: float) -> None:
    """Raise ValueError for a setting below `least`.

    >>> at_least(1, width=0)
    Traceback (most recent call last):
    ValueError: width=0: needs width >= 1
    """
    for name, value in settings.items():
        if not value >= least:
            raise ValueError(f"{name}={value}: needs {name} >= {least:g}")


def positive(**settings: float | None) -> None:
    """Raise ValueError for a setting that is not above 0; None, a setting that is off, passes.

    >>> positive(rate=-1.0)
    Traceback (most recent call last):
    ValueError: rate=-1.0: needs rate > 0
    """
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: needs {name} > 0")


def within(low: float, high: float, ends: str = "[]", **settings: float) -> None:
    """Raise ValueError for a setting outside the interval from `low` to `high`.

    ends: a square bracket for an end that belongs to the interval, a round one for an end that
    does not: `[)` means low <= value < high.

    >>> within(0, 1, "[)", dropout=1.0)
    Traceback (most recent call last):
    ValueError: dropout=1.0: needs 0 <= dropout < 1
    """
    above, below = "<=" if ends[0] == "[" else "<", "<=" if ends[1] == "]" else "<"
    least, most = (f"{end}" if isinstance(end, int) else f"{end:g}" for end in (low, high))
    for name, value in settings.items():
        is_above = low <= value if above == "<=" else low < value
        is_below = value <= high if below == "<=" else value < high
        if not (is_above and is_below):
            raise ValueError(f"{name}={value}: needs {least} {above} {name} {below} {most}")


def not_negative(**settings: float) -> None:
    """Raise ValueError for a setting that is below 0 or not finite.

    >>> not_negative(eta=-0.5)
    Traceback (most recent call last):
    ValueError: eta=-0.5: needs 0 <= eta < inf
    """
    within(0, math.inf, "[)", **settings)


def one_of(known: Iterable[Any], **settings: Any) -> None:
    """Raise ValueError for a setting that is not among the known values.

    >>> one_of(("mean", "max"), pool="min")
    Traceback (most recent call last):
    ValueError: pool='min': unknown; known: 'mean', 'max'
    """
    known = list(known)
    for name, value in settings.items():
        if value not in known:
            raise ValueError(f"{name}={value!r}: unknown; known: {', '.join(map(repr, known))}")


def in_range(stop: int, **settings: int) -> None:
    """Raise ValueError for an integer outside 0, ..., stop - 1.

    >>> in_range(SEEDS, seed=-1)
    Traceback (most recent call last):
    ValueError: seed=-1: needs 0 <= seed < 2**32
    """
    shown = f"2**{stop.bit_length() - 1}" if stop >= 1024 and stop & (stop - 1) == 0 else stop
    for name, value in settings.items():
        if not 0 <= value < stop:
            raise ValueError(f"{name}={value}: needs 0 <= {name} < {shown}")


def seed(value: Any, name: str = "seed") -> int:
    """Return the value as an integer in [0, 2**32); raise ValueError for any other.

    Larger ones would alias a seed in that range.

    >>> seed(np.int64(7))
    7
    >>> seed(2**32)
    Traceback (most recent call last):
    ValueError: seed=4294967296: needs 0 <= seed < 2**32
    """
    number = integer(value, name)
    if not 0 <= number < SEEDS:
        raise ValueError(f"{name}={value}: needs 0 <= {name} < 2**32")
    return number


def integer(value: Any, name: str) -> int:
    """Return the value as a Python integer; raise ValueError for a non-integer or a boolean.

    >>> integer(np.int64(3), "steps")
    3
    """
    try:
        if not isinstance(value, bool | np.bool_):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name}={value!r}: needs an integer")


def whole(least: int, **values: Any) -> None:
    """Raise ValueError for a value that is no integer in [least, 2**31).

    >>> whole(1, num=2**31)
    Traceback (most recent call last):
    ValueError: num=2147483648: needs num < 2**31
    """
    for name, value in values.items():
        integer(value, name)
        at_least(least, **{name: value})
        if value >= COUNTS:
            raise ValueError(f"{name}={value}: needs {name} < 2**31")


def number(**values: Any) -> None:
    """Raise ValueError for a value that is no real number, such as a boolean or a string.

    >>> number(scale="1")
    Traceback (most recent call last):
    ValueError: scale='1': needs a number
    """
    for name, value in values.items():
        real = isinstance(value, int | float | np.integer | np.floating)
        if not real or isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: needs a number")


def finite(**values: Any) -> None:
    """Raise ValueError for a value that is no real number, is infinite or is NaN.

    >>> finite(scale=math.inf)
    Traceback (most recent call last):
    ValueError: scale=inf: needs a finite number
    """
    number(**values)
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}={value}: needs a finite number")


def instance(kind: type, hint: str, **objects: Any) -> None:
    """Raise ValueError for an object that is no instance of the class `kind`.

    hint: an example for the message, such as `diffjax.schedules.Linear()`.

    >>> instance(dict, "{}", config=[])
    Traceback (most recent call last):
    ValueError: config=[]: needs an instance of dict, such as {}
    """
    for name, value in objects.items():
        if not isinstance(value, kind):
            raise ValueError(
                f"{name}={_short(value)}: needs an instance of {kind.__name__}, such as {hint}"
            )


def function(hint: str, **functions: Any) -> None:
    """Raise ValueError for an object that is not callable; `hint` is an example for the message.

    >>> function("jnp.abs", error="l2")
    Traceback (most recent call last):
    ValueError: error='l2': needs a function, such as jnp.abs
    """
    for name, value in functions.items():
        if not callable(value):
            raise ValueError(f"{name}={_short(value)}: needs a function, such as {hint}")


def samples(x: Any, name: str = "x") -> None:
    """Raise ValueError unless x is a floating-point array with a batch axis, (B, ...).

    >>> samples(np.zeros(3, int))
    Traceback (most recent call last):
    ValueError: x of type int64: needs floats
    """
    array(x, name, "(B, ...)")
    if x.ndim == 0:
        raise ValueError(f"{name}={_short(x)}: needs an array of samples, (B, ...)")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} of type {x.dtype}: needs floats")


def array(value: Any, name: str, shape: str) -> None:
    """Raise ValueError unless the value is a NumPy or JAX array.

    shape: the required shape, for the message only.

    >>> array([1.0], "x", "(B, ...)")
    Traceback (most recent call last):
    ValueError: x=[1.0]: needs an array, (B, ...)
    """
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        raise ValueError(f"{name}={_short(value)}: needs an array, {shape}")


def per_sample(size: int, **values: Any) -> None:
    """Raise ValueError for an array that does not have one number per sample, (size,).

    >>> per_sample(3, t=np.zeros(2))
    Traceback (most recent call last):
    ValueError: t has the shape (2,); needs one number per sample, (3,)
    """
    for name, value in values.items():
        array(value, name, f"one number per sample, ({size},)")
        if value.shape != (size,):
            has = f"{name} has the shape {value.shape}"
            raise ValueError(f"{has}; needs one number per sample, ({size},)")


def times(x: Any, **values: Any) -> None:
    """Raise ValueError for times that are neither one per sample of x (B, ...), (B,), nor (B, L).

    The latter are one per position of the leading axis of the items, x.shape[:2].

    >>> times(np.zeros((3, 6, 1)), t=np.zeros((3, 6)))
    >>> times(np.zeros((3, 6, 1)), t=np.zeros((3, 1)))
    Traceback (most recent call last):
    ValueError: t has the shape (3, 1); needs one number per sample, (3,), or per position, (3, 6)
    """
    for name, value in values.items():
        needs = f"one number per sample, {x.shape[:1]}"
        needs += f", or per position, {x.shape[:2]}" if x.ndim > 1 else ""
        array(value, name, needs)
        if value.shape not in (x.shape[:1], x.shape[:2]):
            raise ValueError(f"{name} has the shape {value.shape}; needs {needs}")


def keys(value: Any, size: int) -> None:
    """Raise ValueError unless the value is an array (size,) of typed keys, one per sample.

    >>> keys(jax.random.split(jax.random.key(0), 2), 3)
    Traceback (most recent call last):
    ValueError: keys has the shape (2,); ...
    """
    example = f"such as jax.random.split(jax.random.key(0), {size})"
    dtype = getattr(value, "dtype", np.dtype(object))
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(f"keys={_short(value)}: needs one typed key per sample, {example}")
    if value.shape != (size,):
        shape = value.shape
        raise ValueError(f"keys has the shape {shape}; needs one key per sample, {example}")


def conditions(cond: Any, size: int) -> None:
    """Raise ValueError unless cond is None or a mapping from names to arrays (size, ...).

    >>> conditions({"label": np.zeros(2, int)}, 3)
    Traceback (most recent call last):
    ValueError: cond['label'] has the shape (2,); ...
    """
    if cond is None:
        return
    if not isinstance(cond, Mapping):
        raise ValueError(
            f"cond={_short(cond)}: needs a mapping from names to arrays, such as {{'label': label}}"
        )
    for name, value in cond.items():
        array(value, f"cond[{name!r}]", f"({size}, ...)")
        if value.shape[:1] != (size,):
            has = f"cond[{name!r}] has the shape {value.shape}"
            raise ValueError(f"{has}; needs one entry per sample, ({size}, ...)")


def labels(value: Any, size: int, name: str = "label") -> None:
    """Raise ValueError for a label that is neither in [0, size) nor -1, which means no class.

    Traced labels are not checked.

    >>> labels(np.array([0, 10]), 10)
    Traceback (most recent call last):
    ValueError: label=10: no such class; known: -1 (none), 0 to 9
    """
    if traced(value):
        return
    classes = np.asarray(value)  # in NumPy: within a traced function JAX would trace the test
    if len(bad := classes[~known_label(classes, size)]):
        raise ValueError(f"{name}={bad[0]}: no such class; known: -1 (none), 0 to {size - 1}")


def lengths(value: Any, size: int, name: str = "length") -> None:
    """Raise ValueError for lengths that are not unsigned integers in [1, size].

    Of traced lengths only the type is checked.

    >>> lengths(np.array([0], np.uint32), 8)
    Traceback (most recent call last):
    ValueError: length=0: needs a length from 1 to 8
    """
    if not np.issubdtype(value.dtype, np.unsignedinteger):
        raise ValueError(f"{name} of type {value.dtype}: needs uint32")
    if traced(value):
        return
    each = np.asarray(value)
    if len(bad := each[(each < 1) | (each > size)]):
        raise ValueError(f"{name}={bad[0]}: needs a length from 1 to {size}")


def known_label(value: Any, size: int) -> Any:
    """Return whether each label is a class in [0, size), or -1 for none.

    >>> known_label(np.array([-1, 9, 10]), 10).tolist()
    [True, True, False]
    """
    return (value >= -1) & (value < size)


def same_shape(shape: tuple[int, ...], **values: Any) -> None:
    """Raise ValueError for an array of another shape, which would be broadcast otherwise.

    >>> same_shape((3, 2), x=np.zeros((3, 1)))
    Traceback (most recent call last):
    ValueError: x has the shape (3, 1); needs (3, 2)
    """
    for name, value in values.items():
        if jnp.shape(value) != shape:
            raise ValueError(f"{name} has the shape {jnp.shape(value)}; needs {shape}")


def traced(*trees: Any) -> bool:
    """Return whether any leaf is a tracer, of which only shape and type are known.

    >>> traced(jnp.ones(3)), jax.eval_shape(lambda x: print(traced(x)), jnp.ones(3))
    True
    (False, None)
    """
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def _short(value: Any) -> str:
    """Return the value's representation on one line, at most 60 characters or `Class(...)`."""
    text, start = " ".join(repr(value).split()), f"{type(value).__name__}("
    short = f"{start}...)" if text.startswith(start) else f"{text[:57]}..."
    return text if len(text) <= 60 else short
