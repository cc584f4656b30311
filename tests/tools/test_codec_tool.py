"""`tools.codec` on a codec without loss, and its refusals."""

import json

import numpy as np
import pytest
from codecs_of_tests import HAAR
from commands import ended, one_device

from diffjax.codecs.statistics import Latents
from diffjax.data import digits
from diffjax.evaluation.reconstruction import doubts
from diffjax.objectives import Autoencoding

CODEC = "codecs_of_tests:codec"


@pytest.fixture(autouse=True, scope="module")
def one():
    with one_device():
        yield


def test_a_codec_without_loss_has_the_values_of_its_images(tmp_path, monkeypatch, capsys):
    """Numbers of a codec would be those of another scale, split or rule."""
    out = tmp_path / "haar"
    few = ["--data=digits", "--num=20", "--real=60", "--batch-size=16", f"--out={out}"]
    assert ended(monkeypatch, "tools.codec", CODEC, *few) == 0
    values = json.loads((tmp_path / "haar.json").read_text())
    assert values["psnr"] == pytest.approx(120) and values["ssim"] == pytest.approx(1, abs=1e-5)
    assert values["perceptual"] < 1e-6 and values["num"] == 20
    assert values["frechet"]["distance"] > 0 and values["frechet"]["features"] == "pixels"
    x = digits("test").x[np.linspace(0, 296, 20).astype(int)] / 127.5 - 1
    patches = x.reshape(20, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4)
    z = (patches @ HAAR - 0.5) / [1, 0.5, 0.5, 0.25]
    noise = 0.1 / np.array([1, 0.5, 0.5, 0.25])
    np.testing.assert_allclose(values["mean"], z.mean(0), atol=1e-4)
    np.testing.assert_allclose(values["deviation"], np.sqrt(z.var(0) + noise**2), rtol=1e-3)
    nats = ((patches @ HAAR) ** 2 + 0.01 - 1).mean(0) / 2 - np.log(0.1)
    np.testing.assert_allclose(values["kl"], nats, rtol=1e-3)
    shown = capsys.readouterr().out
    assert "psnr 120.00 dB" in shown and "channel" in shown
    assert (tmp_path / "haar.png").exists()


@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        (["--data=digits"], "--out: missing"),
        (["--out=x"], "--data: missing"),
        (["--data=moons", "--out=x"], "--data=moons: the items are points"),
        (["--data=digits", "--out=x", "--perceptual=lpip"], "--perceptual.name='lpip': unknown"),
        (["--data=digits", "--out=x", "--perceptual=edges:scales=5"], "--perceptual: "),
    ],
)
def test_what_cannot_be_measured_is_refused(flags, refused, tmp_path, monkeypatch, capsys):
    """A typing error would end in a traceback, or after the work."""
    monkeypatch.chdir(tmp_path)
    assert ended(monkeypatch, "tools.codec", CODEC, *flags) == 2
    assert refused in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_latents_that_are_hard_to_generate_are_reported():
    """A collapsed channel or a runaway divergence would be found after hours of training."""
    loss = Autoencoding(kl_weight=1e-6)
    assert loss.doubts(1000, {"loss": 3.0, "kl/0": 2.0, "latent_std": 1.0}) == {}
    lines = loss.doubts(1000, {"kl/0": 0.001, "kl/1": 800.0, "latent_std": 40.0})
    assert "channels 0" in lines["empty"] and "kl_weight=1e-06" in lines["empty"]
    assert "800 nats per value" in lines["runaway"] and "40" in lines["runaway"]
    assert not loss.doubts(10, {"kl/0": 0.001, "latent_std": 1.0})
    assert "runaway" in loss.doubts(10, {"kl/0": float("nan"), "latent_std": float("nan")})
    from diffjax import builder

    codec = builder.construct_codec(CODEC, "--codec")
    latents = Latents(np.zeros(4), np.array([1.0, 0.5, 0.2, 2.0]), np.array([1, 1, 1e-3, 1]))
    far, off, empty = doubts(codec, latents)
    assert far.startswith("channel 2: the latents have the deviation 0.4, not 1")
    assert off.startswith("channel 3: the latents have the deviation 8") and "channels 2" in empty
