"""Sounds in files: windows, splits, classes, and files that do not fit."""

import wave

import numpy as np
import pytest

from diffjax import builder, data
from diffjax.config import ConfigError


def write(path, x, rate=8000, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(x.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(x.astype({1: "u1", 2: "<i2"}[width]).tobytes())


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(("low/a", "low/b", "high/c")):
        write(tmp_path / f"{name}.wav", np.arange(1000 * k, 1000 * k + 70 + k)[:, None])
    return tmp_path


def test_windows_lie_in_one_sound_each_and_move_with_each_epoch(folder):
    """An item would join two sounds, or every epoch show the same windows."""
    source = data.sounds("train", str(folder), length=32, holdout=0.0)
    assert len(source) == 6 and source.form.units == (("rate", 8000),)
    stored = source[np.arange(6)]["x"]
    assert stored.shape == (6, 32, 1) and stored.dtype == np.int16
    draw = lambda number, seed=0: source.draw(np.arange(6), np.arange(6) + number, seed)["x"]
    for x in (stored, draw(0), draw(6)):
        np.testing.assert_array_equal(np.diff(x[..., 0], axis=1), 1)  # one sound, without a gap
        assert [k // 1000 for k in x[:, 0, 0]] == [2, 2, 0, 0, 1, 1]  # high/c comes first
    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(6)).any() and (draw(0) != draw(0, 1)).any()
    starts = np.array([draw(6 * k)[2, 0, 0] for k in range(200)])
    assert {*starts} == {*range(39)}  # of 70 samples, all 39 places of a window


def test_a_short_sound_ends_in_silence(folder):
    """It would be dropped, or filled with the next sound."""
    x = data.sounds("train", str(folder), length=100, holdout=0.0)[np.arange(3)]["x"][..., 0]
    assert (x[:, 72:] == 0).all() and x[1, 69] == 69 and x[1, 70] == 0


def test_folders_are_classes_or_splits(folder, tmp_path):
    """Labels would differ between splits, or a split be mixed with the other."""
    source = data.sounds("train", str(folder), 32, 0.0, classes=True)
    assert source.form.class_names == ("high", "low")
    assert source[np.arange(6)]["label"].tolist() == source.labels().tolist() == [0, 0, 1, 1, 1, 1]
    for split in ("train", "test"):
        write(tmp_path / "apart" / split / "x.wav", np.full((40, 1), len(split)))
    found = [
        data.sounds(s, str(tmp_path / "apart"), 32)[np.array([0])]["x"].max()
        for s in ("train", "test")
    ]
    assert found == [5, 4]


def test_a_file_of_another_rate_is_no_sound_of_a_run(tmp_path):
    """A control of 16,000 samples per second would become a sound of half its pitch."""
    read = data.KINDS["audio"].files[0].read
    write(tmp_path / "a.wav", np.arange(6)[:, None], rate=16000)
    for units in ({}, {"rate": 16000}):
        np.testing.assert_array_equal(read(tmp_path / "a.wav", (6, 1), units)[:, 0], np.arange(6))
    with pytest.raises(ValueError, match=r"a.wav: has 16000 samples per second; needs 8000"):
        read(tmp_path / "a.wav", (6, 1), {"rate": 8000})


def test_files_that_do_not_fit_are_named(folder):
    """A user would look for one wrong file among thousands."""
    refused = lambda message: pytest.raises(ValueError, match=message)
    write(folder / "low/fast.wav", np.zeros((9, 1)), rate=16000)
    with refused(r"fast.wav: has 16000 samples per second and 1 channels; .* has 8000 and 1"):
        data.sounds("train", str(folder), holdout=0.0)
    write(folder / "low/fast.wav", np.zeros((9, 1)), width=1)
    with refused(r"fast.wav: has 8 bits; needs 16"):
        data.sounds("train", str(folder), holdout=0.0)
    (folder / "low/fast.wav").write_bytes(b"no sound")
    with refused(r"fast.wav: is no WAV file that can be read"):
        data.sounds("train", str(folder), holdout=0.0)
    with refused(r"no files \*.wav"):
        (folder / "empty").mkdir()
        data.sounds("train", str(folder / "empty"))
    with refused("length=0"):
        data.sounds("train", str(folder), length=0)
    (folder / "low/fast.wav").unlink()
    write(folder / "loose.wav", np.zeros((9, 1)))
    with refused(r"loose.wav is in no folder of a class"):
        data.sounds("train", str(folder), holdout=0.0, classes=True)


def test_maps_are_of_one_kind_of_items(folder):
    """A map of images would be computed from sounds, or the other way round."""
    spec = {"name": f"sounds:{folder}", "length": 64, "holdout": 0.0}
    wanted = {"maps": ("mel:bands=4,window=32,hop=8",), "conditions": ("mel",)}
    source = builder.construct_data(spec | wanted, "data")[0]("train")
    assert source[np.arange(2)]["mel"].shape == (2, 64, 4)
    with pytest.raises(ConfigError, match=r"data.maps.*edges: needs images"):
        builder.construct_data(spec | {"maps": ("edges",)}, "data")[0]("train")
    with pytest.raises(ConfigError, match=r"data.maps.*mel: needs sounds with a rate"):
        builder.construct_data({"name": "digits", "maps": ("mel",)}, "data")[0]("train")
