"""Blinded pages of images and sounds: correct pairs, and used for real in a browser."""

import base64
import io
import json
import re
import sys
import wave

import numpy as np
import pytest
from browser import PROGRAM, Browser
from PIL import Image

from diffjax.config import ConfigError
from diffjax.data.kinds.storing import wav_bytes
from diffjax.report import blind
from diffjax.tools import compare

PAIRS = 8


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run the tool in this process; return its error or None, and its output."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, flags)])
        try:
            assert compare.run() == 0
        except ConfigError as error:
            return str(error), capsys.readouterr().out
        return None, capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Write dark images with labels as `sample` does, and bright ones as a folder of classes."""
    root, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    x = rng.integers(0, 100, (20, 8, 8, 1), np.uint8)
    np.savez(root / "dark.npz", x, np.arange(20) % 2)
    for k in range(20):
        (root / "bright" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        bright = rng.integers(150, 256, (8, 8), np.uint8)
        Image.fromarray(bright).save(root / "bright" / "ab"[k % 2] / f"{k}.png")
    return root


def decoded(source: str) -> np.ndarray:
    raw = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(raw)))


def inside(page) -> dict:
    text = (page / "index.html").read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_pairs_are_of_one_class_and_no_image_is_shown_twice():
    """A preference for sevens over ones would be measured."""
    a, b = np.array([0] * 3 + [1] * 30 + [2] * 9), np.array([1] * 9 + [2] * 30 + [3] * 5)
    i, j = blind.paired(a, b, 14, np.random.default_rng(0))
    np.testing.assert_array_equal(a[i], b[j])
    assert len(set(i)) == len(set(j)) == 14
    assert np.bincount(a[i]).tolist() == [0, 7, 7]
    again = blind.paired(a, b, 14, np.random.default_rng(1))
    assert set(i) != set(again[0])
    with pytest.raises(ValueError, match=r"num=19: .* allowed: 1 to 18"):
        blind.paired(a, b, 19, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no class in common"):
        blind.paired(a, b + 5, 1, np.random.default_rng(0))


@pytest.mark.parametrize("test", blind.TESTS)
def test_the_key_holds_the_answers_and_the_page_does_not(tool, sets, tmp_path, test):
    """Every rate would be wrong, or participants could read the answers off the page."""
    dark, bright = sets / "dark.npz", sets / "bright"
    flags = [dark, bright, f"--test={test}", f"--num={PAIRS}", "--question=<b>?</b>"]
    error, out = tool(*flags, f"--out={tmp_path}")
    assert error is None and f"wrote {tmp_path / 'index.html'}" in out
    text, told = (tmp_path / "index.html").read_text(), inside(tmp_path)
    assert not re.search(r"""(src|href)=|url\(|@import|https?:""", text)
    assert "&lt;b&gt;?" in text and "<b>?" not in text
    assert not re.search(r'dark\.npz|bright|"hit|seed', text)
    key = json.loads((tmp_path / "key.json").read_text())
    assert key["page"] == told["page"] and key["a"] == str(dark) and key["test"] == test
    own = np.load(dark)["arr_0"]
    assert (
        len(told["trials"]) == len(key["trials"]) == (PAIRS if test == "preference" else 2 * PAIRS)
    )
    hits = [t["hit"] for t in key["trials"]]
    assert hits.count("left") == hits.count("right") and hits != sorted(hits)
    for trial, sources in zip(key["trials"], told["trials"], strict=True):
        images = [decoded(s) for s in sources]
        of_b = [x.min() >= 150 for x in images]
        right = trial["hit"] == "right"
        assert of_b == ([right] if test == "real" else [not right, right])
        if "a" in trial["items"]:
            assert (images[of_b.index(False)] == own[trial["items"]["a"]]).all()  # lossless
    tool(*flags, f"--out={tmp_path / 'again'}")
    assert (tmp_path / "again" / "index.html").read_text() == text
    tool(*flags, "--seed=1", f"--out={tmp_path / 'again'}")
    assert inside(tmp_path / "again")["page"] != told["page"]


def test_real_images_come_from_a_data_set_or_the_run_that_learned_them(tool, sets, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"data": {"name": "digits", "crop": 6}}')
    error, _ = tool(tmp_path / "run", "digits,crop=4", f"--out={tmp_path}")
    assert "images of 6 x 6 and 4 x 4" in error
    error, _ = tool(f"{tmp_path / 'run'},crop=4", "digits,crop=4", f"--out={tmp_path}", "--num=297")
    assert error is None
    assert inside(tmp_path)["size"] == [4, 4]
    error, _ = tool("digits", "digits", f"--out={tmp_path}", "--num=298")
    assert error.endswith("num=298: exceeds the pairs of equal class; allowed: 1 to 297")


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["{}/dark.npz"], "dark.npz: needs two sets of items, A and B, or --results=FILE"),
        (["{}/dark.npz", "{}/gone.npz"], "gone.npz'"),
        (["{}/dark.npz", "digit"], "did you mean 'digits'?"),
        (["{}/dark.npz", "moons"], "moons: points items (2,); needs images or sounds"),
        (["{}/dark.npz", "{}/bright,size=9"], "images of 8 x 8 and 9 x 9; needs one size"),
        (["{}/dark.npz", "{}/bright,sise=9"], "did you mean 'size'?"),
        (
            ["{}/dark.npz", "{}/bright", "--num=21"],
            "num=21: exceeds the pairs of equal class; allowed: 1 to 20",
        ),
        (["--results", "a.json"], "key.json: no key (No such file"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tool, sets, tmp_path, flags, part):
    error, _ = tool(*(f.format(sets) for f in flags), f"--out={tmp_path / 'page'}")
    assert part in error and "\n" not in error
    assert not (tmp_path / "page").exists()


def answers_of(folder, person, side):
    """Write the answers of a person, who chooses a side by that of the hit, as the page does."""
    key = json.loads((folder / "key.json").read_text())
    answers = [
        {"trial": i, "choice": side(trial["hit"]), "ms": 1000 + i}
        for i, trial in enumerate(key["trials"])
    ]
    saved = {"page": key["page"], "participant": person, "answers": answers}
    (path := folder / f"{person}.json").write_text(json.dumps(saved))
    return path


@pytest.mark.parametrize("test", blind.TESTS)
def test_answers_become_rates(tool, sets, tmp_path, test):
    """Someone who is always right, and someone who always chooses the right side."""
    flags = [sets / "dark.npz", sets / "bright", f"--test={test}", f"--num={PAIRS}"]
    tool(*flags, f"--out={tmp_path}")
    sure = answers_of(tmp_path, "sure", lambda hit: hit)
    one_sided = answers_of(tmp_path, "one-sided", lambda _: "right")
    error, out = tool(f"--results={sure}", one_sided, f"--out={tmp_path}")
    assert error is None
    rates = {line.split()[0]: line.split()[2] for line in out.splitlines()[2:5]}
    assert rates == {"sure": "100.0%", "one-sided": "50.0%", "all": "75.0%"}
    assert "equivalent to" in out and "of all answers" in out
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["all"]["rate"] == 0.75 and stored["all"]["right"]["share"] == 0.75
    assert "holds the same answers as" in tool(f"--results={sure}", sure, f"--out={tmp_path}")[0]
    short = json.loads(sure.read_text())
    sure.write_text(json.dumps(short | {"answers": short["answers"][1:]}))
    assert "needs one per trial" in tool(f"--results={sure}", f"--out={tmp_path}")[0]
    sure.write_text(json.dumps(short | {"page": "another"}))
    assert "answers of the page 'another'" in tool(f"--results={sure}", f"--out={tmp_path}")[0]
    assert "no key" in tool(f"--results={sure}", f"--out={tmp_path / 'none'}")[0]


DONE = "state.answers.length"


def choose(browser, how) -> None:
    """Answer by the pictures: `how` receives which of the images are bright."""
    browser.wait("shown != null")
    before = browser.run(DONE)
    seen = browser.run("[...document.querySelectorAll('#images img')].map(i => i.src)")
    how([bool(decoded(s).min() >= 150) for s in seen])
    browser.wait(f"{DONE} == {before + 1}")  # a touch becomes a click later


@pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("test", blind.TESTS)
def test_a_person_answers_in_a_browser_and_is_counted(tool, sets, tmp_path, test):
    """The time of participants would be lost: keys, going back, a reload, touch, the saved file."""
    page = [sets / "dark.npz", sets / "bright", f"--test={test}", f"--num={PAIRS}"]
    assert tool(*page, f"--out={tmp_path}")[0] is None
    many = PAIRS if test == "preference" else 2 * PAIRS
    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "index.html")
        for key in ("f", "j", "Enter"):  # typing a name is no answer
            browser.press(key)
        choose(browser, lambda _: browser.press("ArrowLeft"))
        browser.press("Backspace")
        browser.wait(f"{DONE} == 0")
        choose(browser, lambda b: browser.press("ArrowRight" if b[-1] else "ArrowLeft"))
        choose(browser, lambda b: browser.press("j" if b[-1] else "f"))
        assert browser.run(DONE) == 2
        browser.open(tmp_path / "index.html")  # continues after a reload
        browser.resize(390, 844, ratio=2, mobile=True)
        pairs = ("#images img:first-child", "#images img:last-child")
        places = pairs if test == "preference" else ("#left", "#right")
        for _ in range(2, many):
            choose(browser, lambda b: browser.tap(places[b[-1]]))
        browser.wait("!document.getElementById('end').hidden")
        browser.tap("#end .back")
        browser.wait(f"{DONE} == {many - 1}")
        choose(browser, lambda b: browser.tap(places[b[-1]]))
        browser.wait("!document.getElementById('end').hidden")
        assert f"{many} answers" in browser.run("document.getElementById('summary').textContent")
        assert browser.run("document.documentElement.scrollWidth") == 390
        browser.press("Enter")
        saved = browser.saved(tmp_path, "answers-*-fj.json")
    error, out = tool(f"--results={saved}", f"--out={tmp_path}")
    assert error is None and "100.0%" in out
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["all"]["rate"] == 1 and found["all"]["answers"] == many
    assert found["people"][0]["person"] == "fj" and found["all"]["median_seconds"] > 0
    given = json.loads(saved.read_text())
    assert [a["trial"] for a in given["answers"]] != list(range(many))  # in an order of one's own
    error, _ = tool(f"--results={saved}", saved, f"--out={tmp_path}")
    assert "holds the same answers as" in error


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Write two folders of sounds: low tones, and high ones, which differ by their sign changes."""
    root = tmp_path_factory.mktemp("heard")
    for name, pitch in (("low", 200), ("high", 2000)):
        (root / name).mkdir()
        for k in range(4):
            t = np.arange(800) / 8000
            sound = 0.5 * np.sin(2 * np.pi * (pitch + 7 * k) * t)[:, None]
            (root / name / f"{k}.wav").write_bytes(wav_bytes(sound, 8000))
    return root


def tone(source: str) -> np.ndarray:
    raw = base64.b64decode(source.removeprefix("data:audio/wav;base64,"))
    with wave.open(io.BytesIO(raw)) as file:
        assert file.getframerate() == 8000
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


@pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("test", blind.TESTS)
def test_a_person_listens_in_a_browser_and_is_counted(tool, heard, tmp_path, test):
    """A vocoder could not be judged by those who hear it."""
    high = lambda source: np.mean(np.diff(np.sign(tone(source).astype(float))) != 0) > 0.2
    sets = [f"{heard / name},length=800" for name in ("low", "high")]
    error, _ = tool(*sets, f"--test={test}", "--num=4", f"--out={tmp_path}")
    assert error is None
    assert "sound" in json.loads((tmp_path / "key.json").read_text())["question"]
    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "index.html")
        browser.press("Enter")
        for k in range(4 if test == "preference" else 8):
            browser.wait("shown != null")
            seen = browser.run("[...document.querySelectorAll('#images audio')].map(i => i.src)")
            if k == 0:
                browser.press("1")
                browser.wait("document.querySelector('#images audio').played.length == 1")
            browser.press("ArrowRight" if high(seen[-1]) else "ArrowLeft")
            browser.wait(f"{DONE} == {k + 1}")
        browser.press("Enter")
        saved = browser.saved(tmp_path, "answers-*.json")
    error, out = tool(f"--results={saved}", f"--out={tmp_path}")
    assert error is None and "100.0%" in out
    assert test == "preference" or "sounds called real" in out


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["{}/low,length=800", "digits"], "A and B: audio and image; needs one kind"),
        (["{}/low,length=800", "{}/high,length=400"], "needs equal ones, as by PATH,length=8192"),
        (["{}/low,length=800", "{}/high,lenght=800"], "did you mean 'length'?"),
    ],
)
def test_sounds_that_differ_in_form_are_one_line(tool, heard, tmp_path, flags, part):
    error, _ = tool(*(f.format(heard) for f in flags), f"--out={tmp_path / 'page'}")
    assert part in error and "\n" not in error
    assert not (tmp_path / "page").exists()
