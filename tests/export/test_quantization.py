"""INT8: the arithmetic of a layer, the layers that stay in floats, and the error of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from redrawn import redrawn

from diffjax import builder, config
from diffjax.export import quantized
from diffjax.export.quantization import KINDS, layer, rounding
from diffjax.io.trees import flat

NET = {"unet": {"channels": 8, "multipliers": (1, 2), "blocks": 1, "heads": 2, "attention": (4,)}}
NET["unet"]["dropout"] = 0.0
NET["dit"] = {"width": 16, "depth": 3, "heads": 2}


def eqn_of(function, *args):
    (eqn,) = jax.make_jaxpr(function)(*args).jaxpr.eqns
    return eqn


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_that_of_the_rounded_factors(kind):
    """Scales of another axis would multiply the outputs of a layer."""
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((2, 5, 4), (4, 3)))
    w *= np.array([1, 10, 100], np.float32)  # one scale for all outputs would lose the first
    eqn = eqn_of(lambda x, w: jax.lax.dot_general(x, w, (((2,), (0,)), ((), ()))), x, w)
    q, scale = rounding(w, [0])
    assert q.dtype == jnp.int8 and scale.shape == (1, 3) and np.abs(q).max(0).tolist() == [127] * 3
    tokens = np.asarray(x)
    if kind == "w8a8":
        each = np.abs(x).max(-1, keepdims=True) / 127
        tokens = np.round(x / each) * each
    wanted = tokens @ (np.asarray(q) * np.asarray(scale))
    np.testing.assert_allclose(layer(eqn, kind, x, q, scale), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(wanted, x @ w, atol=0.05 * np.abs(x @ w).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_convolution_is_that_of_the_rounded_factors(kind):
    """Inputs of a convolution have one scale per sample, as an output sees several tokens."""
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((2, 5, 4, 3), (3, 3, 3, 2)))
    x[1] *= 50
    numbers = ("NHWC", "HWIO", "NHWC")
    conv = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", None, None, numbers)
    eqn = eqn_of(conv, x, w)
    q, scale = rounding(w, [0, 1, 2])
    each = np.abs(x).max((1, 2, 3), keepdims=True) / 127
    tokens = np.round(x / each) * each if kind == "w8a8" else x
    wanted = conv(tokens, q * scale)
    np.testing.assert_allclose(layer(eqn, kind, x, q, scale), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NET)
def test_inner_layers_are_int8_and_the_others_are_kept(name):
    """The first or the last layer, or a modulation, would be rounded, which costs most."""
    settings = [f"network={ {'name': name, **NET[name]} }"]
    trained = redrawn(builder.experiment(config.override(config.load("digits_vp"), settings)))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 8, 8, 1)).astype(np.float32)
    cond, t = {"label": np.array([1, 2])}, np.array([0.3, 0.6], np.float32)
    denoise = jax.jit(lambda denoise: denoise(x, t, cond).output)
    wanted = denoise(trained.denoise)
    errors = []
    for kind in KINDS:
        small = quantized(trained.denoise, kind, x, cond)
        params = flat(small.params)
        rounded = {k for k, a in params.items() if a.dtype == jnp.int8}
        kept = set(params) - rounded
        assert rounded
        errors.append(float(np.abs(denoise(small) - wanted).max() / np.abs(wanted).max()))
        edges = ("Conv_0.kernel", "Conv_3.kernel") if name == "unet" else ("patches", "out.kernel")
        assert all(any(edge in k for k in kept) for edge in edges)
        assert not any("modulation" in k or "Embedding" in k for k in rounded)
        own = [k for k in rounded if "Block" in k or "blocks" in k]
        assert len(own) >= 4
    assert all(0 < error < 0.1 for error in errors), errors


def test_what_has_no_tokens_is_refused():
    """A network of vectors would be written unchanged, under the name of INT8."""
    trained = redrawn(
        builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    )
    with pytest.raises(ValueError, match="no layer on several tokens"):
        quantized(trained.denoise, "w8", jnp.zeros((2, 2)), {"label": jnp.zeros(2, int)})
