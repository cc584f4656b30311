"""Gradient of two 3x3 convolutions: inside a compiled loop against outside, ours and lax's.

python experiments/benchmarks/convolution.py
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffjax.nets.kernels.convolution import convolution

TURNS, ROUNDS = 10, 7


def plain(x, kernel, strides, padding):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def seconds(f, *arguments) -> float:
    began = time.perf_counter()
    jax.block_until_ready(f(*arguments))
    return time.perf_counter() - began


def compare(conv, stride: int, size: int, turns: int = TURNS) -> tuple[float, float]:
    """Milliseconds of one gradient outside and inside a loop; medians of paired rounds."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (64, size, size, 32))
    kernels = 0.05 * jax.random.normal(key, (2, 3, 3, 32, 32))

    def loss(kernels, x):
        h = conv(x, kernels[0], (1, 1), "SAME")
        return (conv(jnp.tanh(h), kernels[1], (stride, stride), "SAME") ** 2).mean()

    step = lambda kernels, _: (kernels - 1e-3 * jax.grad(loss)(kernels, x), None)
    once = jax.jit(lambda kernels: step(kernels, None)[0])
    loop = jax.jit(lambda kernels: lax.scan(step, kernels, None, turns)[0])
    seconds(once, kernels), seconds(loop, kernels)
    outside, inside = [], []
    for _ in range(ROUNDS):
        outside.append(sum(seconds(once, kernels) for _ in range(turns)) / turns)
        inside.append(seconds(loop, kernels) / turns)
    return 1e3 * float(np.median(outside)), 1e3 * float(np.median(inside))


if __name__ == "__main__":
    for name, conv, turns in (("diffjax", convolution, TURNS), ("lax", plain, 2)):
        for stride in (1, 2):
            outside, inside = compare(conv, stride, 16, turns)
            print(
                f"{name:8} stride {stride}: outside {outside:7.1f} ms, inside {inside:7.1f} ms, "
                f"ratio {inside / outside:.2f}"
            )
