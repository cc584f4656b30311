"""Every kind of data: scaling for the network and back, pictures, files, augmentations, forms."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax.data import KINDS, Batches, Form, Memory, Reading, array, latents, select
from diffjax.data.conformer import centred
from diffjax.data.form import from_json, labelled
from diffjax.data.kinds import default, lookup
from diffjax.data.molecule import packed
from diffjax.specs import Spec

SHAPES = {
    "image": (8, 8, 3),
    "latent": (4, 6, 3),
    "points": (2,),
    "vector": (5,),
    "table": (4,),
    "sequence": (12, 2),
    "trajectory": (12, 2),
    "audio": (64, 1),
    "video": (4, 8, 8, 1),
    "volume": (6, 5, 7, 1),
    "field": (6, 7, 2),
    "cloud": (5, 3),
    "molecule": (5, 8),
    "conformer": (5, 3),
}
EVERY = [(name, dtype) for name, kind in KINDS.items() for dtype in kind.dtypes]


def items(name: str, dtype: str, num: int = 6) -> np.ndarray:
    """Items of a kind, random in its range."""
    if name not in SHAPES:
        pytest.fail(f"KINDS[{name!r}] is new: say here of what shape a small one is")
    rng, size = np.random.default_rng(0), (num, *SHAPES[name])
    if name == "molecule":  # thousandths of an angstrom, which files hold exactly
        x = rng.integers(-2000, 2000, (num, 5, 3)) / 1000
        return packed([*x], rng.choice([*"HCNOF"], (num, 5)).tolist(), 5)
    if name == "conformer":
        return np.stack([centred(x, 5) for x in rng.integers(-2000, 2000, (num, 5, 3)) / 1000])
    bounds = KINDS[name].range(dtype)
    if dtype != "float32" and bounds:
        return rng.integers(*map(int, bounds), size=size, endpoint=True, dtype=dtype)
    x = rng.normal(size=size).astype(np.float32)
    return x if bounds is None else np.clip(x / 2, -1, 1)


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_items_come_back_from_the_range_of_the_network(name, dtype):
    """A kind would be trained on other data than it shows, if it scales in one direction only."""
    kind, x = KINDS[name], items(name, dtype)
    form = Form(name, SHAPES[name], (), dtype)
    seen = np.asarray(kind.normalise(jnp.asarray(x)))
    assert seen.dtype == np.float32
    if form.range:
        assert -1 <= seen.min() < -0.5 and 0.5 < seen.max() <= 1
    back = form.denormalise(seen)
    expected = x if back.dtype == x.dtype else form.denormalise(x)  # floats to grey levels
    np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_a_picture_shows_what_differs(name, dtype):
    """A blank picture, or the same one for all items, would show nothing."""
    kind, x = KINDS[name], items(name, dtype)
    picture = kind.picture(x, np.arange(6) % 3)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 10
    other = kind.picture(np.roll(x, 1, -1)[::-1], np.arange(6) % 3)
    assert other.shape != picture.shape or (other != picture).any()
    tiles = kind.tiles(x)
    assert tiles.dtype == np.uint8 and tiles.shape[0] == 6 and tiles.shape[-1] in (1, 3)


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_files_give_back_what_was_written(tmp_path, name, dtype):
    form = Form(name, SHAPES[name], (), dtype)
    stored = form.denormalise(np.asarray(form.items.normalise(items(name, dtype))))
    for files in form.items.files:
        if files.read is None or files.ending == ".mp4":  # shows items, or loses details
            continue
        path = tmp_path / "new" / f"a{files.ending}"
        wanted = stored[0] if files.each else stored
        files.write(path, wanted, {"rate": 100}, {"seed": "5"})
        found = files.read(path, form.shape, {"rate": 100})
        if found.dtype != wanted.dtype:  # floats in a file of integers
            found, wanted = np.asarray(form.items.normalise(jnp.asarray(found))), wanted
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1 / 32768)


@pytest.mark.parametrize("name", [k for k, kind in KINDS.items() if kind.window])
def test_windows_and_mirrors_take_maps_along(name):
    """A map that did not move with its item would describe another place."""
    kind, dtype = KINDS[name], KINDS[name].dtypes[-1]
    x = items(name, dtype)
    on_grid = np.asarray(x[..., :1], np.float32)
    source = Memory(x, kind=name, cond={"map": on_grid})
    reading = Reading(crop=3, flip=kind.mirror is not None, conditions=("map",))
    reading.check(source)
    shape = reading.form(source).shape
    assert [shape[axis] for axis in kind.window] == [3] * len(kind.window)
    for k in range(3):
        batch = Batches(source, 6, 0, reading)[k]
        np.testing.assert_array_equal(batch["map"], batch["x"][..., :1])
        assert batch["x"].shape[1:] == shape
    chosen = select(source, reading, 4)
    np.testing.assert_array_equal(chosen.cond["map"], chosen.x[..., :1])
    assert chosen.form.conditions == (Spec("map", "map", 1),)


@pytest.mark.parametrize("name", [k for k, kind in KINDS.items() if not kind.window])
def test_what_cannot_be_cut_is_refused_by_name(name):
    source = Memory(items(name, "float32"), kind=name)
    with pytest.raises(ValueError, match=f"crop=1: {KINDS[name].noun}s .* cannot be cropped"):
        Reading(crop=1).check(source)


def test_a_form_is_written_and_read_back():
    """Sampling would not know the shape of the data, which it reads from this file alone."""
    specs = (Spec("label", "label", 4), Spec("tokens", "tokens", 8))
    form = Form("audio", (64, 1), specs, "int16", (("rate", 8000),))
    read = from_json(json.loads(json.dumps(form.as_json())))
    assert read == form and read.units == form.units and read.dtype == "int16"
    assert form.classes == 4 and form.range == (-32768, 32767)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pictures", (8, 8, 3)), "kind='pictures': unknown"),
        (
            ("image", (8, 8, 4)),
            r"kind='image': .* shape \(8, 8, 4\); needs \(H, W, C\) .* 1 or 3",
        ),
        (("sequence", (8,)), r"needs \(L, C\)"),
        (("latent", (8, 8, 4), (), "uint8"), "items are uint8; needs float32"),
        (("vector", (2,), (Spec("a", "vector", 1),) * 2), "a name occurs twice"),
    ],
)
def test_forms_that_do_not_fit_their_kind_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Form(*arguments)


def test_every_default_kind_takes_the_items_that_it_is_the_default_of():
    for (name, dtype), shape in ((entry, SHAPES[entry[0]]) for entry in EVERY):
        lookup(default(shape, dtype)).check(shape, dtype) if name != "audio" else None
    assert default((8, 8, 4), "float32") == "latent" and default((64, 1), "int16") == "audio"


def test_latents_of_three_channels_keep_their_values(tmp_path):
    """Latents would be clipped to grey levels, as if they were images."""
    x = 3 * np.random.default_rng(0).normal(size=(40, 4, 4, 3)).astype(np.float32)
    np.save(tmp_path / "latents.npy", x)
    np.save(tmp_path / "x.npy", x)
    for source in (latents("train", str(tmp_path)), array("train", str(tmp_path / "x.npy"),
                   kind="latent")):  # fmt: skip
        read = source[np.arange(len(source))]["x"]
        assert np.abs(read).max() > 5 and source.form.kind == "latent"
        np.testing.assert_array_equal(source.form.denormalise(read), read)
    with pytest.raises(ValueError, match=r"in \[-1, 1\]; other kinds, such as kind='latent'"):
        array("train", str(tmp_path / "x.npy"))


def test_conditions_come_with_the_items_of_an_archive(tmp_path):
    """Conditions would lose their name, their mask, or the split of their items."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(30, 5, 3)).astype(np.float64)
    mask = rng.random((30, 5)) < 0.5
    arrays = {"x": np.arange(60.0).reshape(30, 2), "y": np.arange(30) % 3, "tokens": tokens}
    arrays |= {"tokens_mask": mask, "vector": np.arange(30.0)[:, None], "cond_hue": np.arange(30)}
    np.savez(tmp_path / "a.npz", **arrays)
    source = array("train", str(tmp_path / "a.npz"), holdout=0.3)
    specs = [("label", "label", 3), ("tokens", "tokens", 3), ("vector", "vector", 1)]
    assert source.form.conditions == tuple(Spec(*s) for s in (*specs, ("hue", "label", 30)))
    got = source[np.arange(len(source))]
    row = got["x"][:, 0].astype(int) // 2
    np.testing.assert_array_equal(got["vector"][:, 0], row)
    np.testing.assert_array_equal(got["hue"], row)
    np.testing.assert_array_equal(np.isnan(got["tokens"]).all(-1), ~mask[row])
    there = mask[row]
    np.testing.assert_allclose(got["tokens"][there], tokens[row][there], rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"vector": np.zeros((9, 2))}, r"vector: has 9 rows, and there are 10"),
        ({"vector": np.zeros((10, 2), int)}, r"vector: is int32 of shape \(10, 2\); needs floats"),
        ({"tokens": np.zeros((10, 2))}, r"tokens: .*needs floats of shape \(N, L, size\)"),
        (
            {"map": np.zeros((10, 4, 5, 1))},
            r"map: has the grid \(4, 5\), and the items",
        ),
        ({"tokens": np.zeros((10, 2, 3)), "tokens_mask": np.ones((10, 3))}, "tokens_mask"),
    ],
)
def test_conditions_that_do_not_fit_the_items_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 4, 4, 1), np.uint8), **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
        array("train", str(tmp_path / "a.npz"))


def hub(folder, rows, name="metadata.jsonl") -> None:
    """Return a folder of images in the layout of model hubs."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in rows]
    if name.endswith("csv"):
        shown = lambda v: "" if v is None else str(v)
        lines = [",".join(rows[0]), *(",".join(map(shown, row.values())) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    for k, row in enumerate(rows):
        path = folder / row["file_name"]
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), k, np.uint8)).save(path)


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_beside_images_are_conditions(tmp_path, name):
    """Metadata would be lost, mixed up, or turned into classes.

    Numbers form a vector in the order of their columns, labels are read by name, text is left out.
    """
    from diffjax.data import folder

    about = lambda k: {"age": None if k == 3 else k / 2, "text": f"no. {k}", "wide": k}
    rows = [{"file_name": f"data/{k}.png", "label": "ab"[k % 2]} | about(k) for k in range(8)]
    hub(tmp_path, rows, name)
    source = folder("train", path=str(tmp_path), holdout=0.0)
    assert source.form.conditions == (Spec("label", "label", 2), Spec("vector", "vector", 2))
    got = source[np.arange(8)]
    k = got["x"][:, 0, 0, 0].astype(np.float32)
    np.testing.assert_array_equal(got["label"], k % 2)
    np.testing.assert_array_equal(got["vector"], np.stack([np.where(k == 3, np.nan, k / 2), k], 1))
    one = folder("train", path=str(tmp_path), holdout=0.0, columns=("wide",))
    np.testing.assert_array_equal(one[np.array([5])]["vector"], [[5.0]])
    with pytest.raises(ValueError, match=r"columns=text: no such column of numbers; known: age"):
        folder("train", path=str(tmp_path), columns=("text",))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file_name": "a.png"}, {"file_name": "a.png"}], "file_name=a.png occurs twice"),
        ([{"file_name": "a.png"}, {"name": "b.png"}], "row 2 has no file_name"),
        ([{"file_name": "b.png"}], "b.png: no such image in the folder"),
        ([{"file_name": "a.png", "label": -1}], "label: needs a name, or an integer"),
        ([], "holds no rows"),
    ],
)
def test_metadata_that_do_not_fit_the_images_are_refused(tmp_path, rows, message):
    from diffjax.data import folder

    hub(tmp_path, [{"file_name": "a.png"}])
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(ValueError, match=message):
        folder("train", path=str(tmp_path))


def test_an_unreadable_image_has_the_conditions_of_the_one_in_its_place(tmp_path):
    """An image would have the description of another image."""
    from diffjax.data import folder

    hub(tmp_path, [{"file_name": f"{k}.png", "size": k} for k in range(4)])
    (tmp_path / "1.png").write_bytes(b"no image")
    got = folder("train", path=str(tmp_path), holdout=0.0, unreadable=1)[np.arange(4)]
    np.testing.assert_array_equal(got["vector"][:, 0], got["x"][:, 0, 0, 0])


def test_the_form_of_a_network_has_the_conditions_that_it_is_given():
    source = Memory(
        np.zeros((4, 2), np.float32), np.arange(4), 4, cond={"vector": np.zeros((4, 3))}
    )
    assert Reading().form(source) == labelled("points", (2,))
    assert Reading(labels=True).form(source) == labelled("points", (2,), 4)
    assert Reading(conditions=("vector",)).form(source).names == ["vector"]
    with pytest.raises(ValueError, match=r"conditions=tokens: .*known: vector"):
        Reading(conditions=("tokens",)).check(source)


def test_the_documentation_lists_every_kind():
    """The table of kinds, which is written by hand, would become outdated."""
    text = (Path(__file__).parents[2] / "docs" / "nouns" / "data.md").read_text()
    rows = {m[1]: m[0].rpartition("|")[0] for m in re.finditer(r"^\| `(\w+)` \|.*\|$", text, re.M)}
    assert rows.keys() == KINDS.keys()
    for name, row in rows.items():
        files = KINDS[name].files[0]
        first = f" {'folder of ' * files.each}{files.ending[1:].upper()}"
        assert row.rpartition("|")[2].startswith(first), row
