"""Tar files of images with captions and classes: each stays with its image, or a clear refusal."""

import gzip
import json
import tarfile

import numpy as np
import pytest
from shards_of_tests import packed, png

from diffjax.config import ConfigError
from diffjax.data import Batches, Reading, load, webdataset
from diffjax.encoders import TEXT, Described, Words


def image(grey: int) -> bytes:
    return png(np.full((4, 4, 3), grey, np.uint8))


def shards(path, number=3, each=5):
    """Shards whose image k is grey k, of class k % 3, with captions that say k."""
    for s in range(number):
        rows = {}
        for k in range(s * each, s * each + each):
            texts = f"grey {k}\n\n{k} of many\n".encode()
            facts = json.dumps({"caption": f"grey {k}", "captions": [f"image {k}"]}).encode()
            rows |= {f"a/{k}.png": image(k), f"a/{k}.txt": texts, f"a/{k}.json": facts}
            rows |= {f"a/{k}.cls": f"{k % 3}\n".encode(), f"a/{k}.url": b"http://"}
        packed(path / f"s-{s:03d}.tar", rows)
    return f"{path}/s-{{000..{number - 1:03d}}}.tar"


def test_captions_and_classes_stay_with_their_images(tmp_path):
    """A network would draw other things than its prompts say."""
    path, index = shards(tmp_path), np.array([7, 2, 11])
    whole, of_folder = (webdataset("train", p, holdout=0.0) for p in (path, str(tmp_path)))
    assert len(whole) == 15 and whole.classes == 3
    for source in (whole, of_folder):
        items = source[index]
        assert items["x"][:, 0, 0, 0].tolist() == [*index] == [7, 2, 11]
        assert items["label"].tolist() == [1, 2, 2]
        assert source.captions(index)[0] == ["grey 7", "7 of many", "image 7"]
    alone = webdataset("train", path, holdout=0.0, captions=("captions",))
    assert alone.captions([3]) == [["grey 3", "3 of many", "image 3"]]
    texts = [text for row in whole.captions(range(15)) for text in row]
    words = Described(whole, Words(Words.learn(texts)))
    batch, seen = Batches(words, 40, seed=1)[0], set()
    for grey, row in zip(batch["x"][:, 0, 0, 0], batch[TEXT], strict=True):
        texts = {t: words.encoder([t])[TEXT][0] for t in whole.captions([int(grey)])[0]}
        seen |= {t.split()[0] for t, right in texts.items() if np.array_equal(right, row)}
        assert any(np.array_equal(right, row) for right in texts.values())
    assert {"grey", "image"} < seen  # epochs draw other captions


def test_hosts_read_disjoint_rows_of_one_order(tmp_path):
    """A run on two hosts would train on some images twice, or resume in another order."""
    source = webdataset("train", shards(tmp_path), holdout=0.2)
    whole = Batches(source, 4, seed=3, reading=Reading())
    parts = [Batches(source, 4, seed=3, rows=slice(2 * h, 2 * h + 2)) for h in (0, 1)]
    for k in (5, 0):
        both = np.concatenate([part[k]["x"] for part in parts])
        np.testing.assert_array_equal(both, whole[k]["x"])


def test_splits_are_disjoint_and_complete(tmp_path):
    """Held-out images would be trained on."""
    path = shards(tmp_path)
    greys = [set(load(webdataset(s, path, holdout=0.4)).x[:, 0, 0, 0]) for s in ("train", "test")]
    assert greys[0] | greys[1] == {*range(15)} and not greys[0] & greys[1] and all(greys)
    two, one = f"{tmp_path}/s-{{000..001}}.tar", f"{tmp_path}/s-002.tar"
    own = [webdataset(split, two, one) for split in ("train", "test")]
    assert [len(source) for source in own] == [10, 5]
    for split in ("train", "val"):
        (tmp_path / "sets" / split).mkdir(parents=True)
    for s, split in enumerate(("train", "train", "val")):
        (tmp_path / f"s-00{s}.tar").rename(tmp_path / "sets" / split / f"s-00{s}.tar")
    sets = [webdataset(s, str(tmp_path / "sets")) for s in ("train", "test")]
    assert [len(source) for source in sets] == [10, 5]


def test_names_in_a_shard_are_no_paths(tmp_path):
    """A shard could read or write files beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in" / "s.tar", {"../secret.png": image(1), "/etc/a.png": image(2)})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("../secret.txt")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.txt")
        archive.addfile(link)
    source = webdataset("train", str(path), holdout=0.0)
    assert load(source).x[:, 0, 0, 0].tolist() == [1, 2]
    assert source.captions([0, 1]) == [[], []]
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["in", "s.tar", "secret.txt"]


def damage(path, where: bytes, shift: int):
    content = bytearray(path.read_bytes())
    content[content.index(where) + shift] ^= 255
    path.write_bytes(content)


def test_damaged_shards_and_members_are_named(tmp_path):
    """Items behind the damage would vanish, or have the captions of others."""
    rows = {"a.png": image(1), "a.txt": b"one", "b.png": image(2), "b.txt": b"two"}
    path = packed(tmp_path / "s.tar", rows)
    opened = lambda **more: webdataset("train", str(path), holdout=0.0, **more)
    whole = path.read_bytes()
    for content, match in (
        (whole[:2600], "s.tar: (is cut off|cannot be read) after b.png"),
        (whole[:3072], "s.tar: is cut off after b.png"),
        (gzip.compress(whole), "s.tar: cannot be read; needs an uncompressed .tar"),
        (b"", "s.tar: cannot be read; needs an uncompressed .tar"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=match):
            opened()
    path.write_bytes(whole)
    damage(path, b"b.png", 3)  # the checksum of the header
    with pytest.raises(ValueError, match=r"s.tar: is damaged after a.txt"):
        opened()
    path.write_bytes(whole)
    damage(path, image(2), 1)
    with pytest.raises(ConfigError, match=r"s.tar: b.png: unreadable"):
        opened()[np.arange(2)]
    assert opened(unreadable=1)[np.arange(2)]["x"][:, 0, 0, 0].tolist() == [1, 1]
    path.write_bytes(whole)
    damage(path, b"two", 0)
    with pytest.raises(ConfigError, match=r"s.tar: b.txt: damaged \("):
        opened().captions([1])


def test_what_is_ambiguous_or_missing_is_refused(tmp_path):
    """A class, an image or a shard would be guessed."""

    def refused(rows, match, error=ValueError, **settings):
        path = packed(tmp_path / "s.tar", rows)
        opened = lambda: webdataset("train", str(path), holdout=0.0, **settings)
        with pytest.raises(error, match=match):
            opened().captions(np.array([0]))

    one = {"a.jpg": image(1)}
    refused(one | {"a.png": image(2)}, "s.tar: a: has .jpg and .png; set image='jpg'")
    refused({"a.txt": b"one"}, "s.tar: no images in it")
    refused(one, "no images in it; known endings: .webp", image="webp")
    refused(one | {"a.cls": b"1", "b.jpg": image(2)}, r"s.tar: b: has no .cls, and other items do")
    refused(one | {"a.cls": b"cat"}, "a.cls: damaged .*'cat': needs an integer", ConfigError)
    refused(one | {"a.json": b"[1]"}, "a.json: damaged .*needs an object", ConfigError)
    refused(one | {"a.json": b"{"}, "a.json: damaged", ConfigError)
    refused(one | {"a.json": b'{"text": 3}'}, "a.json: damaged .*text: needs a text", ConfigError)
    refused({"a.jpg": image(1), "./a.jpg": image(1)}, r"s.tar: ./a.jpg: occurs twice")
    picked = one | {"a.seg.png": image(2)}
    path = str(packed(tmp_path / "s.tar", picked))
    assert load(webdataset("train", path, holdout=0.0)).x[0, 0, 0, 0] == 1
    assert load(webdataset("train", path, holdout=0.0, image="seg.png")).x[0, 0, 0, 0] == 2
    with pytest.raises(ValueError, match=r"s-3.tar: no such file or folder"):
        webdataset("train", f"{tmp_path}/s-{{3..4}}.tar")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no .tar files in it; left out: nothing"):
        webdataset("train", str(tmp_path / "none"))
    packed(tmp_path / "t.tar", {"a.jpg": image(1), "a.cls": b"7"})
    packed(tmp_path / "s.tar", {"a.jpg": image(1), "a.cls": b"2"})
    with pytest.raises(ConfigError, match=r"t.tar: a: class 7: no such class in training"):
        webdataset("test", f"{tmp_path}/s.tar", f"{tmp_path}/t.tar")
