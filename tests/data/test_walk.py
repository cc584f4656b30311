"""Which files of a folder are read, and how the others are reported."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.data import folder, load
from diffjax.data.form import labelled
from diffjax.data.walk import endings, walk
from diffjax.evaluation.elsewhere import read


def image(path: Path, grey: int = 9, **settings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey,) * 3).save(path, **settings)


def files(root: Path, *names: str) -> Path:
    """Images whose grey levels are their numbers, and empty files of other endings."""
    for number, name in enumerate(names):
        if Path(name).suffix.lower() in endings():
            image(root / name, number)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return root


def seen(root: Path, split: str = "train", holdout: float = 0.0) -> dict[str, list[int]]:
    """Return the grey levels by class; those without a class are under ""."""
    source = folder(split, path=str(root), holdout=holdout)
    data, names = load(source), source.files.names or [""]
    grey = data.x[:, 0, 0, 0].tolist()
    label = data.labels().tolist()
    return {n: [g for g, k in zip(grey, label, strict=True) if k == i] for i, n in enumerate(names)}


HIDDEN = (".ipynb_checkpoints/0.png", "__MACOSX/a/0.png", "a/._0.png", ".hidden.png", "a/Thumbs.db",
          "a/.thumbs/0.png", ".DS_Store")  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_files_and_folders_are_left_out_and_named(tmp_path, name, capsys):
    """A hidden folder would be a class, and shift the labels of all others by one."""
    root = files(tmp_path, "a/1.png", "b/2.png", name)
    assert seen(root) == {"a": [0], "b": [1]}
    assert re.search(r"2 images; left out: hidden 1 \(.*\)$", capsys.readouterr().err.strip())


def test_links_are_followed_but_for_those_that_lead_back(tmp_path, capsys):
    """A linked class would be missing without notice, or a loop of links never end."""
    files(tmp_path / "real", "a/0.png", "b/1.png")
    root = tmp_path / "linked"
    shutil.copytree(tmp_path / "real" / "b", root / "b")
    (root / "a").symlink_to(tmp_path / "real" / "a")
    (root / "b" / "one.png").symlink_to(tmp_path / "real" / "a" / "0.png")
    (root / "b" / "up").symlink_to(root)
    (root / "b" / "above").symlink_to(tmp_path)
    (root / "b" / "gone.png").symlink_to("nowhere.png")
    (root / "self").symlink_to("self")
    assert seen(root) == {"a": [0], "b": [1, 0]}
    err = capsys.readouterr().err
    assert "broken links 2 (b/gone.png, self), links that lead back 2 (b/above, b/up)" in err


@pytest.mark.parametrize("ending", [".jfif", ".tga", ".jp2", ".avif", ".TIF", ".pgm", ".qoi"])
def test_every_ending_that_pillow_reads_is_taken(tmp_path, ending):
    """A class of images in such a format would vanish."""
    root = files(tmp_path, "a/0.png")
    form = {"format": "JPEG"} if ending == ".jfif" else {}
    image(root / "b" / f"0{ending}", **form)
    assert [len(v) for v in seen(root).values()] == [1, 1]


def test_what_is_left_out_is_counted_by_ending_in_one_line(tmp_path, capsys):
    root = files(
        tmp_path, "a/0.png", "b/1.png", "a/x.txt", "b/y.TXT", "z.zip", "c/none", "d/e/f.txt"
    )
    assert set(seen(root)) == {"a", "b"}
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"{root}: 2 images; left out: files 5 (.txt 3, .zip 1, no ending 1), "
        f"folders without any 3 (c, d, d/e)"
    )
    assert folder("test", path=str(root), holdout=0.9) and not capsys.readouterr().err
    with pytest.raises(ValueError, match=r"no images in it.*left out: files 1 \(\.txt 1\)"):
        seen(root / "d")


def test_nothing_is_printed_where_nothing_is_left_out(tmp_path, capsys):
    seen(files(tmp_path, "a/0.png", "b/1.png"))
    assert not capsys.readouterr().err


def test_names_that_are_not_utf8_are_read_and_can_be_printed(tmp_path):
    """An error in the hash would name no file, and a table of such names could not be written."""
    for name in (b"\xff", b"caf\xe9"):
        os.makedirs(os.fsencode(tmp_path) + b"/" + name)
        image(tmp_path / "0.png")
        os.rename(tmp_path / "0.png", os.fsencode(tmp_path) + b"/" + name + b"/\xfe.png")
    assert len(load(folder("train", path=str(tmp_path), holdout=0.0))) == 2
    source = folder("train", path=str(tmp_path), holdout=0.0)
    assert source.files.names == ["caf\\xe9", "\\xff"]
    assert source.files.name(0).encode().endswith(b"caf\\xe9/\\xfe.png")


SPLITS = [
    ("train", "test"), ("Train", "Test"), ("TRAIN", "val"), ("training", "validation"),
    ("train", "Valid"), ("Training", "testing"),
]  # fmt: skip


@pytest.mark.parametrize(("train", "held_out"), SPLITS)
def test_split_folders_are_understood_in_any_spelling(tmp_path, train, held_out):
    """Training and test images would be classes 0 and 1."""
    root = files(tmp_path, f"{train}/a/0.png", f"{train}/b/1.png", f"{held_out}/b/2.png")
    assert seen(root) == {"a": [0], "b": [1]}
    assert seen(root, "test") == {"a": [], "b": [2]}


def test_splits_that_are_not_read_are_counted(tmp_path, capsys):
    root = files(tmp_path, "train/0.png", "test/1.png", "val/2.png", "extra/a/3.png", "4.png")
    assert (seen(root), seen(root, "test")) == ({"": [0]}, {"": [1]})
    line = f"{root}: 2 images; left out: images in no folder 1, images in extra 1, images in val 1"
    assert capsys.readouterr().err.splitlines() == [line]


def test_the_only_split_is_the_set(tmp_path):
    assert seen(files(tmp_path, "train/a/0.png", "train/b/1.png")) == {"a": [0], "b": [1]}


def test_a_class_may_be_called_train(tmp_path):
    assert set(seen(files(tmp_path, "bus/0.png", "car/1.png", "train/2.png"))) == {
        "bus", "car", "train"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/0.png", "Train/1.png", "test/2.png"), "Train and train are the same split"),
        (("val/0.png", "val/1.png"), "holds val and no train; needs train and test (or val), or"),
        (("a/0.png", "test/1.png"), "holds test and no train"),
        (("training_set/0.png", "test_set/1.png"), "test_set, training_set: are named like splits"),
        (("train2017/0.png", "val2017/1.png"), "train2017, val2017: are named like splits"),
        (("train/a/0.png", "more/a/1.png"), "train holds folders itself"),
        (("a/train/0.png", "a/test/1.png"), "a/test: splits within classes; needs train/CLASS"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        seen(files(tmp_path, *names))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


def test_one_class_that_holds_folders_is_reported(tmp_path, capsys):
    """The only folder of an unpacked archive would be read as the only class."""
    root = files(tmp_path, "images/a/0.png", "images/b/1.png")
    assert len(seen(root)) == 1
    assert f"path={root}/images would use these folders as classes" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_refused_by_name(tmp_path, monkeypatch):
    """The images of such a folder would be missing without a message."""
    root, scan = files(tmp_path, "a/0.png", "b/1.png"), os.scandir

    def denied(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(ValueError, match=r"b: cannot be read \(Permission denied\)"):
        walk(root, endings())


def test_samples_of_a_folder_are_found_in_the_same_way(tmp_path, capsys):
    """A hidden copy would be scored as one more sample."""
    root = files(tmp_path, "0.png", "1.jp2", ".ipynb_checkpoints/2.png", "more/3.png", "notes.txt")
    (root / "link.png").symlink_to(root / "0.png")
    found = read(root, labelled("image", (8, 8, 3))).x[:, 0, 0, 0]
    assert np.abs(found.astype(int) - [0, 1, 0, 3]).max() <= 2
    assert "4 images; left out: files 1 (.txt 1), hidden 1" in capsys.readouterr().err
