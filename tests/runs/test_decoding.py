"""Restoration and edits by networks of latents, with a codec from this module."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
from commands import ended
from PIL import Image

from diffjax import analytic, builder, config
from diffjax.codecs import Codec
from diffjax.config import ConfigError
from diffjax.data.form import labelled
from diffjax.data.images import to_uint8
from diffjax.nets.autoencoder import Autoencoder
from diffjax.runs import trained as runs
from diffjax.runs.changes import coded
from diffjax.runs.trained import Trained

CODEC = f"--codec={__name__}:codec"
SHAPE = (4, 4, 2)
MIX = np.array([[0.3, 0.1, 0.0], [0.0, 0.2, 0.4]], np.float32)


def upsampled(z):
    """Decode (B, 4, 4, 2) to (B, 8, 8, 3), linearly."""
    large = jnp.repeat(jnp.repeat(z, 2, 1), 2, 2)
    return jnp.einsum("bhwc,cd->bhwd", large, MIX)


def folded(params, x):
    """Encode so that `upsampled` gives back images in its range."""
    b, h, w, _ = x.shape
    mean = x.reshape(b, h // 2, 2, w // 2, 2, 3).mean((2, 4)) @ np.linalg.pinv(MIX)
    return mean, jnp.zeros_like(mean)


def codec():
    decode = lambda params, z: upsampled(z)
    net = Autoencoder(init=lambda *_: {}, apply=decode, encode=folded, decode=decode, latent=2)
    return Codec({}, network=net)


@pytest.fixture(scope="module")
def latents() -> Trained:
    """A "network" of independent standard normal latents, with the classes of the digits."""
    spec = config.load("digits_vp")
    experiment = builder.experiment(spec, labelled("latent", SHAPE, 10))
    data = analytic.gaussian(jnp.zeros(SHAPE), jnp.ones(SHAPE))
    return Trained(data.denoiser(experiment.model.sde), experiment)


@pytest.fixture
def run(latents, monkeypatch, capsys):
    def load(path, sampling=None, ema=None, codec="", adapters=()):
        experiment = builder.experiment(coded(latents.config, codec), latents.experiment.form)
        return dataclasses.replace(latents, experiment=experiment)

    monkeypatch.setattr(runs, "load", load)

    def command(tool, *flags) -> tuple[int, str, str]:
        code = ended(monkeypatch, tool, *flags)
        return (code, *capsys.readouterr())

    return command


def test_a_picture_is_restored_by_its_latents(run, tmp_path):
    """Latents would be measured in place of images, or be shown."""
    Image.fromarray(np.full((8, 8, 3), 160, np.uint8)).save(tmp_path / "truth.png")
    flags = (f"--image={tmp_path / 'truth.png'}", "--problem=grey", f"--out={tmp_path / 'a.png'}")
    flags = (*flags, CODEC, "--method=diffpir", "--num=2", "--steps=2")
    code, _, err = run("tools.restore", "--workdir=run", *flags)
    assert code == 0, err
    with np.load(tmp_path / "a.npz") as arrays:
        x, y, z, truth = (arrays[name] for name in ("x", "y", "latents", "truth"))
    assert x.shape == (1, 2, 8, 8, 3) and z.shape == (1, 2, *SHAPE) and y.shape == (1, 8, 8, 1)
    np.testing.assert_allclose(truth, 160 / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(x[0], upsampled(z[0]), atol=1e-5)
    np.testing.assert_allclose(x.mean(-1, keepdims=True)[0], np.repeat(y, 2, 0), atol=0.01)


@pytest.mark.parametrize(
    ("codec", "line"),
    [
        ([], "a network of latents (4, 4, 2) needs --codec=PATH"),
        ([f"--codec={__name__}:none"], "none"),
        (["--codec=vae"], "config.data.codec=vae: no such file or folder"),
    ],
)
def test_codecs_that_cannot_work_are_refused_in_one_line(run, codec, line):
    """The reason would be hidden in a traceback, after the network was compiled."""
    flags = ("--image=test:0", "--problem=half", *codec)
    code, _, err = run("tools.restore", "--workdir=run", *flags)
    assert code == 2 and line in err and err.count("\n") == 1, err


def broken(z):
    raise RuntimeError("no weights")


@pytest.mark.parametrize(
    ("decoder", "line"),
    [
        (lambda z: z.reshape(len(z), -1), "makes float32 (2, 32) of latents"),
        (broken, "cannot decode latents (2, 4, 4, 2) (RuntimeError: no"),
    ],
)
def test_functions_that_decode_nothing_are_refused(latents, decoder, line):
    with pytest.raises(ConfigError, match=re.escape(line)):
        latents.restore(np.zeros((1, *SHAPE)), decoder=decoder)


def test_latents_are_edited_and_shown_as_images(run, tmp_path):
    """An edit would be refused, or its picture show latents."""
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("f4"))
    out = tmp_path / "a.png"
    flags = (f"--image={tmp_path / 'z.npy'}", CODEC, f"--out={out}")
    code, text, err = run("tools.edit", "invert", "--workdir=run", *flags, "--steps=3")
    assert code == 0, err
    off = float(re.search(r"back: ([\d.]+) grey levels off", text).group(1))
    with np.load(tmp_path / "a.npz") as arrays:
        image, again = arrays["image"], arrays["again"]
    assert image.shape == again.shape == (2, *SHAPE)
    difference = np.asarray(upsampled(again)) - np.asarray(upsampled(image))
    np.testing.assert_allclose(127.5 * np.sqrt((difference**2).mean()), off, atol=1e-3)
    shown = np.asarray(upsampled(image[:1]))[0]
    Image.fromarray(to_uint8(shown)).save(tmp_path / "b.png")
    flags = (f"--image={tmp_path / 'b.png'}", CODEC, f"--out={out}", "--steps=3")
    code, _, err = run("tools.edit", "invert", "--workdir=run", *flags)
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_allclose(upsampled(arrays["image"])[0], np.clip(shown, -1, 1), atol=0.3)
    code, _, err = run("tools.edit", "invert", "--workdir=run", "--image=test:0")
    assert code == 2 and "edit: a network of latents (4, 4, 2) needs --codec" in err
