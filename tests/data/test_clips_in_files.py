"""Videos in files: windows, sizes, images beside them, and files that do not fit."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from diffjax.data import KINDS, Batches, Reading, clips
from diffjax.data.kinds.films import GIF, GIFS, MP4S, apart, sheet

HAS_FFMPEG = importlib.util.find_spec("imageio_ffmpeg") is not None
SHAPE = (4, 8, 8, 3)


def ramps(count, length=6, side=8):
    """Return videos whose grey levels tell the video, the frame and the column."""
    k, t, _, j = np.ogrid[:count, :length, :side, :side]
    return np.broadcast_to(40 * k + 4 * t + j, (count, length, side, side)).astype(np.uint8)[
        ..., None
    ]


def test_windows_are_cut_from_the_files(tmp_path):
    """A clip would mix two files, or skip frames."""
    for k, x in enumerate(ramps(3)):
        GIF.write(tmp_path / f"{k}.gif", x, {"rate": 20}, {})
    source = clips("train", str(tmp_path), length=3, size=8, channels=1, holdout=0.0)
    assert len(source) == 6 and dict(source.form.units) == {"rate": 20.0}
    expected = ramps(3).reshape(6, 3, 8, 8, 1)
    np.testing.assert_array_equal(source[np.arange(6)]["x"], expected)
    batch = Batches(source, 6, 0, Reading(kind="video"))[0]["x"].astype(int)
    assert (np.diff(batch, axis=1) == 4).all() and len({*batch[:, 0, 0, 0, 0].tolist()}) > 3
    every = clips("train", str(tmp_path), length=3, size=8, channels=1, holdout=0.0, every=2)
    np.testing.assert_array_equal(every[np.arange(3)]["x"], ramps(3)[:, ::2])
    assert dict(every.form.units) == {"rate": 10.0}
    colour = clips("train", str(tmp_path), length=3, size=4, holdout=0.0)
    assert colour.form.shape == (3, 4, 4, 3)


def test_folders_are_classes(tmp_path):
    """Clips would have the labels of other clips, where a short file is left out."""
    for name, lengths in (("run", (2, 6)), ("walk", (6,))):
        for k, length in enumerate(lengths):
            GIF.write(tmp_path / name / f"{k}.gif", ramps(1, length)[0], {}, {})
    source = clips("train", str(tmp_path), length=3, size=8, holdout=0.0, classes=True)
    assert source.form.class_names == ("run", "walk")
    assert source.labels().tolist() == [0, 0, 1, 1]


def test_images_beside_clips_are_items_of_unrelated_frames(tmp_path):
    """Images would be taken for clips, be lost, or stand in the held-out split."""
    for name, grey in (("run", 40), ("walk", 120)):
        GIF.write(tmp_path / name / "clip.gif", ramps(1)[0], {}, {})
        for k in range(5 if name == "run" else 2):
            image = Image.fromarray(np.full((8, 8), grey + k, np.uint8))
            image.save(tmp_path / name / f"{k}.{'jpg' if k == 1 else 'png'}")
    settings = {"length": 3, "size": 8, "channels": 1, "classes": True, "stills": True}
    source = clips("train", str(tmp_path), holdout=0.0, **settings)
    items = source[np.arange(len(source))]
    assert [spec.kind for spec in source.form.conditions] == ["label", "still"]
    assert items["still"].tolist() == [0] * 4 + [1] * 2 and items["still"].dtype == np.int32
    assert items["label"].tolist() == [0, 0, 1, 1, 0, 1]
    seen = source.draw(np.full(50, 4), np.arange(50), 0)["x"][:, :, 0, 0, 0]
    assert {*seen.ravel().tolist()} == {40, 41, 42, 43, 44}  # training cuts all of them in turn
    assert {*items["x"][5, :, 0, 0, 0].tolist()} == {120, 121}  # two images fill three frames
    plain = clips("train", str(tmp_path), holdout=0.0, **settings | {"stills": False})
    np.testing.assert_array_equal(plain[np.arange(4)]["x"], items["x"][:4])
    for split in ("train", "test"):
        folder = tmp_path / "apart" / split
        GIF.write(folder / "clip.gif", ramps(1)[0], {}, {})
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "0.png")
    held_out = clips("test", str(tmp_path / "apart"), **settings | {"classes": False})
    assert held_out[np.arange(len(held_out))]["still"].tolist() == [0, 0]
    (tmp_path / "apart" / "train" / "bad.png").write_bytes(b"PNG")
    with pytest.raises(ValueError, match=r"bad\.png: cannot be read as an image"):
        clips("train", str(tmp_path / "apart"), **settings | {"classes": False})


def test_files_that_do_not_fit_are_named(tmp_path, capsys, monkeypatch):
    """A traceback of Pillow would not say which of a thousand files is damaged."""
    GIF.write(tmp_path / "short.gif", ramps(1, 2)[0], {}, {})
    with pytest.raises(ValueError, match="length=16: no file of split 'train' has so many frames"):
        clips("train", str(tmp_path), holdout=0.0)
    GIF.write(tmp_path / "long.gif", ramps(1, 5)[0], {}, {})
    assert len(clips("train", str(tmp_path), length=4, holdout=0.0)) == 1
    assert "1 clips; left out: files of fewer than 4 frames 1" in capsys.readouterr().err
    (tmp_path / "bad.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"bad\.gif: cannot be read as a video"):
        clips("train", str(tmp_path), length=4, holdout=0.0)
    (tmp_path / "bad.gif").rename(tmp_path / "bad.mp4")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match='need imageio-ffmpeg: pip install "diffjax\\[video\\]"'):
        clips("train", str(tmp_path), length=4, holdout=0.0)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no files \*\.gif or \*\.mp4 in it"):
        clips("train", str(tmp_path / "none"))


def test_many_videos_are_shown_in_one_file_and_found_again(tmp_path):
    """The picture would show one clip alone, or clips of which none can be told from another."""
    x = ramps(5, 4)
    found = apart(sheet(x), (4, 8, 8, 1))
    np.testing.assert_array_equal(found, x)
    GIFS.write(tmp_path / "all.gif", x, {"rate": 25}, {})
    np.testing.assert_array_equal(GIFS.read(tmp_path / "all.gif", (4, 8, 8, 1), {}), x)
    assert {f.ending for f in KINDS["video"].files} == {".gif", ".mp4"}
    assert KINDS["video"].whole()[".gif"] is GIFS and KINDS["video"].folder() is GIF


def test_mp4_without_its_package_is_refused_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match="MP4 files need imageio-ffmpeg"):
        MP4S.check()


# The package closes its pipes when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif(not HAS_FFMPEG, reason="needs imageio-ffmpeg")
def test_mp4_files_come_back_up_to_their_loss(tmp_path):
    """A video would be flipped, or of other colours, or with frames missing."""
    x = np.repeat(ramps(3, 4), 3, -1)
    x[..., 2] //= 2
    MP4S.write(tmp_path / "all.mp4", x, {"rate": 25}, {})
    found = MP4S.read(tmp_path / "all.mp4", SHAPE, {})
    assert found.shape == x.shape and np.abs(found.astype(int) - x).mean() < 6
    source = clips("train", str(tmp_path), length=2, size=16, holdout=0.0)
    assert source.form.shape == (2, 16, 16, 3) and dict(source.form.units) == {"rate": 25.0}
