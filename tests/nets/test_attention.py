"""Attention against its formula in float64, with masks, all derivatives, and on other devices."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.custom_partitioning import custom_partitioning

from diffjax.nets.kernels import attention as module
from diffjax.nets.kernels.attention import attention


def formula(q, k, v, mask=None):
    """Return softmax(q k^T / sqrt(d)) v, unfused, in the type of the arrays."""
    logits = jnp.einsum("blhd,bmhd->bhlm", q, k) / np.sqrt(q.shape[-1])
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    return jnp.einsum("bhlm,bmhd->blhd", weights / weights.sum(-1, keepdims=True), v)


def drawn(l=5, m=7, heads=2, d=4, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(3, n, heads, d)), dtype) for n in (l, m, m))
    return q, k, v, jnp.asarray(rng.random((3, m)) < 0.6).at[:, 0].set(True)


@pytest.fixture(params=[2**17, 14], ids=["whole", "parts"])
def parts(request, monkeypatch):
    """Compute all queries at once, or in parts of two, the last of which is not full."""
    monkeypatch.setattr(module, "PAIRS", request.param)
    jax.clear_caches()


AGAIN = pytest.mark.thorough


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("parts", "masked"),
    [
        pytest.param(2**17, False, id="whole"),
        pytest.param(14, True, id="parts-masked"),
        pytest.param(2**17, True, id="whole-masked", marks=AGAIN),
        pytest.param(14, False, id="parts", marks=AGAIN),
    ],
    indirect=["parts"],
)
def test_value_and_all_derivatives_are_those_of_the_formula(parts, masked):
    """Networks would train on wrong gradients, as each derivative has a rule of its own."""
    q, k, v, mask = drawn(dtype=jnp.float64)
    mask = mask if masked else None
    along = drawn(l=7, m=5, dtype=jnp.float64)
    along = along[1], along[0], along[0] ** 2

    def everything(f):
        loss = lambda *given: (f(*given, mask) ** 3).sum()
        grad = jax.grad(loss, (0, 1, 2))
        return jax.jit(
            lambda *given: (
                f(*given, mask),
                grad(*given),
                jax.jvp(lambda *a: f(*a, mask), given, along),
                jax.jvp(grad, given, along),
                jax.grad(lambda *a: jax.jvp(loss, a, along)[1], (0, 1, 2))(*given),
                jax.grad(lambda k: sum((a**2).sum() for a in grad(q, k, v)))(given[1]),
            )
        )(q, k, v)

    chex.assert_trees_all_close(everything(attention), everything(formula), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("parts")
def test_masked_keys_have_no_influence():
    """The padding of a caption would change its image."""
    q, k, v, mask = drawn()
    hide = lambda a, value: jnp.where(mask[..., None, None], a, value)
    run = jax.jit(lambda k, v: jax.value_and_grad(
        lambda k, v: (attention(q, k, v, mask) ** 2).sum(), (0, 1))(k, v))  # fmt: skip
    value, grads = run(k, v)
    other, _ = run(hide(k, 50.0), hide(v, -7.0))
    assert value == other
    for grad in grads:
        np.testing.assert_array_equal(np.where(mask[..., None, None], 0, grad), 0)


@pytest.mark.parametrize("axes", [(0, 0, 0, 0), (1, None, None, None), (None, 2, 0, None)])
def test_vmap_is_a_loop(axes):
    """Ensembles and per-sample gradients would mix their examples."""
    given = drawn()
    stack = lambda a, i: a if i is None else jnp.stack([a, jnp.flip(a, 0)], i)
    given = [stack(a, i) for a, i in zip(given, axes, strict=True)]
    both = [jax.jit(jax.vmap(f, axes))(*given) for f in (attention, formula)]
    chex.assert_trees_all_close(*both, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_good_as_its_inputs():
    """Logits or sums in bfloat16 would cost two of its three digits."""
    q, k, v, mask = drawn(l=64, m=64, d=8, dtype=jnp.bfloat16)
    made, back = jax.jit(lambda *a: jax.vjp(lambda *a: attention(*a, mask), *a))(q, k, v)
    exact, exact_back = jax.jit(lambda *a: jax.vjp(lambda *a: formula(*a, mask), *a))(
        *(a.astype(jnp.float32) for a in (q, k, v))
    )
    pairs = [(made, exact), *zip(back(made), exact_back(exact), strict=True)]
    for ours, theirs in pairs:
        assert ours.dtype == jnp.bfloat16
        assert np.abs(ours.astype(jnp.float32) - theirs).max() < 0.02 * np.abs(theirs).max()


def test_gradient_keeps_no_weights_of_pairs():
    """Memory would grow with the square of the length, so that long videos would not fit."""
    l = 2048
    shape = jax.ShapeDtypeStruct((1, l, 1, 8), jnp.float32)
    grad = jax.grad(lambda *a: attention(*a).sum(), (0, 1, 2))
    compiled = jax.jit(grad).lower(shape, shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < l * l * 4 / 2
    plain = jax.grad(lambda *a: formula(*a).sum(), (0, 1, 2))
    compiled = jax.jit(plain).lower(shape, shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes > l * l * 4


@pytest.mark.parametrize("masked", [False, True])
def test_form_for_the_fused_kernel_is_the_formula(masked, monkeypatch):
    """Values on GPU would change: the mask is one more feature there, and widths are padded."""
    q, k, v, mask = drawn(d=6)
    there = (mask,) if masked else ()
    fused = jax.nn.dot_product_attention

    def checked(q, k, v, *, scale, implementation):
        assert implementation == "cudnn" and q.shape[-1] % 8 == 0
        return fused(q, k, v, scale=scale)

    monkeypatch.setattr(jax.nn, "dot_product_attention", checked)
    made = jax.jit(module._fused)(q, k, v, *there)
    chex.assert_trees_all_close(made, formula(q, k, v, *there), rtol=1e-4, atol=1e-5)


def test_the_kernel_for_gpu_receives_the_devices(monkeypatch):
    """JAX would stop with an assertion: no attention would run in bfloat16 on a GPU."""

    @custom_partitioning  # as JAX wraps cuDNN's kernel
    def product(q, k, v):
        return q * k * v

    rule = "b l h d, b l h d, b l h d -> b l h d"
    product.def_partition(partition=None, sharding_rule=rule)
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *qkv, **settings: product(*qkv))
    q, *_ = drawn(dtype=jnp.bfloat16)
    program = jax.jit(lambda q: attention(q, q, q)).trace(q)
    assert "multiply" in program.lower(lowering_platforms=("cuda",)).as_text()


def test_the_device_is_known_where_a_program_is_lowered(monkeypatch):
    """A program exported on CPU for GPU would hold the weights of all pairs, or fail in float32."""
    called = []
    fake = lambda q, k, v, **settings: called.append(q.dtype.name) or q * k * v
    monkeypatch.setattr(jax.nn, "dot_product_attention", fake)
    for dtype in (jnp.bfloat16, jnp.float32):
        q, *_ = drawn(dtype=dtype)
        program = jax.jit(jax.grad(lambda q: attention(q, q, q).sum())).trace(q)
        program.lower(lowering_platforms=("cpu",))
        assert not called
        text = program.lower(lowering_platforms=("cuda",)).as_text()
        assert bool(called) == (dtype == jnp.bfloat16) == (not re.search("exponential", text))
        called.clear()
