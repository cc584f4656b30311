"""Marked samples are found again by the commands, and requests that cannot work are refused."""

import json
import re
import shutil

import numpy as np
import pytest
from commands import ended, one_device
from PIL import Image

import diffjax
from diffjax import builder, config
from diffjax.config import ConfigError
from diffjax.generation.tickets import planned
from diffjax.runs.trained import Trained
from diffjax.watermark import Watermark, bits_of, read_key

SETTINGS = (
    "network={'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2}",
    "parameterization.name=v",
    "sampling.steps=4",
    "sampling.sampler.name=ddim",
)


@pytest.fixture(scope="module", autouse=True)
def one():
    with one_device():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A network of digits that predicts v = 0, whose samples are its noise times a number, and a
    folder of marked samples."""
    place = tmp_path_factory.mktemp("marked")
    e = builder.experiment(config.override(config.load("digits_vp"), SETTINGS))
    Trained(e.denoiser(e.parameters()), e).save(place / "run")
    with pytest.MonkeyPatch.context() as patch:
        tool = lambda *flags: ended(patch, *flags)
        assert tool("tools.watermark", "key", f"--out={place}/key", "--bits=16") == 0
        assert tool("tools.watermark", "key", f"--out={place}/other", "--bits=16") == 0
        sampled = (f"--workdir={place}/run", "--num=4", "--seed=5,9", f"--out={place}/images")
        assert tool("sample", *sampled, f"--watermark={place}/key,message=ab") == 0
    return place


@pytest.fixture
def detect(world, monkeypatch, capsys):
    """Run the detector in this process; return its exit code, its lines and its error."""

    def run(*flags):
        given = (f"--workdir={world}/run", "--steps=4", "--label=0", *flags)
        code = ended(monkeypatch, "tools.watermark", "detect", *given)
        out, error = capsys.readouterr()
        return code, out.splitlines(), error

    return run


def test_marked_images_are_found(world, detect):
    """Marked images would not be recognised, or those of another key would."""
    images = f"--image={world}/images"
    for more in ((), ("--message=ab",)):
        code, lines, _ = detect(images, f"--key={world}/key", *more)
        assert code == 0 and len(lines) == 5 and "4 of 4 marked" in lines[-1]
        for line, nonce in zip(lines, ((5, 0), (9, 0), (5, 1), (9, 1)), strict=False):
            assert line.endswith(f"message 'ab', seed {nonce[0]}, number {nonce[1]}")
            assert "64 of 64 agree (1.000)" in line
    code, lines, _ = detect(images, f"--key={world}/other")
    assert code == 1 and lines[-1].startswith("0 of 4 marked")
    assert all("not marked (needs" in line for line in lines[:4])


def test_images_without_metadata_need_candidates(world, detect, tmp_path):
    """A copy without metadata would never be found; a search would find marks everywhere."""
    for file in (world / "images").iterdir():
        with Image.open(file) as image:
            image.convert("L").save(tmp_path / f"{file.stem}.jpg", quality=95)
    images = f"--image={tmp_path}", f"--key={world}/key", "--rate=1e-4"
    code, lines, _ = detect(*images, "--seed=5,9", "--most=3", "--message=ab")
    assert code == 0 and "seed 9, number 1" in lines[3]
    code, lines, _ = detect(*images, "--seed=4", "--most=3", "--message=ab")
    assert code == 1 and "0 of 4" in lines[-1]


def test_registered_messages_are_told_apart(world, detect, tmp_path):
    """Whose image it is would be said wrongly."""
    (tmp_path / "users").write_text("xy\nab\n0x0\n\n")
    (file,) = (world / "images").glob("000001*")
    code, lines, _ = detect(f"--image={file}", f"--key={world}/key", f"--messages={tmp_path}/users")
    assert code == 0 and "message 'ab'" in lines[0]


def test_metadata_say_how_a_sample_was_made(world):
    """Nobody could repeat a sample, or know whether it is marked."""
    (file,) = (world / "images").glob("000003*")
    with Image.open(file) as image:
        text = dict(image.info)
    key = read_key(world / "key")
    assert json.loads(text["watermark"]) == {"key": key.name, "bits": 16}
    assert (text["seed"], text["index"], text["label"]) == ("9", "1", "1")
    assert {"sampler", "steps", "guidance", "weights", "trained", "Software"} <= set(text)
    assert key.secret.hex() not in str(text)  # nor the message, as the key and the bits are all
    plain = diffjax.load(world / "run").sample(2, label=3)
    assert plain.stamp(1)["watermark"] == "none" and plain.stamp(1)["label"] == "3"
    assert json.loads(plain.stamp()["label"]) == [3, 3] and plain.stamp()["num"] == "2"


def test_a_mark_changes_signs_alone(world):
    """Sample k would depend on its batch, or a trajectory show other samples."""
    trained = diffjax.load(world / "run")
    mark = Watermark(read_key(world / "key"), bits_of("ab", 16))
    job = trained.job(seed=9, watermark=mark, label=1, batch_size=2)
    x = job.path(3).x[-1]
    whole = job.samples(3)
    np.testing.assert_array_equal(job.decoding(x), whole.x)
    plain = trained.job(seed=9, label=1).path(3).x[-1]
    np.testing.assert_allclose(np.abs(x), np.abs(plain), atol=1e-5)
    assert (np.sign(x) != np.sign(plain)).mean() > 0.3
    assert job.key != trained.job(seed=9, label=1).key
    seen = []
    trained.sample(3, seed=9, watermark=mark, label=1, preview=seen.append, every=2)
    np.testing.assert_allclose(seen[-1].x, x, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "more", "why"),
    [
        ("KEY", ("--sampler=ancestral",), "the sampler adds noise to the initial one"),
        ("KEY", ("--from=FILE",), "marks the initial noise, which --from replaces"),
        ("KEY,message=abc", (), "has 24 bits; the key allows 16"),
        ("KEY,mesage=a", (), "did you mean 'message'?"),
        ("KEY,noisy=3", (), "needs bool, got int"),
        ("FILE", (), "is no key"),
        ("none", (), "cannot be read"),
    ],
)
def test_what_cannot_be_marked_is_refused(world, monkeypatch, capsys, spec, more, why):
    """Samples would be unmarked, or marked beyond recognition, in silence."""
    (file,) = (world / "images").glob("000000*")
    flags = (f"--watermark={spec}", *more)
    flags = [f.replace("KEY", f"{world}/key").replace("FILE", str(file)) for f in flags]
    code = ended(monkeypatch, "sample", f"--workdir={world}/run", "--num=1", *flags)
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and "--watermark" in error and why in error


def test_a_noisy_sampler_is_marked_on_request(world):
    """There would be no way to measure what such samplers lose."""
    trained = diffjax.load(world / "run")
    job = trained.job(sampler="ancestral", watermark=f"{world}/key,message=a,noisy=True", label=0)
    assert job.watermark.noisy and "watermark" in str(job)
    with pytest.raises(ValueError, match="an engine does not mark samples"):
        planned(job)


def test_other_requests_are_refused(world, detect, tmp_path):
    """A wrong command would end in a traceback or a wrong result."""
    images, key = f"--image={world}/images", f"--key={world}/key"
    for flags, why in (
        ((images, key, "--rate=1"), "--rate=1: needs 0 < rate < 1"),
        ((images, "--key=none"), "none: cannot be read"),
        ((f"--image={tmp_path}", key), "no images in it"),
        ((images, key, "--message=abc"), "has 24 bits"),
        ((images, key, "--message=a", "--messages=b"), "allowed: one of them"),
        ((images, key, "--messages=none"), "--messages=none: cannot be read"),
        ((images, key, "--prompt=a"), "without captions"),
    ):
        code, _, error = detect(*flags)
        assert code == 2 and error.count("\n") == 1 and why in error, error
    shutil.copy(world / "key", tmp_path / "many")
    many = json.loads((tmp_path / "many").read_text()) | {"bits": 65}
    (tmp_path / "many").write_text(json.dumps(many))
    code, _, error = detect(images, f"--key={tmp_path}/many")
    assert code == 2 and "an item has 64 values" in error
    with pytest.raises(ConfigError, match=re.escape("--watermark")):
        diffjax.cascade([world / "run", world / "run"]).job(watermark=f"{world}/key")
