"""Optimizers of optax, schedules of the learning rate, and the chain around each optimizer."""

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
"""An entry of OPTIMIZERS with its settings bound: schedule of the rate -> optimizer."""


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
    """Chain the clipping of gradients, the optimizer `core`, and factors on single parameters.

    rate(t) = learning_rate schedule(t) min(1, (t + u) / (warmup + u)), with t and all lengths in
    steps, and u = one step, so that the rate of the first step is not 0. learning_rate: the largest
    rate. warmup: the length over which the rate rises. schedule: the factor on the rate over time,
    constant by default. in_images: measure lengths in images, not in steps. clip: the largest norm
    of the gradient, None for no limit. rates: regular expression -> factor on the steps of the
    parameters whose path (`network/label/embedding`) matches it; 0 keeps these parameters fixed,
    and the factors of several matches multiply.

    Raises ValueError for values out of range.

    >>> params = {"network": {"w": jnp.ones(2)}}
    >>> chain = optimizer(adam, learning_rate=0.01, warmup=0, clip=None)
    >>> steps, _ = chain.update(params, chain.init(params), params)
    >>> [round(float(step), 4) for step in steps["network"]["w"]]
    [-0.01, -0.01]
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
    """Return the constant factor 1.

    >>> float(constant()(1000))
    1.0
    """
    return optax.constant_schedule(1.0)


def linear(length: int = 0, final: float = 0.0) -> optax.Schedule:
    """Return a factor that falls linearly from 1 to `final` over `length`.

    >>> float(linear(length=100)(25))
    0.75
    """
    _falling(length, final)
    return optax.linear_schedule(1.0, final, length)


def cosine(length: int = 0, final: float = 0.0) -> optax.Schedule:
    """Return a factor that falls from 1 to `final` along half a cosine over `length`.

    >>> round(float(cosine(length=100)(50)), 4)
    0.5
    """
    _falling(length, final)
    return optax.cosine_decay_schedule(1.0, length, final)


def inverse_sqrt(reference: int = 0) -> optax.Schedule:
    """Return the factor 1 / sqrt(max(t / reference, 1)) (arXiv:2312.02696, eq. 67).

    >>> float(inverse_sqrt(reference=100)(400))
    0.5
    """
    positive(reference=reference)
    return lambda t: jax.lax.rsqrt(jnp.maximum(t / reference, 1.0))


def adam(rate: optax.Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """Adam (arXiv:1412.6980).

    b1, b2: decays of both moments, in [0, 1). eps: added to the root of the second one. Raises
    ValueError for others.

    >>> params, chain = {"network": {"w": jnp.ones(2)}}, adam(lambda step: 0.01)
    >>> steps, _ = chain.update(params, chain.init(params), params)  # these gradients are ones
    >>> [round(float(step), 4) for step in steps["network"]["w"]]
    [-0.01, -0.01]
    """
    within(0, 1, "[)", b1=b1, b2=b2)
    return optax.adam(rate, b1, b2, eps)


def adamw(
    rate: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Any:
    """AdamW (arXiv:1711.05101).

    b1, b2, eps: as in `adam`. weight_decay: >= 0, multiplied by the rate. Raises ValueError for
    others.

    >>> params, chain = {"network": {"w": jnp.ones(2)}}, adamw(lambda step: 0.01, weight_decay=0.5)
    >>> steps, _ = chain.update(params, chain.init(params), params)  # these gradients are ones
    >>> [round(float(step), 4) for step in steps["network"]["w"]]
    [-0.015, -0.015]
    """
    within(0, 1, "[)", b1=b1, b2=b2)
    at_least(0, weight_decay=weight_decay)
    return optax.adamw(rate, b1, b2, eps, weight_decay=weight_decay, mask=decays)


def lion(rate: optax.Schedule, b1: float = 0.9, b2: float = 0.99, weight_decay: float = 0.0) -> Any:
    """Lion (arXiv:2302.06675), whose steps all have one size: use a tenth of the rate of AdamW.

    b1, b2: decays of step and momentum, in [0, 1). weight_decay: as in `adamw`. Raises ValueError
    for others.

    >>> params, chain = {"network": {"w": jnp.ones(2)}}, lion(lambda step: 0.001)
    >>> steps, _ = chain.update(params, chain.init(params), params)  # these gradients are ones
    >>> [round(float(step), 4) for step in steps["network"]["w"]]
    [-0.001, -0.001]
    """
    within(0, 1, "[)", b1=b1, b2=b2)
    at_least(0, weight_decay=weight_decay)
    return optax.lion(rate, b1, b2, weight_decay=weight_decay, mask=decays)


def radam(rate: optax.Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """Rectified Adam (arXiv:1908.03265), whose first steps do not divide by the second moment.

    b1, b2: decays of both moments, in [0, 1). eps: added to the root of the second one. Raises
    ValueError for others.

    >>> params, chain = {"network": {"w": jnp.ones(2)}}, radam(lambda step: 0.01)
    >>> steps, _ = chain.update(params, chain.init(params), params)  # these gradients are ones
    >>> [round(float(step), 4) for step in steps["network"]["w"]]
    [-0.01, -0.01]
    """
    within(0, 1, "[)", b1=b1, b2=b2)
    return optax.radam(rate, b1, b2, eps)


def adafactor(
    rate: optax.Schedule,
    decay: float = 0.8,
    momentum: float | None = None,
    least: int = 128,
    weight_decay: float = 0.0,
) -> Any:
    """Adafactor (arXiv:1804.04235), whose rate is relative to the size of each parameter.

    decay: the exponent of the decay of the second moment. least: the smallest side of a matrix
    whose second moment is factored. weight_decay: per step, not multiplied by the rate. momentum:
    decay of the first moment, None for none. Raises ValueError for values out of range.

    >>> params, chain = {"network": {"w": jnp.ones(2)}}, adafactor(lambda step: 0.01)
    >>> steps, _ = chain.update(params, chain.init(params), params)  # these gradients are ones
    >>> [round(float(step), 4) for step in steps["network"]["w"]]
    [-0.01, -0.01]
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
    """Muon (https://kellerjordan.github.io/posts/muon) for kernels, AdamW for other parameters.

    The steps of a kernel have an RMS of 0.2 times the rate, as those of AdamW do (arXiv:2502.16982,
    eq. 4), so one rate suits both. Weight decay applies to kernels alone. beta: momentum of
    kernels. b1, b2: as in `adam`, for the others. Raises ValueError for values out of range.

    >>> params, chain = {"network": {"kernel": jnp.eye(2)}}, muon(lambda step: 0.01)
    >>> steps, _ = chain.update(params, chain.init(params), params)  # the gradient is the identity
    >>> round(float(jnp.sqrt((steps["network"]["kernel"] ** 2).mean())), 3)  # 0.2 times the rate
    0.002
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
    """Return the axes that are rows and columns of each kernel, for Muon; None for anything else.

    A stack of matrices (..., in, out) has one matrix per leading index. A convolution over two or
    more axes is one matrix (taps and in, out).

    >>> matrices({"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}})["dense"]["kernel"]
    MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    """

    def one(path: tuple[Any, ...], a: Any) -> Any:
        if path[-1].key != "kernel" or a.ndim < 2:
            return None
        rows = tuple(range(a.ndim - 1)) if a.ndim > 3 else -2
        return optax.contrib.MuonDimensionNumbers(rows, -1)

    return jax.tree_util.tree_map_with_path(one, params)


def decays(params: Params) -> Params:
    """Return a tree like `params` that is True where weight decay applies.

    It applies to the trained parameters of the network, and not to a learned schedule or to
    parameters of the loss.

    >>> decays({"network": {"w": jnp.ones(2)}, "loss": {"u": jnp.ones(2)}})
    {'loss': {'u': False}, 'network': {'w': True}}
    """

    def one(path: tuple[Any, ...], _: Any) -> bool:
        return path[0].key not in ("schedule", "loss") and not fixed(path)

    return jax.tree_util.tree_map_with_path(one, params)


def scaled(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Return a transformation that multiplies the step of each parameter by its factors.

    rates: regular expression -> factor for the parameters whose path matches it.

    >>> params, chain = {"network": {"w": jnp.ones(2), "b": jnp.ones(2)}}, scaled({"/w$": 0.5})
    >>> chain.update(params, chain.init(params))[0]["network"]["w"].tolist()
    [0.5, 0.5]
    """

    def one(path: tuple[Any, ...], step: Any) -> Any:
        for pattern, factor in rates.items():
            step = step * factor if re.search(pattern, named(path)) else step
        return step

    return optax.stateless(lambda steps, _: jax.tree_util.tree_map_with_path(one, steps))


def matched(patterns: Iterable[str] | None, params: Params) -> None:
    """Raise ValueError for a pattern that matches no parameter or is not a regular expression.

    >>> matched(["embeding"], {"network": {"embedding": jnp.ones(2)}})
    Traceback (most recent call last):
    ValueError: 'embeding': ...
    """
    paths = [named(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns or ():
        try:
            fits = any(re.search(pattern, path) for path in paths)
        except re.error as error:
            raise ValueError(f"{pattern!r}: not a regular expression ({error})") from error
        if not fits:
            known = sorted({"/".join(path.split("/")[:2]) for path in paths})
            raise ValueError(f"{pattern!r}: matches no parameter; known: {', '.join(known)}")


def matches(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate that is True for a path with a match of one of these patterns.

    >>> matches(["bias$"])("network/dense/bias")
    True
    """
    patterns = tuple(patterns)
    return lambda path: any(re.search(pattern, path) for pattern in patterns)


def named(path: tuple[Any, ...]) -> str:
    """Return the path of a parameter as text, such as `network/label/embedding`.

    >>> tree = {"network": {"label": {"embedding": jnp.ones(2)}}}
    >>> [named(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    ['network/label/embedding']
    """
    return "/".join(str(entry.key) for entry in path)


def _falling(length: int, final: float) -> None:
    positive(length=length)
    within(0, 1, final=final)


OPTIMIZERS = catalogue(adam, adamw, radam, lion, adafactor, muon)
RATES = catalogue(constant, linear, cosine, inverse_sqrt)
