"""The page that plays sounds."""

import base64
import re

import numpy as np
import pytest
from browser import PROGRAM, Browser

from diffjax.data.kinds.audio import AUDIO
from diffjax.data.kinds.players import page
from diffjax.data.kinds.storing import wav_bytes

RATE = 8000


def tones():
    """Two tones of 0.5 s, the second of which ends after 0.25 s."""
    x = 0.5 * np.sin(2 * np.pi * np.array([[440.0], [660.0]]) * np.arange(RATE // 2) / RATE)
    x[1, RATE // 4 :] = np.nan
    return x[..., None].astype(np.float32)


def test_a_page_holds_each_sound_to_its_end(tmp_path):
    """A listener would hear other sounds than the samples, or silence where they have ended."""
    x = tones()
    AUDIO.whole()[".html"].write(tmp_path / "new" / "a.html", x, {"rate": RATE}, {})
    text = (tmp_path / "new" / "a.html").read_text()
    held = [base64.b64decode(part) for part in re.findall(r"audio/wav;base64,([^\"]+)", text)]
    assert held == [wav_bytes(x[0], RATE), wav_bytes(x[1, : RATE // 4], RATE)]
    assert "sound 1, 0.25 s" in text and "http" not in text.replace("http-equiv", "")
    assert page((32768 * np.nan_to_num(x)).astype(np.int16), RATE, "<b>").count("<b>") == 0
    named = page(x, RATE, "Two", ["<i>one", "two"])
    assert "&lt;i&gt;one, 0.5 s" in named and "two, 0.25 s" in named and "<i>" not in named


@pytest.mark.thorough
@pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
def test_a_browser_plays_the_page(tmp_path):
    """The policy of the page would refuse the sounds that it holds."""
    (tmp_path / "a.html").write_text(page(tones(), RATE, "Two tones"))
    lengths = """Promise.all([...document.querySelectorAll("audio")].map(audio =>
      audio.readyState ? audio.duration : new Promise(done => {
        audio.onloadedmetadata = () => done(audio.duration); audio.onerror = () => done(-1); })))"""
    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "a.html")
        assert browser.run(lengths) == pytest.approx([0.5, 0.25], abs=1e-3)
        assert browser.run("[...document.images].every(picture => picture.naturalWidth > 0)")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
