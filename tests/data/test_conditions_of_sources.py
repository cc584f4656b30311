"""Conditions beside latents and images: masks, names, and conditions that are left out."""

import json

import numpy as np
import pytest
from PIL import Image

from diffjax.data import folder, latents, load, table
from diffjax.encoders import Described, Words
from diffjax.specs import Spec

N = 12


def written(path, **arrays):
    np.save(
        path / "latents.npy", np.arange(N, dtype=np.float16)[:, None, None] * np.ones((1, 3, 2))
    )
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", values)
    return str(path)


def test_latents_take_masks_and_conditions_of_any_name(tmp_path):
    """The padding of captions would be read as text, and a second description be lost."""
    rng = np.random.default_rng(0)
    text, mask = rng.normal(size=(N, 4, 2)).astype(np.float16), rng.random((N, 4)) < 0.5
    hue = np.arange(N, dtype=np.int64)
    path = written(tmp_path, cond_text=text, cond_text_mask=mask, tokens=text, cond_hue=hue)
    source = latents("train", path)
    assert source.form.conditions == (
        Spec("hue", "label", N),
        Spec("text", "tokens", 2),
        Spec("tokens", "tokens", 2),
    )
    items, rows = source[np.arange(len(source))], source.index
    np.testing.assert_array_equal(items["hue"], hue[rows])
    np.testing.assert_array_equal(np.isnan(items["text"]).all(-1), ~mask[rows])
    np.testing.assert_array_equal(items["text"][mask[rows]], text[rows][mask[rows]])
    np.testing.assert_array_equal(items["tokens"], text[rows])
    assert [items[k].dtype for k in ("hue", "text")] == [np.int32, np.float32]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"tokens_mask": np.ones((N, 4))},
            "tokens_mask.npy: belongs to tokens.npy, which is",
        ),
        (
            {"tokens": np.zeros((N, 4, 2)), "tokens_mask": np.ones((N, 3))},
            r"tokens_mask: has the shape \(12, 3\); needs \(12, 4\)",
        ),
        ({"cond_hue": np.arange(N - 1)}, "hue: has 11 rows, and there are 12 items"),
    ],
)
def test_conditions_that_do_not_fit_the_latents_are_refused(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        latents("train", written(tmp_path, **arrays))


def captioned_folder(place, **columns):
    """Write five grey images, whose level is ten times their number, with columns of metadata."""
    rows = [
        {"file_name": f"{k}.png", **{name: values[k] for name, values in columns.items()}}
        for k in range(5)
    ]
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for k, row in enumerate(rows):
        Image.new("RGB", (4, 4), (10 * k,) * 3).save(place / row["file_name"])
    return str(place)


TEXTS = ["none", None, ["two", "zwei"], [], "four"]


def test_captions_of_a_folder_are_those_of_its_images(tmp_path, capsys):
    """An image would be trained with the caption of another image."""
    captions = [f"no. {k}" for k in range(5)]
    path = captioned_folder(
        tmp_path, source=["web"] * 5, caption=captions, text=TEXTS, size=[1] * 5
    )
    source = folder("train", path=path, holdout=0.0)
    assert source.form.conditions == (Spec("vector", "vector", 1),)
    assert "left out: columns of text in metadata.jsonl: source" in capsys.readouterr().err
    index = np.array([4, 2, 1])
    expected = [["four", "no. 4"], ["two", "zwei", "no. 2"], ["no. 1"]]
    assert source.captions(index) == expected == load(source, index).captions(np.arange(3))
    assert (source[index]["x"][:, 0, 0, 0] == 10 * index).all()
    parts = [folder(split, path=path, holdout=0.5) for split in ("train", "test")]
    for part in parts:
        whole = np.arange(len(part))
        levels = part[whole]["x"][:, 0, 0, 0] // 10
        assert [texts[-1] for texts in part.captions(whole)] == [f"no. {k}" for k in levels]
    chosen = folder("train", path=path, holdout=0.0, captions=("source",))
    assert chosen.captions(index) == [["web"]] * 3
    with pytest.raises(ValueError, match="captions=size: no such column of texts; known: source, "):
        folder("train", path=path, captions=("size",))


def test_an_image_in_place_of_an_unreadable_one_has_its_own_caption(tmp_path):
    """An image would be trained with the caption of a damaged one."""
    path = captioned_folder(tmp_path, text=[f"level {k}" for k in range(5)])
    for name in ("2.png", "3.png"):
        (tmp_path / name).write_bytes(b"damaged")
    source = folder("train", path=path, holdout=0.0, unreadable=2)
    words = Words(Words.learn(text for [text] in source.captions(np.arange(5))))
    described = Described(source, words)
    for items in (
        described[np.arange(5)],
        described.draw(np.arange(5), np.arange(5), seed=0),
    ):
        assert (items["x"][:, 0, 0, 0] // 10).tolist() == [0, 1, 4, 4, 4]
        expected = [f"level {k}" for k in (0, 1, 4, 4, 4)]
        np.testing.assert_array_equal(items["text"], words(expected)["text"])


def test_labels_of_a_table_have_the_names_of_their_levels(tmp_path):
    """`--label=cat` would be refused, and a legend would show numbers."""
    rows = [f"{k},{k % 3},{'dog' if k % 2 else 'cat'},{k % 2}" for k in range(N)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,kind,number", *rows]))
    named, numbered = (
        table("train", str(tmp_path / "a.csv"), columns=("a", "b"), label=label)
        for label in ("kind", "number")
    )
    assert named.form.class_names == ("cat", "dog") and numbered.form.class_names == ()
    assert load(named, np.array([0])).form.class_names == ("cat", "dog")
