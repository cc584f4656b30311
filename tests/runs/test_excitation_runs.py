"""A run on excitations: its samples, files, pictures and metrics are of sounds."""

import json

import numpy as np
import pytest
from commands import one_device
from PIL import Image
from test_kinds_of_data import CONFIG, DIT, ended

import diffjax
from diffjax.config import ConfigError
from diffjax.data import spectra
from diffjax.data.kinds.storing import wav_bytes

LENGTH = 512


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run on noises whose level falls by 40 dB."""
    folder, rng = tmp_path_factory.mktemp("noises"), np.random.default_rng(0)
    for k in range(20):
        fall = 10 ** np.linspace(-1, -3, 2 * LENGTH)[:, None]
        (folder / f"{k}.wav").write_bytes(wav_bytes(fall * rng.normal(size=(2 * LENGTH, 1)), 8000))
    settings = {"name": f"sounds:{folder}", "length": LENGTH, "holdout": 0.4}
    settings |= {"maps": ("mel:bands=8,window=64,hop=16",), "excitation": True}
    spec = CONFIG | {"network": DIT, "data": settings}
    with one_device():
        diffjax.fit(spec, folder / "run")
    return folder / "run"


def test_samples_are_sounds_with_the_levels_that_were_asked_for(run, tmp_path, monkeypatch):
    """Files would hold excitations, which are as loud at their end as at their beginning."""
    with one_device():
        trained = diffjax.load(run)
        made = trained.sample(4)
        out = [f"--out={tmp_path / name}" for name in ("a.png", "a.npz", "a.html", "each")]
        assert ended(monkeypatch, "sample", f"--workdir={run}", "--num=4", *out) == 0
    test = trained.experiment.source("test")
    true = test.source[np.arange(4)]["x"][..., 0] / 32768
    of = lambda x: spectra.log_mel(x, 8000, 8, 64, 16)[:, :-1]
    apart = 100 * np.abs(of(made.x[..., 0]) - of(true)).mean()  # in dB
    assert made.form == trained.experiment.form.stored and made.x.shape == (4, LENGTH, 1)
    assert apart < 1.5 and np.abs(made.x).max() <= 1
    written = [(tmp_path / "each" / f"{k:06d}.wav").read_bytes() for k in range(4)]
    assert written == [wav_bytes(x, 8000) for x in made.x]
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["arr_0"], made.x)
    with Image.open(run / "samples" / "step_00000010.png") as picture:
        assert np.asarray(picture).std() > 5


def test_metrics_compare_sounds(run, monkeypatch, capsys):
    """White noise would be compared with sounds, or sounds with excitations."""
    with one_device():
        flags = [f"--workdir={run}", "--num=12", "--guidance=1", "--metrics=log_spectral"]
        assert ended(monkeypatch, "evaluate", *flags) == 0, capsys.readouterr().err
    (result,) = json.loads((run / "evaluation.json").read_text())["results"]
    assert 4 < result["log_spectral"]["decibels"] < 8


def test_levels_of_a_file_are_followed_but_its_excitation_is_not_taken(run, tmp_path):
    """A sound would be noised as if it were an excitation, of deviation 1."""
    mine, x = tmp_path / "mine.wav", np.random.default_rng(0).normal(0, 0.03, (LENGTH, 1))
    mine.write_bytes(wav_bytes(x, 8000))
    with one_device():
        trained = diffjax.load(run)
        made = trained.sample(1, control=str(mine)).x
    assert 0.7 < made.std() / x.std() < 1.3
    with pytest.raises(ConfigError, match="--from: samples begin as excitations"):
        trained.job(start=str(mine))
