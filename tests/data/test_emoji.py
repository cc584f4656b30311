"""The emoji of the package: splits, captions, and their way through loading and batches."""

import json

import make_emoji
import numpy as np
import pytest

from diffjax.data import Batches, Memory, Reading, emoji, load
from diffjax.data.emoji import FOLDER, STYLES, TABLE, held_out, sheet


@pytest.fixture(scope="module")
def splits() -> dict[str, Memory]:
    return {split: emoji(split) for split in ("train", "test")}


@pytest.fixture(scope="module")
def concepts() -> list[dict]:
    return [json.loads(line) for line in (FOLDER / TABLE).read_text("utf-8").splitlines()]


def of(memory: Memory) -> list[str]:
    """The preferred caption of each item."""
    return [texts[0] for texts in memory.captions(np.arange(len(memory)))]


def test_every_concept_and_style_is_trained_on(splits, concepts):
    """A held-out pair would ask for a concept that no training image shows."""
    pairs = {k: [tuple(text.rsplit(", ", 1)) for text in of(m)] for k, m in splits.items()}
    assert len(pairs["train"]) + len(pairs["test"]) == 3 * len(concepts) == 4770
    assert len({*pairs["train"], *pairs["test"]}) == 4770
    seen = [name for name, _ in pairs["train"]]
    assert {*seen} == {concept["names"][0] for concept in concepts}
    assert all(seen.count(name) == 2 for name, _ in pairs["test"])
    assert {style for _, style in pairs["test"]} == {f"{style} style" for style in STYLES}


def test_a_pair_stays_in_its_split(concepts):
    """A newer list of concepts would move images from the training to the test split."""
    held = np.array([held_out(concept["code"]) for concept in concepts])
    assert held_out("1f34e") == -1 and held_out("1f994") == -1
    shares = [(held == k).mean() for k in (-1, 0, 1, 2)]
    np.testing.assert_allclose(shares, [0.8, *[0.2 / 3] * 3], atol=0.03)


def test_captions_name_the_label_and_one_concept_only(splits, concepts):
    """A prompt would ask for two different pictures."""
    for memory in splits.values():
        every = memory.captions(np.arange(len(memory)))
        for texts, label in zip(every, memory.label, strict=True):
            assert 1 <= len(texts) == len({*texts})
            assert all(text.endswith(f", {STYLES[label]} style") for text in texts)
    names = [name.lower() for concept in concepts for name in concept["names"]]
    assert len(names) == len({*names})


def test_images_are_colour_on_white(splits):
    """The background would depend on the style, or a style be empty."""
    for memory in splits.values():
        assert memory.form.class_names == STYLES and memory.shape == (32, 32, 3)
        for k in range(3):
            x = memory.x[memory.label == k]
            assert np.median(x[:, 0, 0]) == 255 and (x.min((1, 2, 3)) < 240).all()


def test_captions_travel_with_their_items(splits):
    """An image would be trained with the caption of another image."""
    test = splits["test"]
    index = np.array([7, 0, 7])
    part = load(test, index)
    assert part.captions(np.arange(3)) == test.captions(index)
    np.testing.assert_array_equal(part.x, test.x[index])
    for balanced in (False, True):
        batches = Batches(test, 8, seed=1, reading=Reading(balanced=balanced))
        items, x = batches.items(3), batches[3]["x"]
        by_caption = {caption: k for k, caption in enumerate(of(test))}
        found = [by_caption[texts[0]] for texts in test.captions(items)]
        np.testing.assert_array_equal(x, test.x[found])


def test_drawings_are_squared_and_aliases_mirrored():
    """A wide drawing would be stretched, and an arrow point the wrong way."""
    icons = {
        "width": 36,
        "height": 36,
        "icons": {"wide": {"body": "<g/>", "height": 26}, "gone": {"body": "", "hidden": True}},
        "aliases": {
            "edi": {"parent": "wide", "hFlip": True},
            "turned": {"parent": "edi", "rotate": 1},
        },
    }
    text, mirrored = make_emoji.svg(icons, "edi")
    assert mirrored and 'viewBox="0 -5 36 36"' in text and "<g/>" in text
    assert not make_emoji.svg(icons, "wide")[1]
    for name, reason in (("gone", "withdrawn"), ("turned", "rotate")):
        with pytest.raises(ValueError, match=rf"{name}: .*{reason}"):
            make_emoji.svg(icons, name)


def test_sheets_are_read_back_in_order(tmp_path):
    """Images would have the names of other concepts, or other pixels than were drawn."""
    x = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), np.uint8)
    make_emoji.sheet(x).save(tmp_path / "noto.webp", lossless=True, method=0)
    np.testing.assert_array_equal(sheet(tmp_path / "noto.webp", 70), x)
    same = {style: np.zeros((3, 2), np.uint8) for style in STYLES}
    assert make_emoji.distinct({**same, "noto": x[:3]}) == [0]
    assert make_emoji.distinct(dict.fromkeys(STYLES, x[[0, 1, 0]])) == [0, 1]


def test_items_without_captions_have_none():
    plain = Memory(np.zeros((3, 2), np.float32))
    assert plain.captions(np.arange(2)) == [[], []]
    assert load(plain, np.arange(2)).texts == ()
    with pytest.raises(ValueError, match=r"texts: has 1 rows for 3 items"):
        Memory(plain.x, texts=[["a"]])
