"""Layers against reference implementations, with every tensor redrawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffjax.nets.kernels.attention import attention
from diffjax.nets.layers import GroupNorm, sinusoidal

pytestmark = pytest.mark.typed


def normalised(x, groups, scale, bias, epsilon=1e-5):
    """Compute the group norm in float64, in two passes."""
    x = np.asarray(x, np.float64)
    parts = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, var = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    return ((parts - mean) / np.sqrt(var + epsilon)).reshape(x.shape) * scale + bias


def redrawn(channels):
    rng = np.random.default_rng(1)
    scale, bias = rng.normal(size=(2, channels)).astype(np.float32)
    return {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 4, 3, 12), 4), ((2, 5, 64), 32), ((3, 4, 4, 6), 32), ((2, 3, 40), 32), ((2, 8), 2)],
)
def test_group_norm_is_that_of_flax(shape, groups):
    """Weights of other implementations could not be used, or groups mix."""
    x = jnp.asarray(2 + 3 * np.random.default_rng(0).normal(size=shape), jnp.float32)
    params = redrawn(shape[-1])
    fitting = max(g for g in range(1, groups + 1) if shape[-1] % g == 0)
    ours = jax.jit(GroupNorm(groups, least=1).apply)({"params": params}, x)
    theirs = jax.jit(nn.GroupNorm(fitting, epsilon=1e-5).apply)({"params": params}, x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [100.0, 3000.0, "per channel", "one pixel"])
def test_group_norm_survives_a_large_mean(offset):
    """The one-pass variance would cancel in float32: noise or NaN for large activations."""
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 12))
    if offset == "per channel":
        x += 300 * np.arange(12)
    elif offset == "one pixel":
        x[:, 0, 0] += 300
    else:
        x += offset
    x = jnp.asarray(x, jnp.float32)
    params = redrawn(12)
    ours = jax.jit(GroupNorm(3, least=1).apply)({"params": params}, x)
    exact = normalised(x, 3, np.asarray(params["scale"]), np.asarray(params["bias"]))
    np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-3)


def test_group_norm_keeps_statistics_in_float32():
    """Statistics in bfloat16 would have two digits only."""
    x = jnp.asarray(10 + np.random.default_rng(0).normal(size=(2, 16, 16, 8)), jnp.bfloat16)
    params = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    ours = jax.jit(GroupNorm(2, least=1).apply)({"params": params}, x)
    assert ours.dtype == jnp.bfloat16
    exact = normalised(x.astype(jnp.float32), 2, 1.0, 0.0)
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-7, atol=2**-8)


def test_group_norm_takes_the_largest_divisor_up_to_its_groups():
    """Odd numbers of channels would fail, or silently fall back to one group."""
    assert normalised(np.ones((1, 1, 40)), 20, 1, 0).shape == (1, 1, 40)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 40)), jnp.float32)
    ours = jax.jit(GroupNorm(32, least=1).apply)(
        {"params": {"scale": jnp.ones(40), "bias": jnp.zeros(40)}}, x
    )
    np.testing.assert_allclose(ours, normalised(x, 20, 1, 0), atol=1e-5)


@pytest.mark.parametrize(("l", "m", "heads", "d"), [(16, 16, 2, 4), (5, 9, 3, 8), (1, 1, 1, 1)])
def test_attention_is_that_of_jax(l, m, heads, d):
    """Heads or positions would mix, or logits be scaled otherwise."""
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.normal(size=(2, l, heads, d)), jnp.float32)
    k, v = jnp.asarray(rng.normal(size=(2, 2, m, heads, d)), jnp.float32)
    ours, theirs = jax.jit(attention)(q, k, v), jax.jit(jax.nn.dot_product_attention)(q, k, v)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [2, 4, 64])
def test_sinusoidal_values(width):
    """Noise labels of trained networks would be embedded at other frequencies."""
    c = np.array([0.0, 0.3, 17.0, 999.0], np.float32)
    half = width // 2
    frequency = 10_000.0 ** -(np.arange(half) / max(half - 1, 1))
    exact = np.concatenate([np.sin(c[:, None] * frequency), np.cos(c[:, None] * frequency)], 1)
    np.testing.assert_allclose(sinusoidal(jnp.asarray(c), width), exact, atol=2e-4)
    assert sinusoidal(jnp.asarray(c), width).shape == (4, width)


def test_group_norm_keeps_what_an_embedding_adds():
    """Groups of one channel would remove the constant per channel that an embedding adds."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 4, 4, 32)), jnp.float32)
    added = x + jnp.asarray(rng.normal(size=(1, 1, 1, 32)), jnp.float32)
    norm = jax.jit(GroupNorm().apply)
    change = np.abs(norm({"params": redrawn(32)}, added) - norm({"params": redrawn(32)}, x))
    assert change.mean() > 0.1
