"""Any source becomes a data set that TFDS reads: complete, clean, split and reproducible."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from shards_of_tests import packed, png

from diffjax import cli
from diffjax.data import folder, load, prepare, tfds
from diffjax.tools import prepare as tool


@pytest.fixture
def made(monkeypatch, capsys, tmp_path):
    """Run the tool in this process; return exit code, stdout and stderr. It writes to `mine`."""

    def run(source, *flags, out=None):
        given = [str(source), f"--out={out or tmp_path / 'mine'}", *flags]
        monkeypatch.setattr(sys, "argv", ["prepare", *given])
        with pytest.raises(SystemExit) as ended:
            cli.main(tool.run)
        return (ended.value.code, *capsys.readouterr())

    return run


def read(out):
    """Return both splits, as training reads them, and the statistics."""
    opened = {s: tfds(s, dataset=out.name, data_dir=str(out.parent)) for s in ("train", "test")}
    return {s: load(d) for s, d in opened.items()}, json.loads(
        (out / "statistics.json").read_text()
    )


def pictures(n: int, side: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)) for _ in range(n)]
    return np.stack([np.asarray(image.resize((side, side))) for image in x])


def same_items(a, b, labels=True):
    key = lambda d: sorted(
        (x.tobytes(), int(k)) for x, k in zip(d.x, d.labels() * labels, strict=True)
    )
    assert key(a) == key(b)


def bytes_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_shards_come_back_with_their_captions(made, tmp_path):
    """Captions would be lost, or stand at other images."""
    x = pictures(8)
    rows = {f"{i}.png": png(image) for i, image in enumerate(x)}
    rows |= {f"{i}.txt": f"image {i}".encode() for i in range(8)}
    packed(tmp_path / "s.tar", rows)
    assert made(f"webdataset:{tmp_path / 's.tar'}", "--test=0.25")[0] == 0
    both, _ = read(tmp_path / "mine")
    for items in both.values():
        for i, (text,) in enumerate(items.captions(np.arange(len(items)))):
            np.testing.assert_array_equal(items.x[i], x[int(text.removeprefix("image "))])
    assert sorted(map(len, both.values())) == [2, 6]


def test_a_folder_with_classes_comes_back_whole(made, tmp_path, tiny_folder):
    """Pixels, labels or the class names would be lost on the way."""
    code, out, err = made(tiny_folder, "--test=0.3")
    assert code == 0, err
    assert "--config.data.name=tfds:mine --config.data.data_dir=" in out
    data, stats = read(tmp_path / "mine")
    whole = load(folder("train", path=str(tiny_folder), holdout=0.0))
    joined = type(whole)(
        np.concatenate([d.x for d in data.values()]),
        np.concatenate([d.label for d in data.values()]),
    )
    same_items(joined, whole)
    # Stratified: an equal share of each class.
    assert stats["classes"] == {"train": {"ape": 14, "bee": 14}, "test": {"ape": 6, "bee": 6}}
    x = data["train"].x / 127.5 - 1
    np.testing.assert_allclose(stats["mean"], x.mean((0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(stats["std"], x.std((0, 1, 2)), atol=1e-9)
    assert stats["original_width_height"]["most"] == [8, 8]
    assert not (tmp_path / "mine" / ".work").exists()


def test_a_prepared_data_set_keeps_its_splits_unless_a_share_is_asked_for(
    made, tmp_path, monkeypatch, tiny_tfds, tiny_items
):
    from tensorflow_datasets.core import constants

    monkeypatch.setattr(constants, "DATA_DIR", str(tiny_tfds))
    assert made("tfds:tiny")[0] == 0
    data, _ = read(tmp_path / "mine")
    for split, (x, label) in tiny_items.items():
        np.testing.assert_array_equal(data[split].x, x)
        np.testing.assert_array_equal(data[split].label, label)
    assert made("tfds:tiny", "--test=0.5", out=tmp_path / "half")[0] == 0
    data, stats = read(tmp_path / "half")
    assert stats["images"] == {"train": 26, "test": 26} or abs(len(data["test"]) - 26) <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_array_without_labels(made, tmp_path, dtype):
    x = pictures(40)[..., :1]
    np.save(tmp_path / "a.npy", x if dtype == np.uint8 else x.astype(np.float32) / 127.5 - 1)
    assert made(tmp_path / "a.npy", "--channels=1")[0] == 0
    data, stats = read(tmp_path / "mine")
    assert data["train"].classes == 0 and stats["shape"] == [12, 12, 1]
    assert (len(data["train"]), len(data["test"])) == (36, 4)


def test_images_of_all_sizes_become_one_and_bad_files_are_named(made, tmp_path):
    """Bad files would stop the work at its end, after an hour, or silently vanish."""
    for k, x in enumerate(pictures(10, 40)):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(x[: 20 + 2 * k]).save(tmp_path / "in" / f"{k}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    code, out, _ = made(tmp_path / "in", "--size=16")
    assert code == 0 and "1 unreadable" in out
    data, stats = read(tmp_path / "mine")
    assert data["train"].shape == (16, 16, 3) and stats["unreadable"] == 1
    assert stats["original_width_height"] == {
        "least": [40, 20], "median": [40.0, 29.0], "most": [40, 38]
    }  # fmt: skip
    [line] = (tmp_path / "mine" / "bad_files.txt").read_text().splitlines()
    assert line.startswith(str(tmp_path / "in" / "broken.png")) and "cannot identify" in line


@pytest.mark.parametrize(("how", "gone"), [("none", 0), ("exact", 4), ("near", 5)])
def test_duplicates_go_from_the_training_images_and_are_shown(made, tmp_path, how, gone):
    """A held-out image among the training images would make memorisation look like skill."""
    x = pictures(30, 32)
    near = np.clip(x[3].astype(int) + 2, 0, 255).astype(np.uint8)
    train = np.concatenate([x[:20], x[[0, 1]], x[[25]], x[[0]], near[None]])
    np.savez(tmp_path / "a.npz", x_train=train, x_test=x[20:], y_train=np.arange(25) % 3,
             y_test=np.zeros(10, int))  # fmt: skip
    assert made(tmp_path / "a.npz", f"--dedup={how}")[0] == 0
    data, stats = read(tmp_path / "mine")
    assert stats["removed"] == gone and len(data["train"]) == 25 - gone
    np.testing.assert_array_equal(data["test"].x, x[20:])
    [head, *rows] = csv.reader((tmp_path / "mine" / "removed.csv").read_text().splitlines())
    assert head == ["removed", "kept", "bits"] and len(rows) == gone
    wanted = [["item 20", "item 0"], ["item 21", "item 1"], ["item 22", "item 5"],
              ["item 23", "item 0"], ["item 24", "item 3"]]  # fmt: skip
    assert sorted(row[:2] for row in rows) == wanted[:gone]
    picture = tmp_path / "mine" / "removed.png"
    assert picture.exists() == (gone > 0)
    if gone == 5:  # the least alike pair comes first: removed left, kept right
        shown = np.asarray(Image.open(picture))
        factor = tool.SIDE // 32
        np.testing.assert_array_equal(shown[2, 2], near[0, 0])
        np.testing.assert_array_equal(shown[2, 2 + 32 * factor], x[3][0, 0])


def test_copies_are_never_on_both_sides_of_a_new_split(made, tmp_path):
    """The network would know test images, which may have another label in training."""
    x = np.concatenate([pictures(60), pictures(60)])
    label = np.concatenate([np.arange(60) % 3, np.arange(60) % 2])
    np.savez(tmp_path / "a.npz", x=x, y=label)
    assert made(tmp_path / "a.npz", "--test=0.25")[0] == 0
    data, _ = read(tmp_path / "mine")
    sides = [{x.tobytes() for x in d.x} for d in data.values()]
    assert not sides[0] & sides[1] and len(data["test"]) == 30


@pytest.mark.thorough
def test_a_killed_run_resumes_and_writes_the_same_bytes(tmp_path, monkeypatch):
    """The tool would start again after hours of work, or write another data set."""
    np.savez(tmp_path / "a.npz", x=pictures(1700), y=np.arange(1700) % 5)  # four parts
    command = lambda out, *more: [
        sys.executable, "-m", "diffjax.tools.prepare", str(tmp_path / "a.npz"),
        f"--out={out}", "--dedup=near", "--size=40", *more,
    ]  # fmt: skip
    whole, killed = tmp_path / "a" / "mine", tmp_path / "b" / "mine"
    monkeypatch.setattr(sys, "argv", ["prepare", *command(whole)[3:]])
    assert tool.run() == 0
    slow = subprocess.Popen(command(killed, "--workers=1"), stderr=subprocess.DEVNULL)
    parts = lambda: sorted((killed / ".work").glob("*.npz"))
    while len(parts()) < 2 and slow.poll() is None:
        time.sleep(0.01)
    os.kill(slow.pid, signal.SIGKILL)
    slow.wait()
    before = {p: p.stat().st_mtime_ns for p in parts()}
    assert not (killed / prepare.VERSION).exists() and len(before) >= 2
    kept = []
    monkeypatch.setattr(sys, "argv", ["prepare", *command(killed)[3:]])
    scan = prepare.scan

    def watched(*given):
        seen = scan(*given)
        kept.extend(p for p in before if p.stat().st_mtime_ns == before[p])
        return seen

    monkeypatch.setattr(prepare, "scan", watched)
    assert tool.run() == 0
    assert set(kept) == set(before)
    assert bytes_of(killed) == bytes_of(whole)


def test_what_is_there_already_is_not_made_again(made, tmp_path, tiny_array):
    assert made(tiny_array, "--channels=1")[0] == 0
    before = bytes_of(tmp_path / "mine")
    code, out, _ = made(tiny_array, "--channels=1")
    assert code == 0 and "is prepared already" in out
    code, _, err = made(tiny_array, "--channels=3")
    assert code == 2 and "was prepared with" in err
    assert bytes_of(tmp_path / "mine") == before


def test_half_of_another_data_set_is_refused(made, tmp_path, tiny_array):
    """Parts of two data sets would be mixed."""
    work = tmp_path / "mine" / ".work"
    work.mkdir(parents=True)
    (work / "source.json").write_text("{}")
    code, _, err = made(tiny_array)
    assert code == 2 and "holds images of other settings or other files; remove it" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size=-1"], "--size: '-1': needs an integer of at least 0"),
        (["--channels=2"], "--channels=2: needs 1 (grey) or 3 (RGB)"),
        (["--test=1"], "--test=1: needs 0 < test < 1"),
        (["--distance=40"], "--distance: '40': needs an integer from 0 to 16"),
        (["--test=0.001"], "--test=0.001: leaves no image for the test split; this share of each"),
        (["--test=0.999"], "--test=0.999: leaves no image for the training split; this share"),
    ],
)
def test_settings_out_of_range_are_one_line(made, tmp_path, tiny_array, flags, message):
    code, _, err = made(tiny_array, *flags)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_sources_that_cannot_be_are_one_line(made, tmp_path):
    np.save(tmp_path / "points.npy", np.zeros((9, 2), np.float32))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no")
    (tmp_path / "two").mkdir()
    for k, side in enumerate((4, 5)):
        Image.fromarray(pictures(1, side)[0]).save(tmp_path / "two" / f"{k}.png")
    refusals = {
        "nowhere": "SOURCE=nowhere: no such file or folder; a TFDS data set",
        "moons:9": "SOURCE=moons:9: no such file",
        "tfds:nothing": "not prepared in",
        tmp_path / "points.npy": "needs images",
        tmp_path / "empty": "no images in it",
        tmp_path / "bad": "readable",
        tmp_path / "two": "1.png: is 5 x 5 x 3, and the first image is 4 x 4 x 3; set --size",
    }
    for k, (source, message) in enumerate(refusals.items()):
        code, _, err = made(source, out=tmp_path / f"out{k}")
        assert code == 2 and message in err and err.count("\n") == 1, (source, err)
        assert not (tmp_path / f"out{k}").exists()  # parts of a scan would be in the way
    code, _, err = made(tmp_path / "two", out=tmp_path / "My Data")
    assert code == 2 and "named 'My Data'; needs a name of lower-case" in err


def test_captions_stay_with_their_images(made, tmp_path):
    """An image would have the caption of another image, or only one of its captions."""
    folder_ = tmp_path / "originals"
    folder_.mkdir()
    x = pictures(12)
    texts = [[f"picture {k}", f"Bild {k} ü"][: k % 3] for k in range(12)]
    rows = [{"file_name": f"{k}.png", "text": texts[k]} for k in range(12)]
    (folder_ / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for k in range(12):
        Image.fromarray(x[k]).save(folder_ / f"{k}.png")
    Image.fromarray(x[3]).save(folder_ / "3.png")
    (folder_ / "5.png").write_bytes(b"damaged")
    code, _, err = made(folder_, "--test=0.3")
    assert code == 0, err
    data, _ = read(tmp_path / "mine")
    known = {x[k].tobytes(): texts[k] for k in range(12)}
    found = [
        (image.tobytes(), caption)
        for part in data.values()
        for image, caption in zip(part.x, part.captions(np.arange(len(part))), strict=True)
    ]
    assert len(found) == 11 and all(known[image] == caption for image, caption in found)
    place = {"dataset": "mine", "data_dir": str(tmp_path)}
    with pytest.raises(ValueError, match="captions='image': no such feature of texts; known: cap"):
        tfds("train", **place, captions=("image",))
    again = tfds("train", **place, captions=("captions",))
    assert again.captions(np.arange(3)) == data["train"].captions(np.arange(3))
