"""Convolution whose gradients are as fast inside a compiled loop as outside it, on CPU too.

XLA's CPU backend runs a convolution fast in one layout only, `b01f_01io->b01f`. It rewrites others
to that one, except in the body of a loop, where it falls back to naive code (60 times slower). The
gradients of `lax.conv_general_dilated` are in other layouts. The convolution here is a bilinear
primitive: its transpose in the input is again a convolution in the fast layout, and its transpose
in the kernel is a few matrix products, which are twice as fast as a convolution whose kernel is as
large as the image. The same holds for all higher derivatives, in forward and in reverse mode.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from diffjax.nets.batches import batch_split
from diffjax.nets.kernels import winograd
from diffjax.nets.resample import upsample

Pairs = tuple[tuple[int, int], ...]
Ints = tuple[int, ...]
MANY = 2**27
"""Number of multiplications from which Winograd's algorithm saves milliseconds per call, against
half a second more of compilation."""


def convolution(
    x: Float[Array, "b *d c"],
    kernel: Float[Array, "*k _ f"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> Float[Array, "b *e f"]:
    """Convolve x (B, *D, C) with kernel (*K, C, F), over any number of spatial axes: (B, *E, F).

    The arguments and the values are those of `lax.conv_general_dilated`, which runs on GPU and TPU
    and for grouped features. Raises ValueError for other dimension numbers, and for padding by
    name of a dilated input.

    >>> x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    >>> convolution(x, kernel, (1, 1), "SAME")[0, :, :, 0].tolist()[0]
    [4.0, 6.0, 6.0, 4.0]
    """
    # flax passes dimension numbers that are resolved for the shapes at hand; both forms are equal.
    wanted = _numbers(x.ndim)
    if dimension_numbers not in (None, wanted) and dimension_numbers != (
        lax.conv_dimension_numbers(x.shape, kernel.shape, wanted)
    ):
        raise ValueError(f"dimension_numbers={dimension_numbers}: needs {wanted}")
    ones = (1,) * (x.ndim - 2)
    strides = tuple(window_strides)
    in_dilation = tuple(lhs_dilation or ones)
    dilation = tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        if in_dilation != ones:
            raise ValueError(f"padding={padding!r} of a dilated input: needs pairs of numbers")
        # "SAME" refers to the size of the dilated kernel, as in `lax`.
        size = [(n - 1) * d + 1 for n, d in zip(kernel.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(x.shape[1:-1], size, strides, padding)
    geometry = {
        "strides": strides,
        "padding": tuple((int(lo), int(hi)) for lo, hi in padding),
        "in_dilation": in_dilation,
        "dilation": dilation,
        "precision": precision,
    }
    if feature_group_count != 1:  # the transposes below know no groups
        return _lax(x, kernel, **geometry, feature_group_count=feature_group_count)
    return _primitive.bind(x, kernel, **geometry)


def upsampled(
    x: Float[Array, "b *d c"], kernel: Float[Array, "*k c f"], *_: Any, **__: Any
) -> Float[Array, "b *e f"]:
    """Upsample x (B, *D, C) by repeating each value, and convolve to the same size: (B, *2D, F).

    On CPU, and where the multiplications are many, it multiplies three sums in place of six values
    per axis (`winograd`). The further arguments are those with which `nn.Conv` calls a convolution;
    they are ignored.
    """
    sides = set(kernel.shape[:-2])
    places = x.shape[0] * math.prod(2 * n for n in x.shape[1:-1])
    if sides == {3} and _many(places, kernel):
        return _of_equals.bind(x, kernel)
    return _repeated(x, kernel)


def _repeated(x: Array, kernel: Array) -> Array:
    wide = batch_split(upsample(x))  # also where the gradient of a split kernel repeats x again
    return convolution(wide, kernel, (1,) * (x.ndim - 2), "SAME")


def _lax(
    x: Array,
    kernel: Array,
    *,
    strides: Ints,
    padding: Pairs,
    in_dilation: Ints,
    dilation: Ints,
    precision: Any,
    feature_group_count: int = 1,
) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        in_dilation,
        dilation,
        _numbers(x.ndim),
        feature_group_count,
        precision=precision,
    )


def _value(x: Array, kernel: Array, **geometry: Any) -> Array:
    if _suits_winograd(x, kernel, **geometry):
        return winograd.convolve(x, kernel, geometry["padding"])
    return _lax(x, kernel, **geometry)


def _suits_winograd(x: Array, kernel: Array, **geometry: Any) -> bool:
    """Return whether Winograd's algorithm applies and soon repays its longer compilation."""
    places = math.prod(x.shape[:-1])
    return kernel.shape[:-2] == (3, 3) and _every_place(geometry) and _many(places, kernel)


def _many(places: int, kernel: Array) -> bool:
    if not isinstance(places, int):  # the symbol of a batch of any size, in a program for export
        return False
    return min(kernel.shape[-2:]) >= 32 and math.prod(kernel.shape) * places >= MANY


def _every_place(geometry: dict[str, Any]) -> bool:
    """Return whether there are no strides and no dilations."""
    return {n for name in ("strides", "in_dilation", "dilation") for n in geometry[name]} == {1}


def _numbers(ndim: int) -> tuple[str, str, str]:
    axes = "DHW"[-(ndim - 2) :]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def _input_transpose(ct: Array, x: Any, kernel: Array, **geometry: Any) -> Array:
    """Transpose in the input: convolve the cotangent with the flipped kernel, channels swapped.

    Strides become input dilation and input dilation becomes strides. Binding the primitive again,
    and not `lax`, keeps the fast layout in derivatives of every order.
    """
    spans = _spans(x.aval.shape, kernel.shape, ct.shape, **geometry)
    return _primitive.bind(
        ct,
        jnp.flip(kernel, tuple(range(kernel.ndim - 2))).swapaxes(-1, -2),
        strides=geometry["in_dilation"],
        # The output length is m + (k - 1 - lo) + (n - m + lo) - k + 1 = n.
        padding=tuple((k - 1 - lo, n - m + lo) for n, k, m, lo in spans),
        in_dilation=geometry["strides"],
        dilation=geometry["dilation"],
        precision=geometry["precision"],
    )


def _kernel_transpose(ct: Array, x: Array, kernel: Any, **geometry: Any) -> Array:
    """Transpose in the kernel: the primitive of the kernel's gradient, (*K, C, F)."""
    return _gradient.bind(ct, x, kernel=kernel.aval.shape, **geometry)


def _kernel_gradient(ct: Array, x: Array, *, kernel: Ints, **geometry: Any) -> Array:
    """Convolve x as (C, *D, B) with the cotangent as kernel (*E, B, F): (C, *K, F), axes in order.

    Strides become kernel dilation and kernel dilation becomes strides. Without either,
    `_kernel_products` is faster.
    """
    if _every_place(geometry):
        return _kernel_products(ct, x, kernel, geometry["padding"])
    spans = _spans(x.shape, kernel, ct.shape, **geometry)
    # The gradient sums over the batch, which a convolution does over channels: they change places.
    out = _primitive.bind(
        x.swapaxes(0, -1),
        jnp.moveaxis(ct, 0, -2),
        strides=geometry["dilation"],
        # The output length is n + lo + (k + m - 1 - n - lo) - m + 1 = k.
        padding=tuple((lo, k + m - 1 - n - lo) for n, k, m, lo in spans),
        in_dilation=geometry["in_dilation"],
        dilation=geometry["strides"],
        precision=geometry["precision"],
    )
    return jnp.moveaxis(out, 0, -2)


def _lax_gradient(ct: Array, x: Array, *, kernel: Ints, **geometry: Any) -> Array:
    """Return the gradient of the kernel as `lax` derives it."""
    shaped = jax.ShapeDtypeStruct(kernel, ct.dtype)
    return jax.linear_transpose(lambda k: _lax(x, k, **geometry), shaped)(ct)[0]


def _kernel_products(ct: Array, x: Array, kernel: Ints, padding: Pairs) -> Array:
    """Transpose in the kernel by matrix products: sum shifted x times the cotangent, (*K, C, F).

    The taps of the last axis lie side by side in the channels of the cotangent, so that one product
    serves all of them: fewer and wider products.
    """
    (*outer, k), n = kernel[:-2], x.shape[-2]
    (*around, (lo, hi)) = padding
    whole = [(0, 0, 0)]
    zero = jnp.zeros((), ct.dtype)
    # Shifting the cotangent by j is shifting x by -j; `lax.pad` crops where padding exceeds k - 1.
    ct = lax.pad(ct, zero, [*whole * (ct.ndim - 2), (k - 1 - lo, k - 1 - hi, 0), *whole])
    wide = jnp.concatenate([ct[..., k - 1 - j : k - 1 - j + n, :] for j in range(k)], -1)
    wide = wide.reshape(-1, wide.shape[-1])
    x = lax.pad(x, zero.astype(x.dtype), [*whole, *((*p, 0) for p in around), *whole * 2])
    sizes = [m - i + 1 for m, i in zip(x.shape[1:-2], outer, strict=True)]
    products = []
    for tap in itertools.product(*map(range, outer)):
        window = tuple(slice(i, i + m) for i, m in zip(tap, sizes, strict=True))
        part = x[:, *window].reshape(-1, x.shape[-1])
        # (B places, C)^T (B places, k F): the contraction over all places is one matrix product.
        products.append(lax.dot_general(part, wide, (((0,), (0,)), ((), ()))))
    return jnp.stack(products).reshape(*outer, kernel[-2], k, -1).swapaxes(-2, -3)


def _spans(
    x: Ints, kernel: Ints, out: Ints, *, strides: Ints, padding: Pairs, **dilations: Any
) -> list[Ints]:
    """Return, per axis, the dilated lengths of input, kernel and output, and the low padding."""
    wide = lambda n, step: (n - 1) * step + 1
    every = zip(
        map(wide, x[1:-1], dilations["in_dilation"]),
        map(wide, kernel[:-2], dilations["dilation"]),
        map(wide, out[1:-1], strides),
        (lo for lo, _ in padding),
        strict=True,
    )
    return list(every)


def _batch(arguments: Any, axes: Any, **geometry: Any) -> tuple[Array, int]:
    """Batch for `vmap`: examples join the batch axis, kernels the output channels.

    Where both are mapped the result is a grouped convolution, which is left to `lax`.
    """
    (x, kernel), (a, b) = arguments, axes
    if b is None:
        x = jnp.moveaxis(x, a, 0)
        out = _primitive.bind(x.reshape(-1, *x.shape[2:]), kernel, **geometry)
        return out.reshape(*x.shape[:2], *out.shape[1:]), 0
    if a is None:
        kernel = jnp.moveaxis(kernel, b, -2)
        out = _primitive.bind(x, kernel.reshape(*kernel.shape[:-2], -1), **geometry)
        return out.reshape(*out.shape[:-1], *kernel.shape[-2:]), out.ndim - 1
    return jax.vmap(lambda x, k: _lax(x, k, **geometry), (a, b))(x, kernel), 0


def _like(aval: Any, function: Callable[..., Array], *avals: Any) -> Any:
    """Return the abstract value of `function`'s output."""
    shaped = jax.eval_shape(function, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
    return aval.update(shape=shaped.shape, dtype=shaped.dtype, weak_type=False)


def _register(
    primitive: Primitive,
    cpu: Callable[..., Array],
    others: Callable[..., Array],
    transposes: Sequence[Callable[..., Array]],
) -> None:
    """Register a bilinear primitive with its form on CPU and that on other platforms.

    JAX derives forward and reverse mode of every order from the two transposes.
    """
    bind = lambda *arguments, **geometry: primitive.bind(*arguments, **geometry)
    # Outside of a compiled function the primitive runs this program, one per shape and geometry.
    primitive.def_impl(jax.jit(bind, static_argnames=_static))
    primitive.def_abstract_eval(
        # The shapes, and the errors of shapes, are those of `lax`.
        lambda a, b, **geometry: _like(a, functools.partial(others, **geometry), a, b)
    )
    mlir.register_lowering(primitive, mlir.lower_fun(others, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    ad.defbilinear(primitive, *transposes)


def _batched(function: Callable[..., Array]) -> Callable[..., tuple[Array, int]]:
    """Return the batching rule that maps `function`, for products without a faster form."""
    return lambda arguments, axes, **geometry: (
        jax.vmap(functools.partial(function, **geometry), axes)(*arguments),
        0,
    )


_static = ("strides", "padding", "in_dilation", "dilation", "precision", "kernel")
_primitive = Primitive("convolution")
_register(_primitive, _value, _lax, (_input_transpose, _kernel_transpose))
batching.primitive_batchers[_primitive] = _batch

# The gradient of the kernel is bilinear in the cotangent and x, with the convolution and the
# gradient of its input as transposes.
_gradient = Primitive("convolution_kernel_gradient")
_register(
    _gradient,
    _kernel_gradient,
    _lax_gradient,
    (
        lambda ct, _, x, *, kernel, **geometry: _primitive.bind(x, ct, **geometry),
        lambda ct, y, x, *, kernel, **geometry: _input_transpose(y, x, ct, **geometry),
    ),
)
batching.primitive_batchers[_gradient] = _batched(_kernel_gradient)


def _of_equals_transposed(which: int) -> Callable[..., Array]:
    """Return the transpose in one factor, which is that of the plain convolution.

    Both forms compute the same bilinear map, so they have the same transposes.
    """

    def rule(ct: Array, *factors: Any) -> Array:
        def along(factor: Array) -> Array:
            return _repeated(*(factor if i == which else a for i, a in enumerate(factors)))

        return jax.linear_transpose(along, factors[which].aval)(ct)[0]

    return rule


_of_equals = Primitive("upsampled_convolution")
_register(
    _of_equals, winograd.convolve_equals, _repeated, tuple(map(_of_equals_transposed, (0, 1)))
)
# Mapped kernels would need batched products here; the plain convolution has a rule for them.
batching.primitive_batchers[_of_equals] = _batched(_repeated)

PLAIN = {
    "convolution": lambda *factors, **geometry: [_lax(*factors, **geometry)],
    "upsampled_convolution": lambda *factors: [_repeated(*factors)],
}
"""The formulas of convolutions for readers of programs that know only operations of `lax`."""
