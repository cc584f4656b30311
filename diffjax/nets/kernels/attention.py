"""Softmax attention with linear memory and derivatives of every order, in a fast form per device.

There are three primitives: attention itself, its derivative along given directions (JVP), and the
transpose of that derivative (VJP). Each has its own program, so that a gradient stores q, k and v
only and not the weights of all pairs. Each device gets its form where a program is lowered for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import dispatch  # there is no public way to say that a lowering needs the devices
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool, Float

PAIRS = 2**17
"""Number of query-key pairs per head whose weights are held at once, about a CPU cache full."""


def attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b m h d"],
    v: Float[Array, "b m h d"],
    mask: Bool[Array, "b m"] | None = None,
) -> Float[Array, "b l h d"]:
    """Compute softmax(q k^T / sqrt(d)) v for each head (arXiv:1706.03762, eq. 1).

    q: (B, L, H, d). k, v: (B, M, H, d). mask: (B, M), True for keys that exist, at least one per
    sample; without it all do. Returns (B, L, H, d) in the type of v. The softmax is in float32.
    """
    there = () if mask is None else (mask,)
    return _attention.bind(q, k, v, *there)[0]


def _powers(q: Array, k: Array, *there: Array) -> tuple[Array, Array]:
    """Return the unnormalised weights exp(q k^T / sqrt(d) - maximum) (N, L, M) and their sums.

    q, k: (N, L, d) and (N, M, d), where N counts samples and heads. there: at most one mask (N, M).
    """
    # Scaling q costs L d multiplications, scaling the logits L M.
    logits = _product("nld,nmd->nlm", q * q.shape[-1] ** -0.5, k)
    for keys in there:
        # -inf is safe since one key exists: the maximum below is finite, and exp gives an exact 0.
        logits = jnp.where(keys[:, None], logits, -jnp.inf)
    # The softmax does not depend on what is subtracted, so its gradient need not either.
    powers = jnp.exp(logits - lax.stop_gradient(logits.max(-1, keepdims=True)))
    return powers, powers.sum(-1, keepdims=True)


def _product(form: str, a: Array, b: Array) -> Array:
    """Return the einsum of two arrays, accumulated and returned in float32 or wider."""
    return jnp.einsum(form, a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def _softmax(q: Array, k: Array, v: Array, *there: Array) -> Array:
    powers, total = _powers(q, k, *there)
    # Normalised after the product: L d divisions in place of L M.
    return (_product("nlm,nmd->nld", powers.astype(v.dtype), v) / total).astype(v.dtype)


def _value(q: Array, k: Array, v: Array, *there: Array) -> list[Array]:
    (k, v), there = _fold(k, v), _heads(there, q)
    parts = _in_parts(lambda q: _softmax(q, k, v, *there), *_fold(q), keys=k.shape[1])
    return [_unfold(parts, q)]


def _tangent(
    dq: Array, dk: Array, dv: Array, q: Array, k: Array, v: Array, *there: Array
) -> list[Array]:
    """Return the derivative of the value along (dq, dk, dv), which is linear in these."""
    (k, v, dk, dv), there = _fold(k, v, dk, dv), _heads(there, q)
    along = lambda q, dq: jax.jvp(
        lambda q, k, v: _softmax(q, k, v, *there), (q, k, v), (dq, dk, dv)
    )[1]
    return [_unfold(_in_parts(along, *_fold(q, dq), keys=k.shape[1]), q)]


def _gradient(ct: Array, q: Array, k: Array, v: Array, *there: Array) -> list[Array]:
    """Return the cotangents of q, k and v: the transpose of `_tangent` applied to `ct`.

    The weights are recomputed from q and k, part by part, which keeps memory linear.
    """
    shape, (k, v), there = k, _fold(k, v), _heads(there, q)

    def part(sums: tuple[Array, Array], slices: tuple[Array, Array]) -> Any:
        q, ct = slices
        powers, total = _powers(q, k, *there)
        w = powers / total
        # The Jacobian of a softmax is diag(w) - w w^T.
        change = _product("nld,nmd->nlm", ct, v)
        ds = w * (change - (w * change).sum(-1, keepdims=True)) * q.shape[-1] ** -0.5
        w, ds = w.astype(v.dtype), ds.astype(v.dtype)
        dk, dv = _product("nlm,nld->nmd", ds, q), _product("nlm,nld->nmd", w, ct)
        return (sums[0] + dk, sums[1] + dv), jnp.einsum("nlm,nmd->nld", ds, k)

    # dq belongs to a part of the queries; dk and dv are sums over all parts, hence in float32.
    zero = jnp.zeros(k.shape, jnp.promote_types(k.dtype, jnp.float32))
    queries, cts = (_split(a, k.shape[1]) for a in _fold(q, ct))
    if len(queries) == 1:
        (dk, dv), dq = part((zero, zero), (queries[0], cts[0]))
    else:
        (dk, dv), dq = lax.scan(part, (zero, zero), (queries, cts))
        dq = _join(dq, q.shape[1])
    return [_unfold(dq, q), *(_unfold(a.astype(k.dtype), shape) for a in (dk, dv))]


def _at_once(q: Array, k: Array, v: Array, *there: Array) -> list[Array]:
    """Return the value with the weights of all pairs at once, without a loop."""
    (k, v), there = _fold(k, v), _heads(there, q)
    return [_unfold(_softmax(_fold(q)[0], k, v, *there), q)]


def _fold(*arrays: Array) -> list[Array]:
    """Reshape (B, L, H, d) to (B H, L, d), one batch axis for the matrix products."""
    return [a.swapaxes(1, 2).reshape(-1, a.shape[1], a.shape[3]) for a in arrays]


def _unfold(a: Array, like: Array) -> Array:
    """Invert `_fold`, with the batch and the heads of `like`."""
    b, _, h, d = like.shape
    return a.reshape(b, h, -1, d).swapaxes(1, 2)


def _heads(there: tuple[Array, ...], q: Array) -> tuple[Array, ...]:
    """Repeat masks (B, M) for the heads of q, to (B H, M)."""
    return tuple(jnp.repeat(a, q.shape[2], axis=0) for a in there)


def _split(a: Array, keys: int) -> Array:
    """Split the queries of (N, L, d) into P parts (P, N, L / P, d) of at most about PAIRS pairs.

    Zeros are appended where P does not divide L; their outputs are cut off or add nothing.
    """
    n, l, d = a.shape
    parts = max(1, -(-l * keys // PAIRS))
    size = -(-l // parts)
    parts = -(-l // size)  # fewer may do after rounding up, so only the last part has zeros
    a = jnp.pad(a, ((0, 0), (0, parts * size - l), (0, 0)))
    return a.reshape(n, parts, size, d).swapaxes(0, 1)


def _join(a: Array, l: int) -> Array:
    """Invert `_split`, for L = `l` queries."""
    p, n, size, d = a.shape
    return a.swapaxes(0, 1).reshape(n, p * size, d)[:, :l]


def _in_parts(function: Callable[..., Array], *arrays: Array, keys: int) -> Array:
    """Apply `function` to (N, L, d) arrays, one part of the queries after the other."""
    parts = [_split(a, keys) for a in arrays]
    if len(parts[0]) == 1:
        return function(*arrays)
    outputs = lax.map(lambda slices: function(*slices), tuple(parts))
    return _join(outputs, arrays[0].shape[1])


def _fused(q: Array, k: Array, v: Array, *there: Array) -> Array:
    """Compute attention by cuDNN's kernel, whose memory is linear too.

    Its head width must be a multiple of 8, so features are padded with zeros. A mask would need a
    bias for every pair; one more feature, 1 in the queries and a large negative number in the
    missing keys, has the same effect.
    """
    d = q.shape[-1]
    more = -(d + len(there)) % 8 + len(there)
    fill = [(0, 0)] * 3 + [(0, more)]
    scale = d**-0.5  # of the true width, not of the padded one
    q, k, v = (jnp.pad(a, fill) if more else a for a in (q, k, v))
    for keys in there:
        # The added logit is -3e4: exp of it is 0, and it is finite, so no NaN arises in products.
        q = q.at[..., d].set(1)
        k = k.at[..., d].set(jnp.where(keys[..., None], 0, -3e4 / scale).astype(k.dtype))
    attended = jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")
    return attended[..., :d]


def _fits(q: Array) -> bool:
    """Return whether cuDNN's kernel takes this type and head width, with a feature for a mask."""
    return q.dtype == jnp.bfloat16 and q.shape[-1] < 128


def _value_cuda(q: Array, k: Array, v: Array, *there: Array) -> list[Array]:
    return [_fused(q, k, v, *there)] if _fits(q) else _value(q, k, v, *there)


def _gradient_cuda(ct: Array, q: Array, k: Array, v: Array, *there: Array) -> list[Array]:
    if not _fits(q):
        return _gradient(ct, q, k, v, *there)
    # This repeats cuDNN's forward pass: the primitive has no residuals besides its inputs.
    return list(jax.vjp(lambda q, k, v: _fused(q, k, v, *there), q, k, v)[1](ct))


def _as_arrays(tangents: Any, primals: Any) -> list[Array]:
    """Return the tangents as arrays, with zeros for symbolic zeros."""
    return [
        jnp.zeros(p.shape, p.dtype) if isinstance(t, ad.Zero) else t
        for t, p in zip(tangents, primals, strict=True)
    ]


def _value_jvp(primals: Any, tangents: Any) -> Any:
    # The tangent is a primitive, not the JVP of a scan: reverse mode would save the weights of all
    # parts of the scan, while the transpose of the primitive recomputes them.
    along = _as_arrays(tangents[:3], primals[:3])
    return _attention.bind(*primals), _along.bind(*along, *primals)


def _tangent_transpose(cts: Any, *arguments: Any) -> list[Any]:
    (ct,), wanted, residuals = cts, arguments[:3], arguments[3:]
    if isinstance(ct, ad.Zero):
        return [None] * len(arguments)
    pulled = _pull.bind(ct, *residuals)
    # Only the arguments that this transposition is in have a cotangent; the others are constants.
    kept = [g if ad.is_undefined_primal(w) else None for g, w in zip(pulled, wanted, strict=True)]
    return kept + [None] * len(residuals)


def _plain_jvp(function: Callable[..., list[Array]], arrays: int) -> Callable[..., Any]:
    """Return the JVP rule of a derivative, which differentiates the plain formula.

    Derivatives of second and higher order thus need no program of their own.
    """

    def rule(primals: Any, tangents: Any) -> Any:
        others = primals[arrays:]
        along = _as_arrays(tangents[:arrays], primals[:arrays])
        return jax.jvp(
            lambda *front_args: function(*front_args, *others), primals[:arrays], tuple(along)
        )

    return rule


def _batched(primitive: Primitive) -> Callable[..., Any]:
    """Return the batching rule for `vmap`: mapped examples join the batch axis."""

    def rule(arguments: Any, axes: Any) -> Any:
        n = next(a.shape[i] for a, i in zip(arguments, axes, strict=True) if i is not None)
        front = [
            jnp.broadcast_to(a[None], (n, *a.shape)) if i is None else jnp.moveaxis(a, i, 0)
            for a, i in zip(arguments, axes, strict=True)
        ]
        outputs = primitive.bind(*(a.reshape(-1, *a.shape[2:]) for a in front))
        return [a.reshape(n, -1, *a.shape[1:]) for a in outputs], [0] * len(outputs)

    return rule


def _primitive(
    name: str, function: Callable[..., list[Array]], cuda: Callable[..., list[Array]] | None = None
) -> Primitive:
    """Register a primitive with the lowering `function`, and `cuda` for NVIDIA GPUs."""
    primitive = Primitive(name)
    primitive.multiple_results = True  # the gradient has three; one set of rules serves all
    primitive.def_impl(jax.jit(lambda *arguments: primitive.bind(*arguments)))
    primitive.def_abstract_eval(lambda *avals: _abstract(function, *avals))
    lowered = lambda f: mlir.lower_fun(f, multiple_results=True)
    mlir.register_lowering(primitive, lowered(function))
    if cuda:
        mlir.register_lowering(primitive, lowered(cuda), platform="cuda")
        # JAX splits cuDNN's kernel over the devices while it lowers it, and would not pass them to
        # a program in which it sees none of its own primitives that need them.
        dispatch.prim_requires_devices_during_lowering.add(primitive)
    batching.primitive_batchers[primitive] = _batched(primitive)
    return primitive


def _abstract(function: Callable[..., list[Array]], *avals: Any) -> list[Any]:
    shaped = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals)
    shapes = jax.eval_shape(function, *shaped)
    return [avals[0].update(shape=a.shape, dtype=a.dtype, weak_type=False) for a in shapes]


_attention = _primitive("attention", _value, _value_cuda)
_along = _primitive("attention_along", _tangent)
_pull = _primitive("attention_gradient", _gradient, _gradient_cuda)
ad.primitive_jvps[_attention] = _value_jvp
ad.primitive_jvps[_along] = _plain_jvp(_tangent, 6)
ad.primitive_jvps[_pull] = _plain_jvp(_gradient, 4)
ad.primitive_transposes[_along] = _tangent_transpose

PLAIN = {"attention": _at_once}
"""The formula of attention for readers of programs that know only operations of `lax`."""
