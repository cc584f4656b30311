"""The study of spoken digits: files of whole words, voices that are held out, and its numbers."""

import sys

import numpy as np
import pytest

from diffjax import builder, data
from diffjax.config import load
from diffjax.data import Form
from diffjax.specs import Spec
from experiments.spoken import bands, speak, study


def hum(word, voice, pitch, speed):
    """Return a made-up word of a length that falls with the speed, between silences."""
    length = int((2000 + 300 * speak.WORDS.index(word)) * 175 / speed)
    x = np.sin(np.arange(length) * (1 + pitch) / 100)
    return np.pad(x, 500) * 0.3


def test_files_hold_whole_words_by_voices_that_are_held_out(tmp_path):
    """Words would be cut, or a network be judged by voices that it was trained on."""
    voices = [f"voice {k}" for k in range(9)]
    counts = speak.make(hum, voices, tmp_path)
    each = len(speak.WORDS) * len(speak.PITCHES) * len(speak.SPEEDS)
    assert counts == {"train": 8 * each, "test": each}
    train, test = (data.sounds(split, str(tmp_path), classes=True) for split in ("train", "test"))
    assert (len(train), len(test)) == (8 * each, each)
    assert train.form.class_names == tuple(sorted(speak.WORDS))
    assert dict(train.form.units)["rate"] == speak.RATE
    names = {
        part: {p.name.rsplit("_", 2)[0] for p in tmp_path.glob(f"{part}/*/*.wav")}
        for part in ("train", "test")
    }
    assert names["test"] == {"voice_8"} and not names["train"] & names["test"]
    x = test[np.arange(each)]["x"][..., 0]
    assert (np.abs(x).max(1) == 32768 * speak.PEAK).all()
    assert (x[:, 0] == 0).all() and (x[:, -1] == 0).all()


def test_a_word_that_is_too_long_is_spoken_faster_or_refused():
    """Its end would be cut off, which would be another word."""
    asked = []

    def slow(word, voice, pitch, speed):
        asked.append(speed)
        return np.ones(int(5000 * 175 / speed))

    assert speak.fitting(slow, "two", "a", 50, 175).shape == (speak.LENGTH,)
    assert asked == [175, 201, 231]
    with pytest.raises(ValueError, match="two by the voice a has 6000 samples even at 450"):
        speak.fitting(lambda *_: np.ones(6000), "two", "a", 50, 175)
    with pytest.raises(ValueError, match="a sound of 0 samples"):
        speak.fitting(lambda *_: np.zeros(600), "two", "a", 50, 175)


def test_a_missing_program_is_named_with_what_installs_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(speak.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr("sys.argv", ["speak", f"--out={tmp_path / 'new'}"])
    with pytest.raises(SystemExit):
        speak.main()
    assert "pip install espeakng-loader" in capsys.readouterr().err


def test_espeak_says_words_that_differ():
    """The rate would be wrong, or each voice be the default one."""
    try:
        espeak = speak.Espeak()
    except OSError as error:
        pytest.skip(str(error))
    assert len(espeak.voices) > 50
    one, two = (speak.trimmed(espeak("seven", voice, 50, 175)) for voice in ("f1", "m1"))
    assert all(0.2 < len(x) / speak.RATE < 0.8 for x in (one, two))
    assert len(one) != len(two) or np.abs(one - two).max() > 0.01
    with pytest.raises(ValueError, match="voice='nobody'"):
        espeak("seven", "nobody", 50, 175)


def test_levels_and_nearest_sounds_have_closed_forms():
    x = np.zeros((3, 400, 1), np.int16)
    assert study.level(x) is None
    x[:, 0] = 32767  # one sample of 128
    assert study.level(x) == pytest.approx(-10 * np.log10(128), abs=0.1)
    train = np.array([[0.0], [1.0], [4.0]])
    assert study.near(train, train) == {"median": 0.0, "least": 0.0}
    assert study.near(train, train, others=True) == {"median": 1.0, "least": 1.0}


def test_the_config_fits_the_files():
    """The training would be refused after the files are made."""
    words = tuple(sorted(speak.WORDS))
    rate = (("rate", speak.RATE),)
    form = Form("audio", (4096, 1), (Spec("label", "label", 10),), "int16", rate, words)
    settings = load("spoken")
    picture = Form("image", (64, 40, 1), form.conditions, "uint8")
    assert builder.experiment(load("spoken_bands"), picture).form.classes == 10
    assert settings["data"]["length"] == speak.LENGTH
    experiment = builder.experiment(settings, form)
    assert experiment.form.classes == 10


def test_bands_of_sounds_become_sounds_with_these_bands():
    """A word would not be heard in the pictures that a network makes, or silence would hiss."""
    t = np.arange(4096) / speak.RATE
    inside = (t > 0.1) & (t < 0.4)
    x = np.round(9000 * inside * np.sin(2 * np.pi * (400 + 1000 * t) * t)).astype(np.int16)
    seen = bands.pictures(x[None, :, None])
    assert seen.shape == (1, 64, 40, 1)
    again = bands.heard(seen)
    assert again.dtype == np.int16 and again.shape == (1, 4096, 1)
    assert not again[0, :500].any() and not again[0, -500:].any()
    loud = seen > 150  # within 33 dB of the largest level
    off = np.abs(bands.pictures(again)[loud].astype(float) - seen[loud]) * 80 / 255
    assert np.median(off) < 2
