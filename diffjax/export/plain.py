"""Programs in plain operations: without calls, rules of derivatives, loops over blocks, and ours.

A traced network holds calls of compiled functions, rules for its derivatives, a loop over equal
blocks, and primitives of `nets.kernels`, which converters and quantizers do not know. `plain`
returns the same function as one list of operations of `jax.lax`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

from diffjax.nets.kernels import attention, convolution

CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""Names under which primitives that only call a function hold it."""
INLINED = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call")
INLINED += ("custom_vjp_call_jaxpr", "remat", "remat2", "checkpoint")
FORMULAS: dict[str, Callable[..., Any]] = {
    "stop_gradient": lambda a: [a],
    **attention.PLAIN,
    **convolution.PLAIN,
}
"""The formulas of primitives that converters do not know, by their names."""
LONGEST = 64
"""The largest number of turns of a loop that is unrolled: more than networks have blocks."""
Evaluate = Callable[..., Sequence[Any]]


def plain(function: Callable[..., Any], *shapes: Any) -> core.ClosedJaxpr:
    """Trace a function to one list of plain operations.

    shapes: the shapes of its arguments, as for `jax.eval_shape`. The arguments of the result are
    the leaves of the arguments, in order, and its outputs are the leaves of the output.

    >>> import jax.numpy as jnp
    >>> jaxpr = plain(jax.jit(lambda x: jnp.where(x > 0, x, 0)), jax.ShapeDtypeStruct((2,), float))
    >>> [str(e.primitive) for e in jaxpr.jaxpr.eqns]
    ['gt', 'broadcast_in_dim', 'select_n']
    """
    traced = jax.make_jaxpr(function)(*shapes)
    flat = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in traced.in_avals]
    return jax.make_jaxpr(lambda *args: evaluate(traced, *args))(*flat)


def evaluate(closed: core.ClosedJaxpr, *args: Any) -> list[Any]:
    """Compute a traced function by its plain operations.

    >>> evaluate(jax.make_jaxpr(jax.jit(lambda x: 2 * x))(1.0), 3.0)
    [Array(6., dtype=float32...)]
    """
    jaxpr, values = closed.jaxpr, Values()
    values.write(jaxpr.constvars, closed.consts)
    values.write(jaxpr.invars, args)
    for eqn in jaxpr.eqns:
        values.write(eqn.outvars, operation(eqn, values.read(eqn.invars)))
    return values.read(jaxpr.outvars)


class Values:
    """The values of the variables of a traced function."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def write(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        """Set the values of variables."""
        self._values.update(zip(variables, values, strict=True))

    def read(self, variables: Sequence[Any]) -> list[Any]:
        """Return the values of variables and literals."""
        literal = lambda v: isinstance(v, core.Literal)
        return [v.val if literal(v) else self._values[v] for v in variables]


def operation(eqn: Any, args: Sequence[Any]) -> Sequence[Any]:
    """Return the outputs of one operation, by plain operations."""
    name, params = eqn.primitive.name, eqn.params
    if name in INLINED:
        return evaluate(closed(next(params[key] for key in CALLS if key in params)), *args)
    if name in FORMULAS:
        formula = lambda *args: FORMULAS[name](*args, **params)
        shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args]
        return evaluate(jax.make_jaxpr(formula)(*shapes), *args)
    if name == "scan" and params["length"] <= LONGEST:
        return unrolled(args, **params)
    out = eqn.primitive.bind(*args, **eqn.primitive.get_bind_params(params))
    return out if eqn.primitive.multiple_results else [out]


def closed(jaxpr: Any) -> core.ClosedJaxpr:
    """Return a traced function with its constants; one that lacks them has none."""
    return jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else core.ClosedJaxpr(jaxpr, ())


def unrolled(
    args: Sequence[Any],
    *,
    jaxpr: core.ClosedJaxpr,
    length: int,
    num_consts: int,
    num_carry: int,
    reverse: bool,
    **_: Any,
) -> list[Any]:
    """Return the outputs of a `scan`, whose turns are computed one after the other."""
    consts, carry = args[:num_consts], list(args[num_consts : num_consts + num_carry])
    slices = args[num_consts + num_carry :]
    turns: list[list[Any]] = []
    for i in reversed(range(length)) if reverse else range(length):
        each = [lax.index_in_dim(a, i, keepdims=False) for a in slices]
        outputs = evaluate(jaxpr, *consts, *carry, *each)
        carry = outputs[:num_carry]
        turns.append(outputs[num_carry:])
    stacks = zip(*(turns[::-1] if reverse else turns), strict=True)
    join = lambda parts: lax.concatenate([lax.expand_dims(a, (0,)) for a in parts], 0)
    return [*carry, *map(join, stacks)]
