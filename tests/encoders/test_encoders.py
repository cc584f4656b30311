"""Every encoder, and data sets whose captions it encodes."""

import dataclasses
import shutil

import numpy as np
import pytest
from encoders_of_tests import folder

from diffjax.data import Batches, Memory, Reading, load
from diffjax.encoders import (
    ENCODERS,
    POOLED,
    TEXT,
    Described,
    Encoder,
    Pretrained,
    WithT5,
    Words,
    bert,
    clip,
    clip_pair,
    clip_pair_t5,
    clip_t5,
    language,
    t5,
)
from diffjax.encoders.described import chosen
from diffjax.encoders.words import split

N = 12
TEXTS = tuple((f"item {i}", f"number {i} alone", f"it is {i}")[: 1 + i % 3] for i in range(N))
MEMORY = Memory(np.arange(N, dtype=np.float32)[:, None].repeat(2, 1), texts=TEXTS)
CAPTIONS = [caption for row in TEXTS for caption in row]


PARTS = {
    clip_pair: {"text_encoder": "clip", "text_encoder_2": "bigg"},
    clip_pair_t5: {"text_encoder": "bigg", "text_encoder_2": "bigg", "text_encoder_3": "t5"},
    clip_t5: {"text_encoder": "clip", "text_encoder_2": "t5"},
}
"""Encoders in the folder of a pipeline, and what is in its folders."""


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request, tmp_path_factory) -> Encoder:
    entry = ENCODERS[request.param]
    if entry is Words:
        return Words(Words.learn(CAPTIONS))
    path = tmp_path_factory.mktemp("encoder") / request.param
    if entry in PARTS:
        for part, name in PARTS[entry].items():
            folder(path / part, name, width=48 if part == "text_encoder_3" else 24)
        return entry(path=str(path), **({"size": 64} if entry is clip_pair else {"length": 24}))
    folder(path, {"language": "gemma2"}.get(request.param, request.param))
    return entry(path=str(path), **({} if entry is clip else {"length": 24}))


def told(encoder: Encoder, rows: np.ndarray) -> list[str]:
    """Return the caption of each row of tokens; all captions differ."""
    known = {
        row.tobytes(): text for text, row in zip(CAPTIONS, encoder(CAPTIONS)[TEXT], strict=True)
    }
    return [known[row.tobytes()] for row in rows]


def test_conditions_are_as_declared(encoder):
    """A network would be built for other conditions than it receives."""
    assert isinstance(encoder, Encoder) and hash(encoder) == hash(dataclasses.replace(encoder))
    values = encoder(CAPTIONS)
    assert [*values] == [spec.name for spec in encoder.specs] and encoder.specs[0].name == TEXT
    for spec in encoder.specs:
        value = values[spec.name]
        assert len(value) == len(CAPTIONS)
        if spec.kind == "words":
            assert value.dtype == np.int32 and value.min() >= -1 and value.max() < spec.size
        else:
            assert value.dtype == np.float32 and value.shape[-1] == spec.size


def test_a_text_has_one_encoding_whatever_stands_beside_it(encoder):
    """A prompt would depend on the other prompts of its batch."""
    whole = encoder(CAPTIONS)
    again = encoder
    if isinstance(encoder, Pretrained):
        again = dataclasses.replace(encoder, kept={})
    for name, value in again(CAPTIONS[3:5]).items():
        np.testing.assert_array_equal(value, whole[name][3:5])


def test_the_empty_text_is_the_null_of_guidance(encoder):
    """A prompt of no words would differ from what dropped conditions train."""
    for value in encoder(["", "  "]).values():
        assert (value == -1).all() if value.dtype == np.int32 else np.isnan(value).all()


def test_tokens_of_clip_come_before_those_of_t5_and_are_padded(tmp_path):
    """Stable Diffusion 3 would read the text of one encoder as that of another."""
    path = tmp_path / "pipeline"
    for part, name in PARTS[clip_pair_t5].items():
        folder(path / part, name, width=50 if part.endswith("3") else 24)
    three = clip_pair_t5(path=str(path), length=9)
    parts = [f"{path}/text_encoder{end}" for end in ("", "_2", "_3")]
    of_clip = [clip(path=part, state="before", pooled=True)(["it"]) for part in parts[:2]]
    tokens, vector = (three(["it"])[name] for name in (TEXT, POOLED))
    pair = np.concatenate([values[TEXT] for values in of_clip], -1)
    length = pair.shape[1]
    np.testing.assert_array_equal(tokens[:, :length, :48], pair)
    assert not tokens[:, :length, 48:].any()
    of_t5 = t5(path=parts[2], length=9, masked=False)(["it"])[TEXT]
    np.testing.assert_array_equal(tokens[:, length:], of_t5)
    np.testing.assert_array_equal(vector, np.concatenate([v[POOLED] for v in of_clip], -1))
    assert isinstance(three, WithT5) and not np.isnan(tokens).any()
    with pytest.raises(ValueError, match="CLIP has the width 48; needs at most that of T5, 24"):
        WithT5(three.clip, t5(path=str(folder(tmp_path / "t5", "t5"))), before=True)


def test_zeros_stand_in_place_of_a_t5_that_is_absent(tmp_path):
    """Stable Diffusion 3 without T5 would need its folder, or would see other tokens."""
    path = tmp_path / "pipeline"
    for part, name in PARTS[clip_pair_t5].items():
        folder(path / part, name, width=48 if part.endswith("3") else 24)
    whole, bare = (
        clip_pair_t5(path=str(path), length=9, empty="encoded", **more)
        for more in ({"zeros": 0}, {"zeros": 50})
    )
    shutil.rmtree(path / "text_encoder_3")
    with pytest.raises(ValueError, match="text_encoder_3: no such folder"):
        clip_pair_t5(path=str(path))
    assert [(s.name, s.size) for s in bare.specs] == [(TEXT, 50), (POOLED, 40)]
    ours, tokens = bare(["it", ""]), whole.clip(["it", ""])
    length = tokens[TEXT].shape[1]
    np.testing.assert_array_equal(ours[TEXT][:, :length, :48], tokens[TEXT])
    assert ours[TEXT].shape == (2, length + 9, 50) and not ours[TEXT][:, length:].any()
    np.testing.assert_array_equal(ours[POOLED], tokens[POOLED])
    missing = clip_pair_t5(path=str(path), zeros=50)([" "])
    assert all(np.isnan(value).all() for value in missing.values())


def test_a_prefix_stands_before_each_text(tmp_path):
    """A network that was trained with an instruction would read texts without it."""
    path = str(folder(tmp_path / "qwen3", "qwen3"))
    plain, told_ = (language(path=path, length=24, prefix=prefix) for prefix in ("", "number "))
    np.testing.assert_array_equal(told_(["3 alone"])[TEXT], plain(["number 3 alone"])[TEXT])
    with pytest.raises(ValueError, match="holds qwen3; needs bert; allowed: language"):
        bert(path=path)


def test_another_run_knows_its_vocabulary():
    """A loaded run would read other words than were trained."""
    words = Words(Words.learn(CAPTIONS))
    again = Words(words.vocabulary)
    np.testing.assert_array_equal(again(CAPTIONS)[TEXT], words(CAPTIONS)[TEXT])


def test_words_are_runs_of_letters_and_digits():
    """Captions and prompts of the same words would differ by case or punctuation."""
    assert split("Red-APPLE, 1st place!") == split("red apple 1ST place")
    assert split("Café d'été") == ["café", "d", "été"] == split("Cafe\u0301 d'e\u0301te\u0301")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("itm 3", r"'itm 3': unknown word 'itm' \(did you mean 'item'\?\); the vocabulary has"),
        ("it is " * 3, "'it is it is it is ': has 6 words; needs at most 5"),
        ("!?", r"'!\?': has no letter and no digit"),
        ("x" * 100, f"'{'x' * 59}…': unknown word"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(text, message):
    """A picture would show something else than was asked for."""
    words = Words(Words.learn(CAPTIONS), length=5)
    with pytest.raises(ValueError, match=message):
        words(["item 3", text])


def test_settings_out_of_range_are_refused():
    """Captions would become nothing."""
    with pytest.raises(ValueError, match="length=0: needs"):
        Words(("a",), length=0)
    with pytest.raises(ValueError, match="vocabulary: needs captions"):
        Words(Words.learn(["", "!"]))


@pytest.mark.parametrize("balanced", [False, True])
def test_captions_travel_with_their_items(encoder, balanced):
    """An image would be trained with the caption of another image."""
    source = Described(dataclasses.replace(MEMORY, label=np.arange(N) % 2, classes=2), encoder)
    reading = Reading(balanced=balanced, conditions=(TEXT,))
    reading.check(source)
    form, names = reading.form(source), [spec.name for spec in encoder.specs]
    assert form.names == names and form.texts == tuple(names)
    batches = Batches(source.kept(), 5, seed=3, reading=reading)
    for k in range(9):
        batch = batches[k]
        items = batches.items(k)
        np.testing.assert_array_equal(batch["x"][:, 0], items)
        for item, text in zip(items, told(encoder, batch[TEXT]), strict=True):
            assert text in TEXTS[item]


def test_a_batch_is_a_function_of_seed_and_number_on_any_number_of_hosts(encoder):
    """A resumed run, or one on several hosts, would see other captions."""
    source = Described(MEMORY, encoder)
    whole = Batches(source, 6, seed=3)[7]
    for rows in (slice(0, 3), slice(3, 6)):
        part = Batches(Described(MEMORY, encoder), 6, seed=3, rows=rows)[7]
        for name, value in part.items():
            np.testing.assert_array_equal(value, whole[name][rows])


def test_each_epoch_draws_one_of_all_captions():
    """Paraphrases would never be seen, or the preferred caption never."""
    counts = {text: 0 for text in TEXTS[2]}
    for text in chosen([TEXTS[2]] * 900, np.arange(900), seed=1):
        counts[text] += 1
    assert all(abs(count - 300) < 4 * 900**0.5 for count in counts.values())
    again = chosen([TEXTS[2]] * 900, np.arange(900), seed=2)
    assert again != chosen([TEXTS[2]] * 900, np.arange(900), seed=1)
    assert chosen([[], ["a"]], np.arange(2), seed=0) == ["", "a"]


def test_items_by_index_have_their_preferred_caption(encoder):
    """Held-out losses and default samples would change from one reading to the next."""
    source = Described(MEMORY, encoder)
    index = np.array([4, 2, 4])
    items = source[index]
    assert told(encoder, items[TEXT]) == [TEXTS[i][0] for i in index]
    part = load(source, index)
    assert part.form.conditions == source.form.conditions
    np.testing.assert_array_equal(part.cond[TEXT], items[TEXT])


def test_latents_that_are_drawn_keep_their_own_draw(encoder):
    """Each epoch would see the same noise of a latent, or the latent of another item."""

    class Noisy(Memory):
        def draw(self, index, number, seed):
            return {"x": self.x[index] + 0.1 * seed + 1e-3 * number[:, None]}

        def kept(self):
            return self

    source = Described(Noisy(MEMORY.x, texts=TEXTS), encoder).kept()
    items = source.draw(np.array([3, 5]), np.array([7, 8]), seed=2)
    np.testing.assert_allclose(items["x"][:, 0], [3.207, 5.208], rtol=1e-6)
    assert all(text in TEXTS[i] for i, text in zip((3, 5), told(encoder, items[TEXT]), strict=True))


def test_captions_that_cannot_be_encoded_are_refused():
    """A run would stop in the middle."""
    with pytest.raises(ValueError, match="caption 'item 0': unknown word 'item'"):
        Described(MEMORY, Words(tuple(word for word in Words.learn(CAPTIONS) if word != "item")))
