"""Encoding of data sets: what is stored, drawn in training, resumed and refused."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from codecs_of_tests import SHAPE, codec
from commands import ended, one_device

from diffjax import builder
from diffjax.codecs import encoding as module
from diffjax.config import ConfigError
from diffjax.data import Batches, Memory, Reading, latents
from diffjax.data.source import NoSplit
from diffjax.encoders import Described, Words
from diffjax.tools.encode import doubt

CODEC = "codecs_of_tests:codec"
SLOW = """
import time
from diffjax.codecs import encoding
from diffjax.tools import encode

append, encoding.SECONDS = encoding.Rows.append, 0.2
encoding.Rows.append = lambda *args: (append(*args), time.sleep(0.3))
encode.run()
"""
"""The command, which waits after each block."""


def images(num: int, seed: int = 0) -> Memory:
    """Return images with labels and vectors."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (num, 8, 8, 1), np.uint8)
    vector = rng.normal(size=(num, 3)).astype(np.float32)
    label = np.arange(num, dtype=np.int32) % 3
    return Memory(x, label, 3, "image", {"vector": vector}, class_names=("a", "b", "c"))


class Interrupted:
    """A source that is interrupted, as by ctrl-C, where an item behind `last` is read."""

    def __init__(self, source, last):
        self._source, self._last, self.form = source, last, source.form

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        if self._last <= index.max() < len(self) - 1:
            raise KeyboardInterrupt
        return self._source[index]

    def labels(self):
        return self._source.labels()


def encoding(train, batch_size=4, flips=True, **settings):
    return module.Encoding(
        codec(**settings),
        {"train": train, "test": images(5, 1)},
        Reading(),
        {"data": {"name": "mine"}, "codec": "c"},
        flips=flips,
        batch_size=batch_size,
    )


def test_captions_are_those_of_the_images(tmp_path):
    """A latent would be trained with the caption of another image."""
    texts = [[f"image {i}", f"number {i} é"][: i % 3] for i in range(6)]
    source = dataclasses.replace(images(6), texts=texts)
    encoding(source).run(tmp_path / "latents")
    train, test = (latents(split, str(tmp_path / "latents")) for split in ("train", "test"))
    assert len(train) == 12 and train.captions(np.array([5, 1, 8, 7])) == [
        texts[k] for k in (5, 1, 2, 1)
    ]
    assert test.captions(np.arange(5)) == [[]] * 5
    encoder = Words(Words.learn(text for row in texts for text in row))
    batches = Batches(Described(train, encoder), 7, seed=1)
    for item, row in zip(batches.items(3), batches[3]["text"], strict=True):
        assert any((row == encoder([text])["text"]).all() for text in texts[item % 6] or [""])
    (tmp_path / "latents" / "train" / "captions.jsonl").write_text('["a"]\n' * 5)
    with pytest.raises(ValueError, match=r"captions\.jsonl: has 5 lines for 12 latents"):
        latents("train", str(tmp_path / "latents"))


def bytes_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_moments_conditions_and_names_are_stored_and_drawn(tmp_path):
    """A network would see other latents than those of the codec, or each latent only once."""
    source = images(10)
    with one_device():
        about = encoding(source).run(tmp_path / "z")
    assert about["items"] == {"train": 20, "test": 5} and about["form"]["units"]["codec"] == "haar"
    train, test = (latents(split, str(tmp_path / "z")) for split in ("train", "test"))
    assert (len(train), len(test), train.form.shape) == (20, 5, SHAPE)
    assert train.form.class_names == ("a", "b", "c") and train.form.names == ["label", "vector"]
    assert isinstance(train.moments, np.memmap) and train.moments.dtype == np.float16
    mirrored = np.concatenate([source.x, source.x[:, :, ::-1]])
    mean, std = codec().moments(np.float32(mirrored / 127.5 - 1))
    np.testing.assert_allclose(train.moments[..., :4], mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(train.moments[..., 4:], std, rtol=1e-3)
    index = np.array([17, 3, 3])
    items = train[index]
    np.testing.assert_array_equal(items["label"], source.label[index % 10])
    np.testing.assert_array_equal(items["vector"], source.cond["vector"][index % 10])
    np.testing.assert_array_equal(items["x"], train[index]["x"])
    eps = (items["x"] - np.asarray(train.moments[index, ..., :4])) / train.moments[index, ..., 4:]
    assert abs(eps.mean()) < 0.4 and 0.7 < eps.std() < 1.3
    batches = Batches(train, 8, seed=1, reading=Reading())
    epoch = [batches[k] for k in range(5)]  # two epochs of 20
    np.testing.assert_array_equal(epoch[4]["x"], batches[4]["x"])
    rows = Batches(train, 8, seed=1, reading=Reading(), rows=np.array([2, 5]))[4]
    np.testing.assert_array_equal(rows["x"], epoch[4]["x"][[2, 5]])
    x, vector = (np.concatenate([batch[name] for batch in epoch]) for name in ("x", "vector"))
    first, second = (np.lexsort(vector[part].T) for part in (slice(20), slice(20, 40)))
    assert (vector[:20][first] == vector[20:][second]).all()
    assert len(np.unique(x.round(5), axis=0)) == 40


@pytest.mark.parametrize("last", [0, 9])
def test_an_interrupted_encoding_resumes_with_the_same_bytes(tmp_path, last):
    """Half of the latents would be zeros, or all images be encoded again."""
    source, out = images(16), tmp_path / "some"
    with one_device():
        encoding(source).run(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            encoding(Interrupted(source, last)).run(out)
        with pytest.raises(ValueError, match="the encoding is not complete; repeat the command"):
            latents("train", str(out))
        stated = json.loads((out / "encoding.json").read_text())["done"]
        assert stated == {"train": 4 if last else 0, "test": 0}
        if last:  # a process that is killed leaves rows that it has not recorded
            with (out / "train" / "moments.npy").open("ab") as file:
                file.write(b"half a row")
        encoding(source).run(out)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    before = (out / "train" / "moments.npy").stat().st_mtime_ns
    encoding(source).run(out)
    assert (out / "train" / "moments.npy").stat().st_mtime_ns == before


def test_what_cannot_be_encoded_is_refused(tmp_path):
    source, out = images(4), tmp_path / "z"
    with one_device():
        encoding(source).run(out)
        with pytest.raises(ConfigError, match="codec is 'haar' there and 'vae' here; use another"):
            encoding(source, fingerprint="vae").run(out)
        with pytest.raises(ConfigError, match="flips is True there and False here"):
            encoding(source, flips=False).run(out)
        with pytest.raises(ConfigError, match="holds other files; needs a new or an empty folder"):
            encoding(source).run(tmp_path)
        with pytest.raises(ValueError, match=re.escape("points items (2,); needs images")):
            encoding(Memory(np.zeros((4, 2), np.float32)))
        with pytest.raises(ValueError, match=re.escape("does not encode images (7, 8, 1)")):
            encoding(Memory(np.zeros((4, 7, 8, 1), np.uint8)))
    for settings, message in (
        ({"scale": 0.5}, "scale=0.5, kind='latent': .* holds moments"),
        ({"kind": "vector"}, "kind='vector': .* holds moments"),
    ):
        with pytest.raises(ValueError, match=message):
            latents("train", str(out), **settings)
    about = json.loads((out / "encoded.json").read_text())
    (out / "encoded.json").write_text(json.dumps(about | {"items": {"train": 9}}))
    with pytest.raises(ValueError, match="has the shape"):
        latents("train", str(out))
    with pytest.raises(NoSplit, match="split='test'"):
        latents("test", str(out))
    assert "0.1 times the deviation" in doubt([0.1, 0.1], codec().normalisation)
    assert not doubt([1.5, 0.7], codec().normalisation)


def test_the_command_encodes_for_training(tmp_path, monkeypatch, capsys):
    """Flags would be read otherwise than the source and the codec of a config."""
    np.savez(tmp_path / "a.npz", x=images(8).x, y=images(8).label)
    source, out = f"array:{tmp_path / 'a.npz'},holdout=0.4", tmp_path / "z"
    with one_device():
        flags = (f"--codec={CODEC}", f"--out={out}")
        assert ended(monkeypatch, "tools.encode", source, *flags) == 0
        shown = capsys.readouterr().out
        assert f"--config.data.name=latents:{out} --config.data.codec={CODEC}" in shown
        opened = builder.construct_data({"name": f"latents:{out}", "labels": True}, "config.data")
        assert opened[1].form(opened[0]("train")).classes == 3
        assert json.loads((out / "encoded.json").read_text())["data"]["holdout"] == 0.4
        for other, line in (
            (("moons", *flags), "points items (2,); needs images"),
            ((f"{source},flip=True", *flags), "SOURCE: flip: does not apply to encoding"),
            (("digits", "--codec=none", f"--out={out}"), "--codec=none: no such file or folder"),
        ):
            assert ended(monkeypatch, "tools.encode", *other) == 2
            error = capsys.readouterr().err
            assert line in error and error.count("\n") == 1


@pytest.mark.thorough
def test_an_encoding_that_is_killed_resumes_with_the_same_bytes(tmp_path, monkeypatch):
    """Rows that a killed process had written but not recorded would stand twice in the files."""
    np.savez(tmp_path / "a.npz", x=images(40).x, y=images(40).label)
    flags = ("array:a.npz,holdout=0.2", "--batch-size=4", f"--codec={CODEC}")
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    killed = subprocess.Popen(
        [sys.executable, "slow.py", *flags, "--out=some"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    file, deadline = tmp_path / "some" / "train" / "moments.npy", time.monotonic() + 600
    while not (file.exists() and file.stat().st_size > 3000):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "some" / "encoded.json").exists()
    with one_device():
        for out in ("some", "whole"):
            assert ended(monkeypatch, "tools.encode", *flags, f"--out={out}") == 0
    assert bytes_of(tmp_path / "some") == bytes_of(tmp_path / "whole")
