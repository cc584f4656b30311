"""Names of classes, from the source to pictures, files and flags."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.config import ConfigError
from diffjax.data.array import Memory
from diffjax.data.decoded import Decoded, Stored
from diffjax.data.folder import folder
from diffjax.data.form import Form, from_json
from diffjax.data.kinds import drawing
from diffjax.data.pipeline import Reading
from diffjax.generation import Generated
from diffjax.runs import output
from diffjax.runs.requests import class_numbers
from diffjax.specs import Spec
from diffjax.training.workdir import _differences

LABEL = (Spec("label", "label", 3),)
NAMED = Form("image", (8, 8, 1), LABEL, "uint8", class_names=("cat", "sea: dog/2", "2"))


@pytest.fixture
def animals(tmp_path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(8):
            Image.new("L", (4, 4), 20 * k).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_folders_name_the_classes_of_a_run(animals):
    """A run would forget its class names, or keep names of labels that it does not read."""
    form = folder("train", str(animals), channels=1).form
    assert form.class_names == ("cat", "dog")
    written = json.loads(json.dumps(form.as_json()))
    assert written["classes"] == ["cat", "dog"]
    assert from_json(written) == form and from_json(written).class_names == ("cat", "dog")
    source = folder("train", str(animals), channels=1)
    assert Reading(labels=True).form(source).class_names == ("cat", "dog")
    assert Reading(labels=False).form(source).class_names == ()


def test_numbers_are_no_names():
    """Pictures of digits would have the titles 0, 1, ... as if these were names."""
    items = Memory(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 1]), 3)
    form = Decoded(Stored(items), channels=1).form
    assert form.classes == 3 and form.class_names == ()
    assert "classes" not in form.as_json()
    with pytest.raises(ValueError, match="class_names: 1 names for 3 classes"):
        Form("image", (8, 8, 1), LABEL, "uint8", class_names=("cat",))


def test_a_run_resumes_under_other_names():
    """A run would be refused whose classes had no names before, or whose folder was renamed."""
    names = lambda *listed: {"data": {"kind": "image", "classes": [*listed]}}
    assert not [*_differences(names("cat"), names("kitten"))]
    assert not [*_differences({"data": {"kind": "image"}}, names("kitten"))]


def test_files_are_named_by_their_class(tmp_path):
    """The name of a class would make a folder, or a file name that a system refuses."""
    x, label = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, -1])
    samples = Generated(x, {"label": label}, np.ones(4), np.ones(4), NAMED)
    output.write(tmp_path, samples)
    wanted = ["000000_cat.png", "000001_sea_dog_2.png", "000002_2.png", "000003.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == wanted
    assert len(output.suffix("é" * 300).encode()) < 200
    assert output.suffix("...") == ""


def test_labels_are_given_by_name_or_number():
    """`--label=cat` would be refused, or a class named by a number be confused with another."""
    assert class_numbers("cat", NAMED) == [0]
    assert class_numbers(["cat", "1", 2], NAMED) == [0, 1, 2]
    assert class_numbers("2", NAMED) == [2]
    swapped = Form("image", (8, 8, 1), LABEL, "uint8", class_names=("2", "1", "0"))
    assert class_numbers("2", swapped) == [0] and class_numbers(2, swapped) == [2]
    for bad in ("cta", -1, "-1", 3, 1.5, True, "none"):
        with pytest.raises(ConfigError, match=rf"--label={bad}: no such class.*0 to 2, or cat, "):
            class_numbers(bad, NAMED)
    with pytest.raises(ConfigError, match=r"--label=cta: no such class \(did you mean 'cat'\?\)"):
        class_numbers("cta", NAMED)


def test_columns_are_titled():
    """A reader would have to guess which column shows which class."""
    x, label = np.zeros((9, 8, 8, 1), np.uint8), np.arange(9) % 3
    plain, titled = NAMED.items.picture(x, label), NAMED.picture(x, label)
    assert titled.shape[1:] == plain.shape[1:] and titled.shape[0] > plain.shape[0]
    np.testing.assert_array_equal(titled[-len(plain) :], plain)
    strip = titled[: -len(plain)]
    for k in range(3):
        assert strip[:, 66 * k + 2 : 66 * (k + 1)].min() < 128  # each has a title of its own
    np.testing.assert_array_equal(NAMED.picture(x, label[::-1] * 0), NAMED.items.picture(x))
    long = drawing.grid(np.zeros((2, 8, 8, 1), np.uint8), 2, titles=["short", "a long name" * 9])
    assert long.shape[0] - 68 > 66 and long.shape[1] == 134  # upright, shortened
