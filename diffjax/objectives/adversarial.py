"""The adversarial terms of autoencoders: hinge losses and the adaptive weight of the generator.

With the discriminator D, the reconstruction x_hat and the kernel W of the last layer of the decoder
(arXiv:2012.09841, sec. 3.1, and the code of arXiv:2112.10752),

    generator      g = -mean D(x_hat),
    weight         lambda = weight min(|dR/dW| / (|dg/dW| + 1e-4), 1e4), without gradient,
    discriminator  h = mean [relu(1 - D(x)) + relu(1 + D(x_hat))] / 2,

where R is the loss of the reconstruction. One sum `lambda g + h` trains both sides, since g has no
gradient in D, and h none in the autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from diffjax.arrays import Params, dims

Value = Float[Array, ""]
MOST, FLOOR = 1e4, 1e-4
"""The largest ratio of both gradients, and the number that is added to the smaller one."""


class Terms(NamedTuple):
    """The terms of one batch: see the module. real, fake: mean logits of both kinds of images."""

    generator: Value
    adaptive: Value
    discriminator: Value
    real: Value
    fake: Value

    @classmethod
    def none(cls) -> Terms:
        """Return terms of 0, before the discriminator starts."""
        return cls(*(jnp.zeros(()) for _ in cls._fields))

    @property
    def loss(self) -> Value:
        """The sum that is added to the loss."""
        return self.adaptive * self.generator + self.discriminator


def replaced(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return a nested dict with another value at `path`.

    >>> replaced({"a": {"b": 1}, "c": 2}, ("a", "b"), 3)
    {'a': {'b': 3}, 'c': 2}
    """
    if not path:
        return value
    return {**tree, path[0]: replaced(tree[path[0]], path[1:], value)}


def decoded(
    decode: Callable[[Params, Array], Array], params: Params, path: tuple[str, ...], z: Array
) -> tuple[Array, Callable[[Array], Array]]:
    """Decode z, and return the images with the map of gradients in them to those in W.

    decode: `(params, z) -> images`. path: the place of the kernel W in `params`. Since W enters in
    the last layer, the map passes through that layer alone and repeats no pass of the decoder.
    """
    kernel = params
    for name in path:
        kernel = kernel[name]
    images, pull = jax.vjp(lambda w: decode(replaced(params, path, w), z), kernel)
    return images, lambda slope: pull(slope)[0]


def linear(function: Callable[[Array], tuple[Value, Any]], x: Array) -> tuple[Value, Array, Any]:
    """Return a value, its gradient in x, and another result of a function, from one pass.

    function: x -> (value, another result). The gradient of the returned value in x is the one that
    was computed, so a later backward pass does not pass through the function again. The other
    result has no gradient.

    >>> value = lambda x: linear(lambda x: ((x**2).sum(), None), x)[0]
    >>> x = jnp.array([1.0, 2.0])
    >>> float(value(x)), jax.grad(value)(x).tolist()
    (5.0, [2.0, 4.0])
    """
    held = jax.lax.stop_gradient
    both = jax.value_and_grad(function, has_aux=True)(held(x))
    (value, more), slope = jax.tree.map(held, both)
    return value + jnp.vdot(slope, x - held(x)), slope, more


def terms(
    discriminator: Callable[[Params, Array], Array],
    params: Params,
    *,
    x: Array,
    x_hat: Array,
    slope: Array,
    pull: Callable[[Array], Array],
    weight: float,
    counted: Any = 1.0,
) -> Terms:
    """Return the adversarial terms of images x and their reconstructions x_hat, (B, H, W, C).

    params: those of the discriminator. slope: the gradient of R in x_hat. pull: see `decoded`.
    weight: the factor of lambda. counted: the weight of each item, (B,).
    """
    held = jax.lax.stop_gradient
    logit = lambda params, images: discriminator(params, images).mean((1, 2, 3))
    mean = lambda each: (counted * each).mean()
    against = lambda images: (-mean(logit(held(params), images)), None)
    generator, towards, _ = linear(against, x_hat)
    of_loss, of_generator = (optax.tree.norm(held(pull(a))) for a in (held(slope), towards))
    adaptive = weight * jnp.clip(of_loss / (of_generator + FLOOR), 0.0, MOST)
    real, fake = discriminator(params, x), discriminator(params, held(x_hat))
    hinge = (jax.nn.relu(1 - real).mean(dims(real)) + jax.nn.relu(1 + fake).mean(dims(fake))) / 2
    return Terms(generator, held(adaptive), mean(hinge), held(real.mean()), held(fake.mean()))
