"""Cross-attention: Stable Diffusion's transformer in the U-Net, PixArt's layer in the DiT."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from tiers import some

from diffjax.nets import NETWORKS
from diffjax.nets.blocks import Attention, Transformer, attended
from diffjax.nets.conditions import Tokens
from diffjax.nets.kernels.attention import attention
from diffjax.nets.streams import BlockSettings, Cross, Keys

B, L = 2, 3
UNET = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "heads": 2}
DIT = {"width": 12, "depth": 2, "heads": 2}
CASES = {
    "unet": ("unet", UNET, "", "CrossAttention"),
    "unet transformer": ("unet", {**UNET, "transformer": (2,)}, "", "cross_"),
    "dit cross": ("dit", {**DIT, "qk_norm": True}, "cross", "cross"),
    "dit joint": ("dit", DIT, "joint", None),
    "dit single": ("dit", {**DIT, "dual": 1, "single": 1}, "joint", None),
}
every = pytest.mark.parametrize("case", some(CASES, ("unet transformer", "dit cross")))


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def redrawn(shapes):
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(1)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    return jax.tree.unflatten(tree, [draw(a) for a in leaves])


@functools.cache
def made(case):
    """Return a network that attends to tokens, random parameters, and compiled `apply`."""
    name, settings, mechanism, _ = CASES[case]
    network = NETWORKS[name](**settings, conditions=(Tokens(5, mechanism=mechanism),))
    given = jnp.asarray(drawn(B, 4, 4, 2)), jnp.array([0.3, 0.7])
    params = redrawn(jax.eval_shape(network.init, jax.random.key(0), *given, None))
    apply = jax.jit(lambda params, tokens: network.apply(params, *given, {"tokens": tokens}))
    return apply, params, given


@every
def test_tokens_have_no_order_and_missing_ones_no_place(case):
    """The padding of a caption would be read, or the position of a token matter."""
    apply, params, _ = made(case)
    tokens = drawn(B, L, 5, seed=1)
    tokens[:, -1] = np.nan
    before = apply(params, tokens)
    chex.assert_trees_all_close(apply(params, tokens[:, [2, 1, 0]]), before, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(apply(params, tokens[:, [1, 2, 0]]), before, rtol=1e-4, atol=1e-4)
    tokens[:, -1] = 1.0
    assert np.abs(apply(params, tokens) - before).max() > 1e-3


@pytest.mark.thorough
@every
def test_gradient_reaches_each_token_that_is_there(case):
    """An encoder of text would learn from some words only."""
    apply, params, _ = made(case)
    tokens = jnp.asarray(drawn(B, L, 5, seed=1)).at[1, 0].set(jnp.nan)
    grads = jax.jit(jax.grad(lambda tokens: (apply(params, tokens) ** 2).mean()))(tokens)
    size = np.abs(grads).max(-1)
    assert np.isfinite(size).all() and size[1, 0] == 0
    assert (np.delete(size.ravel(), L) > 1e-6).all()


def changed(tree, part, leaf, change):
    """Return the tree with `change` applied to each `leaf` of the layers below a part."""
    if not isinstance(tree, dict):
        return tree
    edit = lambda name, sub: (
        jax.tree.map(change, sub)
        if name == leaf
        else {k: edit(k, v) for k, v in sub.items()}
        if isinstance(sub, dict)
        else sub
    )
    return {
        name: edit(name, sub) if name.startswith(part) else changed(sub, part, leaf, change)
        for name, sub in tree.items()
    }


def without(tree, *parts):
    """Return the tree without these parts and the keys of tokens."""
    if not isinstance(tree, dict):
        return tree
    drop = lambda name: name.startswith(parts) or name.endswith("_keys")
    return {k: without(v, *parts) for k, v in tree.items() if not drop(k)}


@pytest.mark.thorough
@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
def test_with_its_last_layer_at_zero_it_is_the_network_without(case):
    """A trained network would lose its abilities when it receives captions."""
    apply, params, given = made(case)
    name, settings, _, part = CASES[case]
    plain = NETWORKS[name](**settings)
    silent = changed(params, part, "out", jnp.zeros_like)
    rest = without(params, part, "tokens", "no_tokens")
    shapes = jax.eval_shape(plain.init, jax.random.key(0), *given, None)
    chex.assert_trees_all_equal_shapes(rest, shapes)
    expected = jax.jit(plain.apply)(rest, *given, None)
    tokens = drawn(B, L, 5, seed=1)
    chex.assert_trees_all_close(apply(silent, tokens), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(apply(params, tokens) - expected).max() > 1e-3


def test_what_masked_tokens_hold_has_no_say_and_no_gradient():
    """Padding that is not zero would be read."""
    q, k, v = (jnp.asarray(drawn(B, n, 2, 4, seed=n)) for n in (5, L, L))
    there = jnp.array([[True, False, True], [False, False, False]])
    out = attended(q, k, v, there)
    chex.assert_trees_all_close(out[:1], attention(q[:1], k[:1, ::2], v[:1, ::2]), rtol=1e-5)
    assert not np.any(out[1])
    grads = jax.grad(lambda k, v: (attended(q, k, v, there) ** 2).sum(), (0, 1))(k, v)
    for grad in grads:
        assert not np.any(grad[0, 1]) and not np.any(grad[1]) and np.any(grad[0, 0])


def test_without_a_null_a_sample_without_tokens_attends_to_nothing():
    """A sample without tokens would attend to padding, or be NaN and spoil its batch."""
    network = NETWORKS["dit"](**DIT, conditions=(Tokens(5, mechanism="cross", null=False),))
    given = jnp.asarray(drawn(B, 4, 4, 2)), jnp.array([0.3, 0.7])
    shapes = jax.eval_shape(network.init, jax.random.key(0), *given, None)
    assert "no_tokens" not in shapes
    params = changed(redrawn(shapes), "cross", "out", lambda a: a * (a.ndim > 2))  # no bias
    plain = NETWORKS["dit"](**DIT)
    expected = jax.jit(plain.apply)(without(params, "cross", "tokens"), *given, None)
    tokens = jnp.asarray(drawn(B, L, 5)).at[1].set(jnp.nan)
    out = jax.jit(network.apply)(params, *given, {"tokens": tokens})
    chex.assert_trees_all_close(out[1], expected[1], rtol=1e-5, atol=1e-5)
    assert np.abs(out[0] - expected[0]).max() > 1e-3


# The same formulas in NumPy, as the papers and their code have them.


def linear(layer, a):
    return a @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0.0))


def norm(layer, a, axes, epsilon):
    a = (a - a.mean(axes, keepdims=True)) / np.sqrt(a.var(axes, keepdims=True) + epsilon)
    return a, np.asarray(layer["scale"]), np.asarray(layer["bias"])


def layer_norm(layer, a):
    a, scale, bias = norm(layer, a, -1, 1e-5)
    return a * scale + bias


def softmax_attention(q, k, v, heads):
    split = lambda a: a.reshape(*a.shape[:2], heads, -1).transpose(0, 2, 1, 3)
    q, k, v = map(split, (q, k, v))
    weights = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
    out = weights / weights.sum(-1, keepdims=True) @ v
    return out.transpose(0, 2, 1, 3).reshape(len(out), out.shape[2], -1)


@pytest.mark.thorough
def test_the_transformer_is_that_of_stable_diffusion():
    """Published weights could not be used: an order, a bias, an epsilon or the gate differs."""
    channels, heads = 8, 2
    x, tokens = drawn(B, 2, 3, channels), drawn(B, L, 5, seed=1)
    module = Transformer(1, heads)
    context = jnp.asarray(tokens), jnp.ones((B, L), bool)
    params = redrawn(jax.eval_shape(module.init, jax.random.key(0), x, context)["params"])
    grouped, scale, bias = norm(
        params["GroupNorm_0"], x.reshape(B, 6, 2, channels // 2), (1, 3), 1e-6
    )
    h = grouped.reshape(B, 6, channels) * scale + bias
    h = linear(params["in"], h)
    u = layer_norm(params["self_norm_0"], h)
    own = params["self_0"]
    h = h + linear(own["out"], softmax_attention(*(linear(own[n], u) for n in "qkv"), heads))
    u, own = layer_norm(params["cross_norm_0"], h), params["cross_0"]
    q, k, v = linear(own["q"], u), linear(own["k"], tokens), linear(own["v"], tokens)
    h = h + linear(own["out"], softmax_attention(q, k, v, heads))
    u = linear(params["mlp_in_0"], layer_norm(params["mlp_norm_0"], h))
    u, gate = np.split(u, 2, -1)
    assert gate.shape[-1] == 4 * channels
    h = h + linear(params["mlp_out_0"], u * gate * (1 + erf(gate / np.sqrt(2))) / 2)
    expected = x + linear(params["out"], h).reshape(x.shape)
    ours = jax.jit(module.apply)({"params": params}, jnp.asarray(x), context)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert not any("bias" in params[part][n] for part in ("self_0", "cross_0") for n in "qkv")
    fresh = jax.jit(module.init)(jax.random.key(0), jnp.asarray(x), context)["params"]
    assert not np.any(fresh["out"]["kernel"]) and np.any(fresh["in"]["kernel"])


def test_the_layer_is_that_of_pixart():
    """Published weights could not be used: PixArt has biases everywhere, neither norm nor gate."""
    width, heads = 12, 2
    x, tokens = drawn(B, 4, width), drawn(B, L, width, seed=1)
    settings, there = BlockSettings(width, heads), jnp.ones((B, L), bool)
    keys, cross = Keys(settings), Cross(settings)
    weights = redrawn(keys.init(jax.random.key(0), tokens)["params"])
    k, v = np.split(linear(weights["kv"], tokens), 2, -1)
    context = keys.apply({"params": weights}, jnp.asarray(tokens)), there
    new = cross.init(jax.random.key(0), x, *context)
    params = redrawn(new["params"])
    expected = linear(params["out"], softmax_attention(linear(params["q"], x), k, v, heads))
    ours = cross.apply({"params": params}, x, *context)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert not np.any(cross.apply(new, x, *context))


def test_one_attention_to_itself_and_to_others():
    """A network would need two layers for self-attention and cross-attention."""
    module, x = Attention(2), jnp.asarray(drawn(B, 4, 8))
    params = module.init(jax.random.key(0), x, x)
    everything = module.apply(params, x, x, jnp.ones((B, 4), bool))
    chex.assert_trees_all_close(module.apply(params, x, x), everything, rtol=1e-5, atol=1e-6)
