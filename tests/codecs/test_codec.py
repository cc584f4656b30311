"""The codec: its normalisation, the range of its pixels, and its shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.codecs import Codec, Normalisation
from diffjax.nets.autoencoder import Autoencoder, autoencoder


def average(params, x):
    """Means of pairs of rows and columns, with the variance 4."""
    b, h, w, c = x.shape
    mean = x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
    return mean, jnp.full_like(mean, jnp.log(4.0))


def repeat(params, z):
    return z.repeat(2, 1).repeat(2, 2)


CODEC = Codec(
    {},
    Normalisation(jnp.array([0.0, 1.0, 2.0]), jnp.array([1.0, 2.0, 4.0]), 0.5),
    network=Autoencoder(init=lambda *_: {}, apply=repeat, encode=average, decode=repeat),
    low=0.0,
)


def test_latents_leave_a_codec_normalised_and_pixels_in_its_own_range():
    """EDM2's codec sees pixels in [0, 1], and its latents have the deviation 0.5 per channel."""
    x = jax.random.uniform(jax.random.key(0), (2, 4, 4, 3), minval=-1.0, maxval=1.0)
    mean, std = CODEC.moments(x)
    raw = np.asarray(average({}, (x + 1) / 2)[0])
    np.testing.assert_allclose(mean, 0.5 * (raw - [0, 1, 2]) / [1, 2, 4], atol=1e-6)
    np.testing.assert_allclose(std, np.broadcast_to([1.0, 0.5, 0.25], std.shape), atol=1e-6)
    np.testing.assert_allclose(CODEC.encode(x, jnp.ones_like(mean)), mean + std)
    np.testing.assert_allclose(CODEC.decode(mean), repeat({}, average({}, x)[0]), atol=1e-6)


def test_a_codec_states_the_shapes_of_images_and_latents():
    assert CODEC.latent_shape((4, 6, 3)) == (2, 3, 3)
    assert CODEC.image_shape((2, 3, 3)) == (4, 6, 3)


def test_the_published_autoencoder_has_its_number_of_parameters():
    """`AutoencoderKL` of Stable Diffusion has 34.16 M in the encoder and 49.49 M in the decoder."""
    net = autoencoder(quantised=True)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    count = {name: sum(a.size for a in jax.tree.leaves(part)) for name, part in params.items()}
    assert count == {"encoder": 34163664, "decoder": 49490199}
    assert net.factor == 8


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multipliers="):
        autoencoder(channels=48, groups=32)
    with pytest.raises(ValueError, match="4 is no level; needs numbers below 4"):
        autoencoder(attention_levels=(3, 4))
    with pytest.raises(ValueError, match="float16"):
        autoencoder(dtype="float16")
    with pytest.raises(ValueError, match="multiples of 8"):
        autoencoder().check(np.zeros((1, 12, 8, 3)), None)
