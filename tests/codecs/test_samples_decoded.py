"""The step from samples to stored items: what is decoded, in which batches, and what is refused."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from codecs_of_tests import SHAPE, codec
from commands import one_device

from diffjax.codecs import Decoding
from diffjax.codecs import decoding as module
from diffjax.codecs.tiles import starts
from diffjax.data.form import Form, labelled


def test_latents_become_grey_levels_of_images_and_back():
    """Latents would be shown, or images of another range."""
    form = dataclasses.replace(labelled("latent", SHAPE, 3), class_names=("a", "b", "c"))
    decoding = Decoding(form, codec())
    stored = decoding.stored
    assert (stored.kind, stored.shape, stored.dtype) == ("image", (8, 8, 1), "uint8")
    assert stored.conditions == form.conditions and stored.class_names == form.class_names
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    z = decoding.encode(x)
    assert z.shape == (5, *SHAPE) and z.dtype == np.float32
    np.testing.assert_allclose(
        z, codec().encode(jnp.asarray(x / 127.5 - 1, jnp.float32)), atol=1e-5
    )
    np.testing.assert_array_equal(decoding(z), x)
    np.testing.assert_allclose(decoding.decode(z), x / 127.5 - 1, atol=1e-5)


@pytest.mark.parametrize("devices", [1, 8])
def test_one_program_decodes_any_number_of_latents(devices, monkeypatch):
    """Each batch size would compile the decoder again, and on several devices more would idle."""
    monkeypatch.setattr(module, "PIXELS", 3 * 64)
    devices = jax.devices()[:devices]
    monkeypatch.setattr(jax, "devices", lambda backend=None: devices)
    decoding, before = Decoding(Form("latent", SHAPE), codec()), module._decoded._cache_size()
    z = np.random.default_rng(0).normal(size=(7, *SHAPE)).astype(np.float32)
    seven = decoding.decode(z)
    for num in (0, 1, 3, 5):
        np.testing.assert_array_equal(decoding.decode(z[:num]), seven[:num])
    assert module._decoded._cache_size() == before + 1
    np.testing.assert_allclose(seven, codec().decode(jnp.asarray(z)), atol=1e-6)


def test_without_a_codec_samples_keep_their_form():
    form = labelled("image", (8, 8, 1))
    decoding, x = Decoding(form), np.zeros((2, 8, 8, 1), np.float32)
    assert decoding.stored is form and decoding.decode(x) is x
    np.testing.assert_array_equal(decoding(x), np.full((2, 8, 8, 1), 128, np.uint8))
    np.testing.assert_allclose(decoding.encode(decoding(x)), x, atol=0.004)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (labelled("image", (8, 8, 1)), "the data are images (8, 8, 1); needs latents, as `python"),
        (Form("latent", (4, 4, 3)), "does not decode latents (4, 4, 3) ("),
        (Form("latent", (4, 4)), "does not decode latents (4, 4) ("),
        (Form("latent", SHAPE, units=(("codec", "other"),)), "encoded by the codec other"),
    ],
)
def test_a_codec_that_does_not_fit_is_refused(form, message):
    """Samples would be decoded by another codec than encoded them, to pictures of nothing."""
    with one_device(), pytest.raises(ValueError, match=re.escape(message)):
        Decoding(form, codec())


def test_tiles_of_a_decoder_without_context_are_the_whole():
    """Tiles would be put in wrong places, or their overlap be counted twice."""
    z = np.random.default_rng(0).normal(size=(2, 11, 4, 4)).astype(np.float32)
    with one_device():
        decoding = Decoding(Form("latent", (11, 4, 4)), codec(), tile=4)
        whole = Decoding(Form("latent", (11, 4, 4)), codec()).decode(z)
        np.testing.assert_allclose(decoding.decode(z), whole, atol=1e-5)
        before = module._decoded._cache_size()
        np.testing.assert_array_equal(decoding.decode(z[:1]), decoding.decode(z)[:1])
        assert module._decoded._cache_size() == before
        with pytest.raises(ValueError, match="tile=3: needs tile >= 4 and a codec"):
            Decoding(Form("latent", SHAPE), codec(), tile=3)
        with pytest.raises(ValueError, match="tile=8: needs tile >= 4 and a codec"):
            Decoding(Form("latent", SHAPE), tile=8)
    assert starts(11, 4) == [0, 3, 6, 7] and starts(4, 4) == [0]
