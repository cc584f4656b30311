"""Optimizers of optax, the rates that they follow, and what goes around each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from diffjax.arrays import Params, catalogue
from diffjax.checks import at_least, positive, within
from diffjax.nets.network import fixed

Core = Callable[[optax.Schedule], optax.GradientTransformation]
"""An entry of OPTIMIZERS with its settings: the rate of each step -> the optimizer."""


def optimizer(
    core: Core,
    learning_rate: float = 2e-4,
    warmup: int = 0,
    schedule: optax.Schedule = optax.constant_schedule(1.0),
    in_images: bool = False,
    clip: float | None = 1.0,
    rates: Mapping[str, float] | None = None,
    batch_size: int = 1,
) -> optax.GradientTransformation:
    """clip, core, rates, with rate(t) = learning_rate schedule(t) min(1, (t + u) / (warmup + u)).

    t and all lengths are in steps; u is one step, so that the first is not lost. learning_rate: the
    largest. warmup: the length over which it rises. schedule: its factor over time, constant by
    default. in_images: lengths count images, not steps.
    clip: largest norm of the gradient, None for no limit. rates: regular expression -> factor on
    the steps of the parameters whose path (`network/label/embedding`) has it; 0 keeps them as they
    are, and factors multiply where several fit.
    """
    positive(learning_rate=learning_rate, clip=clip)
    unit = batch_size if in_images else 1
    at_least(0, warmup=warmup)
    at_least(0, **(rates or {}))

    def rate(count: Any) -> Any:
        t = jnp.asarray(count, jnp.float32) * unit
        return learning_rate * schedule(t) * jnp.minimum(1, (t + unit) / (warmup + unit))

    clipped = [] if clip is None else [optax.clip_by_global_norm(clip)]
    return optax.chain(*clipped, core(rate), *([scaled(rates)] if rates else []))


def constant() -> optax.Schedule:
    """1."""
    return optax.constant_schedule(1.0)


def linear(length: int = 0, final: float = 0.0) -> optax.Schedule:
    """From 1 to `final` on a line, over `length`."""
    _falling(length, final)
    return optax.linear_schedule(1.0, final, length)


def cosine(length: int = 0, final: float = 0.0) -> optax.Schedule:
    """From 1 to `final` on half a cosine, over `length`."""
    _falling(length, final)
    return optax.cosine_decay_schedule(1.0, length, final)


def inverse_sqrt(reference: int = 0) -> optax.Schedule:
    """1 / sqrt(max(t / reference, 1)) (arXiv:2312.02696, eq. 67)."""
    positive(reference=reference)
    return lambda t: jax.lax.rsqrt(jnp.maximum(t / reference, 1.0))


def adam(rate: optax.Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """Adam (arXiv:1412.6980)."""
    within(0, 1, "[)", b1=b1, b2=b2)
    return optax.adam(rate, b1, b2, eps)


def adamw(
    rate: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Any:
    """AdamW (arXiv:1711.05101)."""
    within(0, 1, "[)", b1=b1, b2=b2)
    at_least(0, weight_decay=weight_decay)
    return optax.adamw(rate, b1, b2, eps, weight_decay=weight_decay, mask=decays)


def lion(rate: optax.Schedule, b1: float = 0.9, b2: float = 0.99, weight_decay: float = 0.0) -> Any:
    """Lion (arXiv:2302.06675): steps of one size, so a tenth of the rate of AdamW."""
    within(0, 1, "[)", b1=b1, b2=b2)
    at_least(0, weight_decay=weight_decay)
    return optax.lion(rate, b1, b2, weight_decay=weight_decay, mask=decays)


def adafactor(
    rate: optax.Schedule,
    decay: float = 0.8,
    momentum: float | None = None,
    least: int = 128,
    weight_decay: float = 0.0,
) -> Any:
    """Adafactor (arXiv:1804.04235): the rate is relative to the size of each parameter.

    decay: the exponent of the second moment's. least: sides from which on that is factored. The
    weight decay is per step, not times the rate.
    """
    within(0, 1, "[)", decay=decay, momentum=momentum or 0.0)
    at_least(0, weight_decay=weight_decay)
    return optax.adafactor(
        rate,
        least,
        decay,
        momentum=momentum,
        weight_decay_rate=weight_decay or None,
        weight_decay_mask=decays,
    )


def muon(
    rate: optax.Schedule,
    beta: float = 0.95,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 0.0,
) -> Any:
    """Muon (https://kellerjordan.github.io/posts/muon) on kernels; AdamW on all other parameters.

    The steps of a kernel have an RMS of 0.2 times the rate, as those of AdamW do
    (arXiv:2502.16982, eq. 4): one rate serves both. Kernels alone decay.
    """
    within(0, 1, "[)", beta=beta, b1=b1, b2=b2)
    at_least(0, weight_decay=weight_decay)
    return optax.contrib.muon(
        rate,
        beta=beta,
        weight_decay=weight_decay,
        weight_decay_mask=decays,
        adam_b1=b1,
        adam_b2=b2,
        muon_weight_dimension_numbers=cast(Any, matrices),
        consistent_rms=0.2,
    )


def matrices(params: Params) -> Params:
    """Which axes of a kernel are rows and columns, for Muon; None for what is no kernel.

    A stack of matrices (..., in, out) has one per leading index, and a convolution over two axes
    or more is one matrix (taps and in, out).
    """

    def one(path: tuple[Any, ...], a: Any) -> Any:
        if path[-1].key != "kernel" or a.ndim < 2:
            return None
        rows = tuple(range(a.ndim - 1)) if a.ndim > 3 else -2
        return optax.contrib.MuonDimensionNumbers(rows, -1)

    return jax.tree_util.tree_map_with_path(one, params)


def decays(params: Params) -> Params:
    """Whether weight decay is for a parameter, as a tree like `params`.

    It is for what is trained of the network alone, not for a learned schedule or parameters of the
    loss.
    """

    def one(path: tuple[Any, ...], _: Any) -> bool:
        return path[0].key not in ("schedule", "loss") and not fixed(path)

    return jax.tree_util.tree_map_with_path(one, params)


def scaled(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Steps times the factors of the patterns that fit the path of each parameter."""

    def one(path: tuple[Any, ...], step: Any) -> Any:
        for pattern, factor in rates.items():
            step = step * factor if re.search(pattern, named(path)) else step
        return step

    return optax.stateless(lambda steps, _: jax.tree_util.tree_map_with_path(one, steps))


def matched(patterns: Iterable[str] | None, params: Params) -> None:
    """ValueError names a pattern that fits no parameter, or is no regular expression."""
    paths = [named(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns or ():
        try:
            fits = any(re.search(pattern, path) for path in paths)
        except re.error as error:
            raise ValueError(f"{pattern!r}: no regular expression ({error})") from error
        if not fits:
            known = sorted({"/".join(path.split("/")[:2]) for path in paths})
            raise ValueError(f"{pattern!r}: fits no parameter; known: {', '.join(known)}")


def matches(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path has one of these regular expressions in it."""
    patterns = tuple(patterns)
    return lambda path: any(re.search(pattern, path) for pattern in patterns)


def named(path: tuple[Any, ...]) -> str:
    """`network/label/embedding`."""
    return "/".join(str(entry.key) for entry in path)


def _falling(length: int, final: float) -> None:
    positive(length=length)
    within(0, 1, final=final)


OPTIMIZERS = catalogue(adam, adamw, lion, adafactor, muon)
RATES = catalogue(constant, linear, cosine, inverse_sqrt)
