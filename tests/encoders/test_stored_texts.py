"""Captions that are encoded once to a folder, and training that reads them there."""

import dataclasses
import json
import re

import numpy as np
import pytest
from commands import ended
from encoders_of_tests import folder
from PIL import Image

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data import Batches, Memory
from diffjax.encoders import POOLED, TEXT, Described, Pretrained, TextEncoding, clip, stored

N = 7
ROWS = tuple((f"item {i}", f"number {i % 3}", "it is")[: i % 4] for i in range(N))
CAPTIONS = [caption for row in ROWS for caption in row]
TEXTED = "clip:path=clip,pooled=True"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = folder(tmp_path_factory.mktemp("encoder") / "clip", "bigg")
    return clip(path=str(path), pooled=True)


def bytes_of(path):
    return {f.name: f.read_bytes() for f in path.iterdir()}


class Counted:
    """The encoder, which counts its texts and fails after `most` of them."""

    def __init__(self, encoder, most=99):
        self.encoder, self.most, self.texts = encoder, most, []

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def __call__(self, texts):
        self.texts += texts
        if len(self.texts) > self.most:
            raise KeyboardInterrupt
        return self.encoder(texts)


def test_training_reads_what_the_encoder_would_return(encoder, tmp_path):
    """A run with stored captions would differ from one that encodes them itself."""
    counted = Counted(encoder)
    about = TextEncoding(counted, TEXTED, CAPTIONS).run(tmp_path / "texts")
    assert sorted(counted.texts) == sorted({*CAPTIONS, ""}) and about["number"] == len(
        counted.texts
    )
    source = Memory(np.arange(N, dtype=np.float32)[:, None], texts=ROWS)
    here = stored(tmp_path / "texts", TEXTED)
    ours, theirs = (Described(source, by) for by in (here, encoder))
    assert ours.form == theirs.form
    for index in range(4):
        batches = [Batches(described, 5, seed=3)[index] for described in (ours, theirs)]
        for name in ("x", TEXT, POOLED):
            np.testing.assert_array_equal(batches[0][name], batches[1][name])
    assert not np.array_equal(here(["it is"])[TEXT], here(["item 1"])[TEXT])
    TextEncoding(encoder, TEXTED, CAPTIONS, half=True).run(tmp_path / "half")
    half = stored(tmp_path / "half", TEXTED)(["it is"])
    for name, value in encoder(["it is"]).items():
        np.testing.assert_allclose(half[name], value, rtol=1e-3, atol=1e-6)


def test_an_interrupted_encoding_resumes_with_the_same_bytes(encoder, tmp_path, monkeypatch):
    """All captions would be encoded again, or rows stand at other captions."""
    monkeypatch.setattr("diffjax.encoders.stored_texts.BATCH", 2)
    work = TextEncoding(Counted(encoder, 5), TEXTED, CAPTIONS)
    with pytest.raises(KeyboardInterrupt):
        work.run(tmp_path / "some")
    with pytest.raises(ValueError, match="the encoding is not complete"):
        stored(tmp_path / "some", TEXTED)
    again = dataclasses.replace(work, encoder=Counted(encoder))
    again.run(tmp_path / "some")
    assert len(again.encoder.texts) == len({*CAPTIONS, ""}) - 4
    dataclasses.replace(work, encoder=encoder).run(tmp_path / "whole")
    assert bytes_of(tmp_path / "some") == bytes_of(tmp_path / "whole")
    again.encoder.texts.clear()
    assert again.run(tmp_path / "some") and not again.encoder.texts


def test_other_captions_encoders_and_files_are_refused_by_name(encoder, tmp_path):
    """A network would be trained with the conditions of other texts."""
    out = tmp_path / "texts"
    work = TextEncoding(encoder, TEXTED, CAPTIONS)
    work.run(out)
    here = stored(out, TEXTED)
    with pytest.raises(ValueError, match=r"^caption 'a cat': is none of the \d+ captions in"):
        Described(Memory(np.zeros((1, 2)), texts=(("a cat",),)), here)
    with pytest.raises(ValueError, match=r"captions that the encoder clip:path=.* made, not t5"):
        stored(out, "t5:path=t5")
    for change, name in (
        ({"captions": ["a cat"]}, "captions"),
        ({"text": "clip:path=else"}, "encoder"),
        ({"half": True}, "half"),
    ):
        with pytest.raises(ConfigError, match=f"holds captions of other settings: {name} is"):
            dataclasses.replace(work, **change).run(out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        work.run(tmp_path / "other")
    large = Counted(encoder)
    large.encoder = lambda texts: {TEXT: np.full((len(texts), 1, 24), 1e6, np.float32)}
    large.check, large.fingerprint = encoder.check, ""
    with pytest.raises(ConfigError, match="--half: text: exceeds float16"):
        TextEncoding(large, TEXTED, CAPTIONS, half=True).run(tmp_path / "large")
    lines = (out / "captions.jsonl").read_text()
    (out / "captions.jsonl").write_text(lines.replace("it is", "it was"))
    with pytest.raises(ValueError, match=r"captions.jsonl: holds other captions than texts.json"):
        stored(out, TEXTED)
    (out / "captions.jsonl").write_text(lines)
    (out / "cond_text.npy").unlink()
    with pytest.raises(ValueError, match=r"cond_text\.npy: "):
        stored(out, TEXTED)


def test_an_encoder_forgets_texts_beyond_a_number(encoder, monkeypatch):
    """The memory of a long training would fill with texts."""
    monkeypatch.setattr("diffjax.encoders.pretrained.KEPT", 2)
    few = dataclasses.replace(encoder, kept={})
    assert isinstance(few, Pretrained)
    whole = encoder(["it is", "item 1", "item 2"])
    for name, value in few(["it is", "item 1", "item 2"]).items():
        np.testing.assert_array_equal(value, whole[name])
    few(["item 2"])
    assert len(few.kept) == 1


def test_the_command_encodes_for_training(encoder, tmp_path, monkeypatch, capsys):
    """Flags would be read otherwise than the source and the encoder of a config."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "clip", "bigg")
    (tmp_path / "images").mkdir()
    rows = [{"file_name": f"{i}.png", "text": list(ROWS[i])} for i in range(N)]
    (tmp_path / "images/metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for i in range(N):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"images/{i}.png")
    flags = ("folder:images,holdout=0.3", f"--encoder={TEXTED}", "--out=texts")
    assert ended(monkeypatch, "tools.encode", *flags) == 0
    assert f"--config.data.encoder={TEXTED} --config.data.encoded=texts" in capsys.readouterr().out
    section = {"name": "folder:images", "encoder": TEXTED, "encoded": "texts"}
    source, _ = builder.construct_data(section, "config.data")
    items = source("train")[np.arange(2)]
    row = stored(tmp_path / "texts", TEXTED)(
        [row[0] if row else "" for row in source("train").captions(np.arange(2))]
    )
    np.testing.assert_array_equal(items[TEXT], row[TEXT])
    for other, line in (
        ((*flags, "--flips"), "--flips: applies to --codec, which is missing"),
        ((*flags[1:], "moons"), "SOURCE=moons: has no captions"),
        ((flags[0], "--encoder=words", "--out=x"), "--encoder=words: runs no network"),
    ):
        assert ended(monkeypatch, "tools.encode", *other) == 2
        assert line in capsys.readouterr().err
    for change, line in (
        ({"encoder": ""}, "config.data.encoded=texts: needs config.data.encoder"),
        ({"encoder": "words"}, "config.data.encoded=texts: the encoder words runs no network"),
        ({"encoded": "images"}, "config.data.encoded: images: holds no encoded captions"),
    ):
        with pytest.raises(ConfigError, match=re.escape(line)):
            builder.construct_data(section | change, "config.data")[0]("train")
