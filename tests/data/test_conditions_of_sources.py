"""Conditions beside latents and images: masks, names, and conditions that are left out."""

import json

import numpy as np
import pytest
from PIL import Image

from diffjax.data import folder, latents, load, table
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


def test_omitted_columns_of_text_are_reported(tmp_path, capsys):
    """A caption in metadata.jsonl would seem to be learned."""
    rows = [{"file_name": f"{k}.png", "caption": f"no. {k}", "size": k} for k in range(4)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for row in rows:
        Image.new("RGB", (4, 4)).save(tmp_path / row["file_name"])
    source = folder("train", path=str(tmp_path), holdout=0.0)
    assert source.form.conditions == (Spec("vector", "vector", 1),)
    assert "left out: columns of text in metadata.jsonl: caption" in capsys.readouterr().err


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
