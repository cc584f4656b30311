"""Normalisation of published latents, beside the arithmetic of their pipelines in NumPy."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import codecs
from diffjax.codecs.rules import RULES, assembled, by_deviation, rule_of
from diffjax.io.contents import Contents
from diffjax.io.reading import write
from diffjax.nets.tiny import tiny
from diffjax.published import autoencoder
from diffjax.published.autoencoder import ConvertedAutoencoder

RAW = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32) * 4
KL = {"_class_name": "AutoencoderKL"}
MEAN, STD = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]
EDM2_MEAN, EDM2_STD = [5.81, 3.25, 0.12, -2.15], [4.17, 4.62, 3.71, 3.28]
STATISTICS = {
    "bn.running_mean": np.array([0.1, -0.2, 0.3, 0.0], np.float32),
    "bn.running_var": np.array([3.0, 0.5, 1.0, 2.0], np.float32),
}
f32 = lambda values: np.asarray(values, np.float32)
# Configs as published, the rules that they equal, and what the pipelines compute.
CASES = {
    "sd": (KL, {}, lambda r: r * 0.18215),
    "sdxl": (KL | {"scaling_factor": 0.13025}, {}, lambda r: r * 0.13025),
    "sd3": (
        KL | {"scaling_factor": 1.5305, "shift_factor": 0.0609},
        {},
        lambda r: (r - 0.0609) * 1.5305,
    ),
    "flux": (
        KL | {"scaling_factor": 0.3611, "shift_factor": 0.1159},
        {},
        lambda r: (r - 0.1159) * 0.3611,
    ),
    "playground": (
        KL | {"scaling_factor": 0.5, "latents_mean": MEAN, "latents_std": STD},
        {},
        lambda r: (r - f32(MEAN)) * 0.5 / f32(STD),
    ),
    "edm2": (
        None,
        {},
        lambda r: r * (0.5 / f32(EDM2_STD)) - f32(EDM2_MEAN) * (0.5 / f32(EDM2_STD)),
    ),
    "none": ({"_class_name": "AutoencoderTiny"}, {}, lambda r: r),
    "flux.2": (
        {"_class_name": "AutoencoderKLFlux2", "batch_norm_eps": 1e-4},
        STATISTICS,
        lambda r: (
            (r - STATISTICS["bn.running_mean"]) / np.sqrt(STATISTICS["bn.running_var"] + f32(1e-4))
        ),
    ),
    "wan": (
        {"_class_name": "AutoencoderKLWan", "latents_mean": MEAN, "latents_std": STD},
        {},
        lambda r: (r - f32(MEAN)) / f32(STD),
    ),
    "ldm": (None, {"scale_factor": np.float32(0.22765929)}, lambda r: r * 0.22765929),
}


@pytest.mark.parametrize("name", CASES)
def test_each_rule_is_that_of_its_pipeline(name):
    """Latents would be scaled or shifted: pictures would be pale, and training would not fit."""
    config, statistics, pipeline = CASES[name]
    rules = [rule_of(config, statistics)] if config or statistics else []
    rules += [RULES[name]] if name in RULES else []
    theirs = pipeline(RAW.astype(np.float64))
    for rule in rules:
        z = rule.normalisation(jnp.asarray(RAW))
        np.testing.assert_allclose(z, theirs, rtol=2e-7, atol=1e-6)
        np.testing.assert_allclose(rule.normalisation.inverse(z), RAW, rtol=1e-6, atol=1e-6)
        assert rule.low == (0.0 if name == "edm2" else -1.0)
    assert set(RULES) <= set(CASES)


def test_the_rule_of_glm_image_and_of_ldms_first_batch():
    """The scaling factor beside statistics, which GLM-Image ignores, would be used."""
    stated = KL | {"latents_mean": MEAN, "latents_std": STD}
    glm = rule_of(stated | {"scaling_factor": 0.5}, {}, "statistics").normalisation
    np.testing.assert_allclose(glm(jnp.asarray(RAW)), (RAW - f32(MEAN)) / f32(STD), rtol=1e-6)
    assert by_deviation(RAW).scale == pytest.approx(RAW.std(ddof=1), rel=1e-6)
    for unset in ({}, {"scaling_factor": 0.18215}):  # as a config is saved that nobody set
        with pytest.raises(ValueError, match="set rule='statistics'"):
            rule_of(stated | unset, {})
    assert rule_of(stated | {"scaling_factor": None}, {}).normalisation.std == 1.0
    with pytest.raises(ValueError, match="latents_mean=None: needs one number for each channel"):
        rule_of(KL, {}, "statistics")


ODD = (True, float("nan"), "x", [], [1], ["x"], {}, [None, 1.0])
PLACES = {
    "scaling_factor": {},
    "shift_factor": {"scaling_factor": 1.0},
    "latents_mean": {"scaling_factor": 1.0, "latents_std": [1.0]},
    "latents_std": {"scaling_factor": 1.0, "latents_mean": [1.0]},
}


@pytest.mark.parametrize("value", ODD, ids=map(repr, ODD))
def test_odd_values_of_a_config_are_refused_in_one_line(value):
    """A damaged config would end in a traceback, or scale latents to nothing."""
    for name, others in PLACES.items():
        if not (value == [1] and name.startswith("latents")):
            with pytest.raises(ValueError, match=rf"^config\.json: {name}.*: needs .*$"):
                rule_of({**KL, **others, name: value}, {})
    tensors = {name: np.ones((2, 2, 3, 3)) for name in autoencoder.TINY_MARKS}
    with pytest.raises(ValueError, match=r"^config\.json: num_encoder_blocks|one number|missing"):
        autoencoder.tiny(Contents(tensors, {}, config={"num_encoder_blocks": value}))


def small():
    network = tiny(channels=4, encoder_blocks=(1,), decoder_blocks=(1,), latent=3)
    return ConvertedAutoencoder(network, {"a": np.ones(2)}, "AutoencoderTiny", {})


def test_the_fingerprint_is_that_of_weights_and_rule():
    """Latents of one rule would be decoded by another without a word."""
    contents = Contents({}, {}, config={"_class_name": "AutoencoderTiny"})
    one, again = (assembled(small(), contents, "").fingerprint for _ in range(2))
    others = [assembled(small(), contents, "sd").fingerprint]
    others += [assembled(small()._replace(params={"a": np.zeros(2)}), contents, "").fingerprint]
    assert one == again
    assert len({one, *others}) == 3


def test_what_does_not_fit_is_refused(tmp_path):
    """A wrong file or rule would give pictures of noise."""
    contents = Contents({}, {}, config={"_class_name": "AutoencoderTiny"})
    with pytest.raises(ValueError, match=r"rule: has 4 channels, but the latents have 3"):
        assembled(small(), contents, "edm2")
    with pytest.raises(ValueError, match="scaling_factor=0: needs another number"):
        rule_of(KL | {"scaling_factor": 0}, {})
    with pytest.raises(ValueError, match="rule='sd4': unknown; known: 'none', 'sd'"):
        assembled(small(), contents, "sd4")
    with pytest.raises(ValueError, match="leave rule out"):
        codecs.load("pixels", rule="sd")
    with pytest.raises(ValueError, match="no such file"):
        codecs.load(tmp_path / "nothing")
    np.savez(tmp_path / "other.npz", w=np.ones(2))
    with pytest.raises(ValueError, match="not an autoencoder that diffjax reads"):
        codecs.load(tmp_path / "other.npz")
    marks = {k: np.ones((8, 8, 3, 3)) for k in ("encoder.conv_in.weight", "decoder.conv_in.weight")}
    write(tmp_path / "net.safetensors", marks, {})
    for config, message in (
        ({"act_fn": "gelu"}, "act_fn='gelu': not supported; known: 'silu', 'swish'"),
        ({"_class_name": "VQModel"}, "_class_name='VQModel': not supported"),
        ({"attn_resolutions": [16]}, r"attn_resolutions=\[16\] is not supported"),
        ({}, "block_out_channels"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            codecs.load(tmp_path / "net.safetensors")


def test_pixels_are_a_codec_without_variance():
    codec, x = codecs.load("pixels"), jnp.linspace(-1, 1, 12).reshape(1, 2, 2, 3)
    mean, std = codec.moments(x)
    np.testing.assert_array_equal(mean, x)
    assert not np.asarray(std).any()
    np.testing.assert_array_equal(codec.decode(codec.encode(x, jnp.ones_like(x))), x)
