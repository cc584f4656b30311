"""The report of a run: self-contained, correct in its drawings, and available for every run."""

import base64
import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import PROGRAM, Browser
from PIL import Image

from diffjax import cli, plot, report
from diffjax.report import Series, page, pictures, svg
from diffjax.tools import report as tool

VOID = {"meta", "input", "img", "br"}


class Checked(HTMLParser):
    """A parser that checks that tags are balanced, and collects their contents."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process; return exit code, stdout and stderr."""

    def run(*flags) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["report.py", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(tool.run)
        return (ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def copy(toy, tmp_path):
    """Return a copy of a run, with an evaluation and a second launch."""
    workdir = tmp_path / "run"
    shutil.copytree(toy, workdir)
    result = {
        "protocol": {"guidance": 1.5, "passes": 30, "sampler": {"name": "heun"}},
        "frechet": {"distance": 0.51234, "floor": 0.25, "ratio": 2.04936},
        "memorization": {"samples": 1.5, "held_out": 1.25, "ratio": 1.2},
    }
    bits = {"bpd": {"bits": 3.21, "protocol": {"dequantize": "truncated_normal"}}}
    report = {"results": [result], "network": bits, "commit": "abc"}
    (workdir / "evaluation.json").write_text(json.dumps(report))
    Image.new("RGB", (9, 9)).save(workdir / "evaluation.png")
    with (workdir / "launches.jsonl").open("a") as file:
        file.write(json.dumps({"time": "2030-01-02T03:04:05+0000", "step": 2, "commit": "fed"}))
    return workdir


def test_the_page_shows_the_run_and_loads_nothing(copy, call):
    """A page that loads a part over the network would be empty on another machine."""
    code, out, err = call(f"--workdir={copy}")
    assert code == 0, err
    assert out.startswith(f"wrote {copy / 'report.html'} (")
    text = (copy / "report.html").read_text()
    made = Checked(text)
    assert not re.search(r"""(src|href)=(?!"data:image/)|url\(|@import|https?:""", text)
    assert not made.all("link") and len(made.all("script")) == 1
    titles = [tag for tag, _ in made.seen if tag in ("h1", "h2")]
    assert titles == ["h1"] + ["h2"] * 7
    shown = " ".join(made.text)
    for part in (
        "Finished: step 4 of 4, last launch 2030-01-02 03:04, commit fed",
        "Held-out",
        "Loss by noise level",
        "moons",
        "0.5123",
        "bpd: 3.21 bits/dim",
        "network",
    ):
        assert part.lower() in shown.lower()
    labels = [svg["aria-label"] for svg in made.all("svg")]
    assert [label.split(" over")[0] for label in labels] == [
        "Loss",
        "Loss by noise level",
        "Gradient norm",
        "Images per second",
    ]
    assert text.count('class="mark"') == 3  # the second launch, in all curves
    assert [img["alt"] for img in made.all("img")] == [
        "samples at step 4",
        "trade-offs",
        "training data",
    ]


@pytest.mark.parametrize(
    "name", ["data.json", "launches.jsonl", "metrics.jsonl", "evaluation.json", "samples"]
)
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "nonsense"])
def test_whatever_is_missing_or_half_written_leaves_a_page(copy, name, damage):
    """The run that is still writing, or was killed, would have no page."""
    path = copy / name
    if name == "samples":
        path = next(path.glob("*.png"))
    whole = path.read_bytes()
    new = {"empty": b"", "cut": whole[: len(whole) * 2 // 3]}
    if damage == "gone":
        path.unlink()
    else:
        odd = b'{"step": "x", "command": 3, "devices": 1, "results": [2, {"protocol": 3}]}\n\xff\n'
        path.write_bytes(new.get(damage, odd))
    Checked(report.document(report.read(copy), None))


@pytest.mark.parametrize("text", ['{"train": 3, "data": {"na', '{"train": 3, "data": 4}'])
def test_a_damaged_config_leaves_a_page(copy, call, text):
    (copy / "config.json").write_text(text)
    code, out, err = call(f"--workdir={copy}")
    assert code == 0, err
    assert ("note: config.json: cannot be read" in out) == text.endswith("na")
    Checked((copy / "report.html").read_text())


HOSTILE = """</style></table><script>alert("1")</script><img src=x onerror='2'>&lt; $body"""


def test_texts_of_a_run_are_shown_and_not_executed(copy, call):
    """Paths, commands and class names from a run would be executed as HTML."""
    config = json.loads((copy / "config.json").read_text())
    config["data"][HOSTILE] = HOSTILE
    config[HOSTILE] = {"name": HOSTILE}
    (copy / "config.json").write_text(json.dumps(config))
    with (copy / "launches.jsonl").open("a") as file:
        odd = {"command": [HOSTILE], "commit": HOSTILE, "time": HOSTILE, "devices": [HOSTILE]}
        file.write("\n" + json.dumps(odd) + "\n")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 1.0, f"loss_at_logsnr/{HOSTILE}": 1.0}) + "\n")
    evaluated = {"results": [{"protocol": {HOSTILE: HOSTILE}, "frechet": {"distance": HOSTILE}}]}
    evaluated["network"] = {HOSTILE: {HOSTILE: HOSTILE}}
    (copy / "evaluation.json").write_text(json.dumps(evaluated))
    code, _, err = call(f"--workdir={copy}", f"--out={copy / 'there' / 'a.html'}")
    assert code == 0, err
    made = Checked((copy / "there" / "a.html").read_text())
    assert len(made.all("script")) == 1
    assert all(image["src"].startswith("data:image/") for image in made.all("img"))
    assert all("onerror" not in attributes for _, attributes in made.seen)
    assert "".join(made.text).count(HOSTILE) >= 6


def test_mistakes_are_answered_in_one_line(copy, call, tmp_path):
    for flags, said in (
        ([f"--workdir={tmp_path / 'none'}"], "no run here"),
        ([f"--workdir={copy}", f"--out={copy / 'config.json' / 'a.html'}"], "cannot be written"),
    ):
        code, _, err = call(*flags)
        assert code == 2
        (line,) = err.splitlines()
        assert line.startswith("error: --") and said in line


def row(steps, values) -> Series:
    return Series(np.array(steps), np.array(values, float))


def test_a_record_leaves_out_what_is_no_number(tmp_path):
    """One NaN would hide the whole curve."""
    rows = [{"step": 5, "loss": float("nan")}, {"step": 2, "loss": 1.5}, {"step": 9, "loss": "x"}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    record = report.read(tmp_path)
    assert [a.tolist() for a in record.series("loss")] == [[2], [1.5]]
    assert record.last == 9


def test_the_time_of_training_is_that_of_its_rates(tmp_path):
    """The training time would be wrong.

    Steps 1 to 10 at 16 images per second, steps 11 to 30 at 32, 8 images each.
    """
    rows = [{"step": 10, "images_per_s": 16.0}, {"step": 30, "images_per_s": 32.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "config.json").write_text('{"train": {"batch_size": 8}}')
    assert report.read(tmp_path).seconds == pytest.approx(5 + 5)
    assert page.duration(3725.0) == "1 h 2 min 5 s"


@pytest.mark.parametrize("values", [[0.2, 0.25, 0.21], [1e-4, 0.3, 20.0], [-1.0, 0.0, 5.0], [3.0]])
def test_a_curve_goes_through_its_points(values):
    """A curve would be off. It is read back from the picture with the axis numbers of a reader."""
    steps = np.arange(1, len(values) + 1) * 10
    drawn = svg.curves({"a": row(steps, values)}, "a")
    path = re.search(r'class="line c0" d="M([^"]*)"', drawn)[1]
    points = np.array([part.split() for part in path.split("L")], float)
    ticks = re.findall(r'<text x="(.*?)" y="(.*?)" class="(end|mid)">([^s].*?)</text>', drawn)
    scale = lambda v: float(v.removesuffix("k")) * (1000 if v.endswith("k") else 1)
    ups = np.array([(float(y) - 4, scale(v)) for _, y, kind, v in ticks if kind == "end"])
    log = min(values) > 0 and max(values) > 10 * min(values)
    assert len(ups) >= 2
    heights = np.log(ups[:, 1]) if log else ups[:, 1]
    slope, offset = np.polyfit(ups[:, 0], heights, 1)
    np.testing.assert_allclose(slope * ups[:, 0] + offset, heights, atol=0.02 * np.ptp(heights))
    read = slope * points[:, 1] + offset
    expected = np.log(values) if log else np.array(values)
    np.testing.assert_allclose(read, expected, atol=0.02 * np.ptp(heights))
    x = [(float(x), scale(v)) for x, _, kind, v in ticks if kind == "mid"]
    (x0, s0), (x1, s1) = x[0], x[-2]
    np.testing.assert_allclose(points[:, 0], x0 + (steps - s0) / (s1 - s0) * (x1 - x0), atol=0.2)


def test_a_long_curve_is_drawn_by_means():
    """A million steps would become megabytes of path."""
    values = np.random.default_rng(0).normal(size=12_345)
    thin = svg.thin(row(np.arange(len(values)), values))
    assert len(thin.steps) <= svg.MOST
    np.testing.assert_allclose(thin.values[:-1], values[: 587 * 21].reshape(-1, 21).mean(1))
    assert (np.diff(thin.steps) > 0).all()


def test_a_map_has_a_box_for_each_value_and_the_ends_of_its_colours():
    """Noise levels that were not drawn would seem to have a value."""
    rows = {-2.0: row([1, 2, 3], [1, 2, 3]), 0.0: row([2], [100])}
    drawn, low, high = svg.heat(rows, "m", 2.0)
    boxes = re.findall(r'<rect x="(.*?)" y="(.*?)" width=.*? fill="(.*?)"', drawn)
    assert len(boxes) == 4
    assert (low, high) == (1, 100)
    assert boxes[0][2] == "#440154" and boxes[3][2] == "#fde725"
    assert boxes[3][0] == boxes[1][0]  # the same step
    assert float(boxes[3][1]) < float(boxes[1][1])  # a larger log-SNR is higher up


def test_large_pictures_are_made_small(tmp_path, monkeypatch):
    """A page of tens of megabytes could not be sent."""
    monkeypatch.setattr(pictures, "BYTES", pictures.BYTES // 4)
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    folder = tmp_path / "samples"
    plot.save(folder / "step_00000001.png", noise)
    for step in range(2, 31):
        shutil.copy(folder / "step_00000001.png", folder / f"step_{step:08d}.png")
    record = report.read(tmp_path)
    text = report.document(record, noise)
    assert len(text) < 5e6 / 4
    made = Checked(text)
    assert made.all("input")[0]["max"] == "11"
    alts = [image["alt"] for image in made.all("img")]
    assert alts[0] == "samples at step 1" and alts[11] == "samples at step 30"
    for image in made.all("img"):
        data = base64.b64decode(image["src"].partition(",")[2])
        assert Image.open(io.BytesIO(data)).size >= (250, 250)


def test_a_small_picture_is_kept_as_it_is(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    plot.save(tmp_path / "a.png", image)
    source = pictures.embedded(tmp_path / "a.png", 13)
    data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


WIDE = [{f"metric {k}": 1.2345 * (k + row) for k in range(17)} for row in range(2)]


def test_results_that_do_not_fit_become_blocks_of_named_values():
    """A reader would not know which name belongs to which value."""
    read = Checked(page.wide_table(WIDE))
    assert [cell["data-name"] for cell in read.all("td")] == [*WIDE[0], *WIDE[1]]
    style = re.search(r"@container \(max-width: ([\d.]+)rem\)", page.wide_table(WIDE))
    assert style and float(style[1]) == pytest.approx(17 * page.COLUMN)


@pytest.mark.thorough
@pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
def test_results_are_never_wider_than_the_page(tmp_path):
    """Columns at the right would be cut off."""
    record = report.Record(tmp_path, {}, {}, [], [], {}, {}, [])
    text = report.document(record, None)
    table = f'<div class="card wide">{page.wide_table(WIDE)}</div>'
    (tmp_path / "a.html").write_text(text.replace("</body>", f"{table}</body>"))
    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "a.html")
        for width in (320, 400, 800, 1200):
            browser.resize(width, 900)
            box = "(t => t.scrollWidth <= t.parentElement.clientWidth)"
            assert browser.run(f"{box}(document.querySelector('.numbers'))"), width
            assert browser.run("document.documentElement.scrollWidth <= innerWidth"), width
