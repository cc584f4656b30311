"""The commands as a user types them: their output, and their answers to mistakes."""

import contextlib
import functools
import io
import json
import re
import resource
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import TINY, ended, one_device, process
from PIL import Image

import diffjax
from diffjax import builder, config, evaluate
from diffjax.data import digits
from diffjax.features import judge
from diffjax.grids import GRIDS
from diffjax.runs.trained import Trained
from diffjax.samplers import SAMPLERS
from diffjax.training import loop

COMMANDS = ("train", "sample", "evaluate")


@pytest.fixture(autouse=True, scope="module")
def one(toy):
    """Use one device from here on; `toy`, which other modules share, is trained on all before."""
    with one_device():
        yield


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process; return exit code, stdout and stderr."""

    def run(command: str, *flags) -> tuple[int, str, str]:
        capsys.readouterr()
        return (ended(monkeypatch, command, *flags), *capsys.readouterr())

    return run


@pytest.fixture
def works(call):
    """Run a command that has to succeed, and return its stdout."""

    def run(command: str, *flags) -> str:
        code, out, err = call(command, *flags)
        assert code == 0, err
        return out

    return run


@pytest.fixture
def refused(call):
    """Run a command that has to be refused, and return its one line."""

    def run(command: str, *flags) -> str:
        code, out, err = call(command, *flags)
        assert code == 2, (code, out, err)
        assert "Traceback" not in err
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        return lines[-1]

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train a tiny run on digits by the command itself; return its workdir."""
    workdir = tmp_path_factory.mktemp("run") / "digits"
    flags = [f"--config.{assignment}" for assignment in TINY]
    flags = ["--config=configs/digits_vp.py", f"--workdir={workdir}", *flags]
    with (log := workdir.parent / "stderr.txt").open("w") as file:
        done = process("train", *flags, stderr=file)
    assert done.returncode == 0, log.read_text()
    assert f"next: python -m diffjax.sample --workdir={workdir}" in done.stdout
    return workdir


def archive(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as data:
        return data["arr_0"], data["arr_1"]


def test_training_writes_what_the_help_lists(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["train"]["steps"] == 6
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert [p.name for p in (trained / "samples").iterdir()] == ["step_00000006.png"]
    assert list((trained / "tensorboard").glob("events.*"))
    (launch,) = [json.loads(s) for s in (trained / "launches.jsonl").read_text().splitlines()]
    assert {"command", "commit", "packages", "devices", "python", "time"} <= set(launch)
    assert "--config=configs/digits_vp.py" in launch["command"]
    assert {p.name for p in (trained / "checkpoints").iterdir()} == {"3", "6"}


def test_without_a_terminal_there_is_one_plain_line_per_log_step(trained):
    """The log of a batch system would be one long line of carriage returns."""
    log = (trained.parent / "stderr.txt").read_bytes().decode()
    assert not re.search(r"[\r\x1b]", log)
    numbers = r"(  \w+ [\d.e+-]+)+"
    lines = re.findall(rf"^train (\d+)/6 step(?={numbers}  left \d\d:\d\d$)(.*)", log, re.M)
    assert [int(step) for step, *_ in lines] == [3, 6]
    assert all(f"  {name} " in line for *_, line in lines for name in ("loss", "images_per_s"))
    assert "/" not in "".join(line for *_, line in lines)  # no noise levels


def test_a_writer_that_is_not_installed_is_refused_before_training(refused, tmp_path, monkeypatch):
    """The run would stop at its first line of metrics, after compiling for minutes."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(loop, "begin", lambda *_: pytest.fail("initialised before"))
    flags = [f"--config.{assignment}" for assignment in (*TINY, "train.writers=('wandb',)")]
    line = refused("train", "--config=configs/digits_vp.py", f"--workdir={tmp_path}", *flags)
    assert line.endswith("config.train.writers: wandb is not installed: pip install wandb")


@pytest.fixture(scope="module")
def ten(trained, tmp_path_factory) -> np.ndarray:
    """Draw ten samples with the command itself."""
    path = tmp_path_factory.mktemp("ten") / "ten.npz"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        assert ended(patch, "sample", f"--workdir={trained}", "--num=10", f"--out={path}") == 0
    shown = out.getvalue()
    assert "step 6, ema power, ddim: 3 rows, 3 network passes per sample, guidance 1" in shown
    assert shown.endswith(f"wrote {path}\n")
    return archive(path)[0]


def test_samples_are_written_as_grid_archive_and_folder_at_once(trained, tmp_path, works):
    outs = [tmp_path / "new" / "a.png", tmp_path / "b.npz", tmp_path / "folder"]
    works("sample", f"--workdir={trained}", "--num=10", *(f"--out={path}" for path in outs))
    x, label = archive(outs[1])
    assert (x.dtype, x.shape) == (np.uint8, (10, 8, 8, 1))
    np.testing.assert_array_equal(label, np.arange(10))
    names = sorted(p.name for p in outs[2].iterdir())
    assert names == [f"{k:06d}.png" for k in range(10)]
    for k, name in enumerate(names):
        np.testing.assert_array_equal(np.asarray(Image.open(outs[2] / name)), x[k, ..., 0])
    with Image.open(outs[0]) as picture:
        assert picture.mode == "RGB"
        small = np.asarray(picture)[2:66:8, 2:66:8, 0]
    np.testing.assert_array_equal(small, x[0, ..., 0])
    assert not (trained / "samples.npz").exists()


@pytest.mark.parametrize(
    ("run", "ending"),
    [
        ("toy", "gif"),
        pytest.param("trained", "png", marks=pytest.mark.thorough),
        pytest.param("trained", "gif", marks=pytest.mark.thorough),
        pytest.param("toy", "png", marks=pytest.mark.thorough),
    ],
)
def test_trajectories_are_drawn(request, tmp_path, works, run, ending):
    """The trajectories of samples, of images or of points, would be missing."""
    path, workdir = tmp_path / f"a.{ending}", request.getfixturevalue(run)
    flags = ["--num=3", "--steps=4", "--sampler=ddim", f"--out={tmp_path / 'a.npz'}"]
    out = works("sample", f"--workdir={workdir}", *flags, f"--trajectory={path}")
    assert f"wrote {path}" in out
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == (4 if ending == "gif" else 1)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 2


def test_samplers_and_grids_are_listed_without_a_run(works):
    """Users would have to read the code to learn which entries exist."""
    out = works("sample", "--list")
    for name in (*SAMPLERS, *GRIDS):
        assert f"  {name} " in out or f"  {name}\n" in out
    assert "order=3, bh1=False, corrector=True" in out


@pytest.mark.parametrize(
    "flags",
    [pytest.param(["--num=3"], marks=pytest.mark.thorough), ["--num=10", "--batch-size=4"]],
    ids=str,
)
def test_sample_k_depends_neither_on_the_number_nor_on_the_batch(
    trained, tmp_path, works, ten, flags
):
    works("sample", f"--workdir={trained}", f"--out={tmp_path / 'a.npz'}", *flags)
    x, _ = archive(tmp_path / "a.npz")
    assert np.abs(x.astype(int) - ten[: len(x)]).max() <= 1
    assert np.ptp(ten.astype(int)) > 100


def test_flags_of_sampling_are_obeyed(trained, tmp_path, works):
    out = works(
        *("sample", f"--workdir={trained}", "--num=4", f"--out={tmp_path / 'a.npz'}"),
        *("--sampler=ddim:eta=0.5", "--grid=logsnr_uniform", "--steps=2"),
        *("--guidance=2", "--label=7,3"),
    )
    assert "ddim: 2 rows, 4 network passes per sample, guidance 2" in out
    x, label = archive(tmp_path / "a.npz")
    np.testing.assert_array_equal(label, [7, 3, 7, 3])
    assert len(x) == 4


@pytest.mark.thorough
def test_a_run_guided_by_itself_is_not_guided(trained, tmp_path, works, ten):
    """Autoguidance from the command line would use another network than the named one."""
    out = works(
        *("sample", f"--workdir={trained}", "--num=10", f"--out={tmp_path / 'a.npz'}"),
        *("--guidance=3", f"--reference=network:workdir={trained}"),
    )
    assert "3 rows, 6 network passes per sample, guidance 3, reference network" in out
    assert np.abs(archive(tmp_path / "a.npz")[0].astype(int) - ten).max() <= 1


def test_seeds_numbers_and_weights_of_samples_are_asked_for_by_flags(trained, tmp_path, works, ten):
    """A single sample could not be drawn again alone, or with growing guidance."""
    start = ["sample", f"--workdir={trained}", f"--out={tmp_path / 'a.npz'}"]
    out = works(*start, "--index=3,7", "--label=3,7")
    assert f"wrote {tmp_path / 'a.npz'}\n" in out
    x, label = archive(tmp_path / "a.npz")
    assert np.abs(x.astype(int) - ten[[3, 7]]).max() <= 1 and label.tolist() == [3, 7]
    out = works(*start, "--index=3", "--label=3", "--seed=0,0,1", "--weight=1,2,1")
    assert f"wrote {tmp_path / 'a.npz'}, replacing an older file" in out
    assert "3 to 6 network passes per sample, guidance 1, 2, 1 for samples in turn" in out
    x = archive(tmp_path / "a.npz")[0].astype(int)
    assert len(x) == 3 and np.abs(x[0] - ten[3]).max() <= 1
    assert np.abs(x[2] - x[0]).max() > 1


@pytest.mark.parametrize("ending", ["", pytest.param(".gif", marks=pytest.mark.thorough)])
def test_previews_are_written_on_the_way(trained, tmp_path, works, refused, ending):
    """A long sampling would show nothing, or the x0 of another batch."""
    path, out = tmp_path / f"previews{ending}", tmp_path / "a.png"
    flags = ["--num=10", "--batch-size=5", "--every=2", f"--previews={path}", f"--out={out}"]
    said = works("sample", f"--workdir={trained}", *flags)
    assert f"wrote {path}: 2 previews" in said
    if ending:
        with Image.open(path) as film:
            assert film.n_frames == 2
        return
    assert sorted(p.name for p in path.iterdir()) == ["row_0002.png", "row_0003.png"]
    with Image.open(path / "row_0003.png") as last, Image.open(out) as whole:
        assert last.size != whole.size  # five samples of ten
        corner = np.asarray(whole)[:66, :66].astype(int)
        assert np.abs(np.asarray(last)[:66, :66] - corner).max() <= 1
    line = refused("sample", f"--workdir={trained}", *flags)
    assert f"--previews={path}: exists already; needs a new or an empty folder" in line


def test_all_of_guidance_is_asked_for_by_flags(trained, toy, tmp_path, works, refused):
    """A flag would be read and not used."""
    flags = ["--rule=apg:momentum=-0.3", "--reference=cached:every=2", "--threshold=dynamic"]
    flags += ["--ramp=linear", "--interval=0.01,50", "--guidance=3", "--num=4"]
    start = ["sample", f"--workdir={trained}"]
    out = works(*start, *flags, f"--out={tmp_path / 'a.npz'}")
    shown = "guidance 3, ramp linear, interval (0.01, 50.0), reference cached, rule apg, "
    assert shown + "threshold dynamic" in out
    line = refused(*start, "--guidance=2", f"--reference=network:workdir={toy}")
    assert "config.sampling.guidance.reference.workdir" in line and "was trained on" in line
    assert "needs two numbers" in refused(*start, "--interval=1")


@pytest.mark.parametrize("flag", ["--seed=1", "--sampler=ddim:eta=1"])
def test_seed_and_sampler_change_the_samples(trained, tmp_path, works, ten, flag):
    """A flag that is read but not used would go unnoticed."""
    works("sample", f"--workdir={trained}", "--num=10", flag, f"--out={tmp_path / 'a.npz'}")
    assert (archive(tmp_path / "a.npz")[0] != ten).mean() > 0.5


@pytest.mark.thorough
def test_evaluation_shows_and_stores_its_numbers(trained, works, monkeypatch):
    monkeypatch.setattr(judge, "BATCH", 32)  # a classifier that is fitted fast
    monkeypatch.setattr(judge, "classifier", functools.partial(judge.classifier, width=8))
    flags = ["--num=20", "--steps=2", "--guidance=2", "--real=500"]
    out = works("evaluate", f"--workdir={trained}", *flags)
    report = json.loads((trained / "evaluation.json").read_text())
    (result,) = report["results"]
    protocol = {"guidance": 2, "passes": 4, "rows": 2, "trained": 6, "num": 20, "seed": 0}
    protocol |= {"ema": "power", "sampler": {"name": "ddim"}}
    assert protocol.items() <= result["protocol"].items()
    assert result["protocol"]["features"]["name"] == "pixels"
    reference = result["protocol"]["reference"]
    assert (reference["data"], reference["train"]["items"]) == ("digits", 500)
    assert {"time", "commit", "devices"} <= set(report)
    assert result["frechet"]["count"] == 20
    assert result["frechet"]["distance"] > 0
    assert result["memorization"]["samples"] > 0
    assert 0 <= result["classifier"]["agreement"] <= 1
    assert result["classifier"]["test_accuracy"] > 0.9
    assert f" {result['frechet']['distance']:.4g} |" in out
    assert {"name": "digits", "labels": True}.items() <= report["config"]["data"].items()


def test_the_form_of_people_s_own_array_follows_from_it(tiny_array, tmp_path, works, monkeypatch):
    """The network would be built for other sizes, channels or classes."""
    untrained = SimpleNamespace(step=0), None
    monkeypatch.setattr("diffjax.runs.launch.train", lambda *_, **__: untrained)
    data = f"--config.data.name=array:{tiny_array}"
    works(
        "train",
        "--config=digits_vp",
        f"--workdir={tmp_path}",
        data,
        "--config.network.attention=(3,)",
    )
    form = json.loads((tmp_path / "data.json").read_text())
    assert {"kind": "image", "shape": [6, 6, 1]}.items() <= form.items()
    assert form["conditions"] == {"label": {"kind": "label", "size": 3}}


@pytest.mark.thorough
@pytest.mark.typed
def test_people_s_own_images_are_trained_on_sampled_and_evaluated(tiny_folder, tmp_path, works):
    """More than the data line would have to change for a user's images.

    Sizes, channels and classes follow from the data. Sampling works after the data are removed,
    because the workdir records their shape.
    """
    flags = [f"--config.{assignment}" for assignment in TINY]
    run, data = tmp_path / "run", f"--config.data.name=folder:{tiny_folder}"
    config = ["--config=digits_vp", data, "--config.data.flip=True", "--config.data.holdout=0.3"]
    works("train", f"--workdir={run}", *config, *flags)
    form = json.loads((run / "data.json").read_text())
    flags = ["--num=8", "--steps=2", "--guidance=1", "--metrics=frechet,memorization:pairs=2"]
    assert "| Frechet |" in works("evaluate", f"--workdir={run}", *flags)
    (result,) = json.loads((run / "evaluation.json").read_text())["results"]
    assert result["protocol"]["reference"]["test"]["items"] >= 4
    assert list(run.glob("evaluation/*.png"))  # the closest pairs
    stored = json.loads((run / "config.json").read_text())
    stored["data"] |= {"name": "folder", "path": "/gone"}
    (run / "config.json").write_text(json.dumps(stored))
    works("sample", f"--workdir={run}", "--num=3", f"--out={tmp_path / 'a.npz'}")
    assert archive(tmp_path / "a.npz")[0].shape[1:] == tuple(form["shape"])


def test_data_that_turn_out_damaged_stop_the_run_and_are_named(tmp_path, refused, tiny_tfds):
    """An unreadable record would raise a traceback that names no file."""
    data = shutil.copytree(tiny_tfds, tmp_path / "data")
    last = sorted(data.rglob("tiny-train.array_record-*"))[-1]
    raw = bytearray(last.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = bytes(40)
    last.write_bytes(raw)
    flags = [f"--config.{assignment}" for assignment in TINY]
    config = [
        "--config=digits_vp",
        "--config.data.name=tfds:tiny",
        f"--config.data.data_dir={data}",
    ]
    few = ["--config.data.memory=0", "--config.train.batch_size=8", "--config.data.size=8"]
    line = refused("train", f"--workdir={tmp_path / 'run'}", *config, *flags, *few)
    assert last.name in line
    assert "damaged" in line


def test_points_are_sampled_into_an_archive(toy, tmp_path, works):
    out = works("sample", f"--workdir={toy}", "--num=9", f"--out={tmp_path / 'a.npz'}")
    assert "heun: 3 rows, 3 network passes per sample, guidance 1" in out
    with np.load(tmp_path / "a.npz") as data:
        assert list(data) == ["arr_0"]
        assert (data["arr_0"].shape, data["arr_0"].dtype) == ((9, 2), np.float32)


@pytest.mark.thorough
def test_adaptive_steps_are_run_and_their_passes_reported(toy, tmp_path, works, refused):
    """The reported passes would be missing, or be those of a table."""
    out = works(
        *("sample", f"--workdir={toy}", "--num=5", f"--out={tmp_path / 'a.npz'}"),
        "--sampler=adaptive:rtol=0.01,atol=0.01",
    )
    assert "step 4, ema constant, adaptive: steps by error, guidance 1" in out
    low, high = map(int, re.search(r"network passes per sample: (\d+) to (\d+)", out).groups())
    assert 5 < low <= high
    with np.load(tmp_path / "a.npz") as data:
        assert data["arr_0"].shape == (5, 2) and np.isfinite(data["arr_0"]).all()
    few = "--sampler=adaptive:most=1"
    film = f"--trajectory={tmp_path / 'b.png'}"
    assert "--trajectory: adaptive steps" in refused("sample", f"--workdir={toy}", few, film)


@pytest.mark.thorough
def test_samples_that_do_not_arrive_are_one_line(toy, call, tmp_path):
    """Unfinished samples would be saved as samples."""
    flags = ["--num=3", "--sampler=adaptive:most=1", f"--out={tmp_path / 'a.npz'}"]
    code, _, err = call("sample", f"--workdir={toy}", *flags)
    assert code == 1 and "Traceback" not in err
    assert "error: sample 0 of its batch needs more than 1 steps" in err
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.thorough
def test_a_corrector_and_a_path_are_asked_for_by_flags(toy, tmp_path, works):
    """A flag that is read but not used would go unnoticed."""
    made = []
    for flags in ([], ["--noise=brownian"], ["--corrector=refresh:share=0.2"]):
        path = tmp_path / "a.npz"
        out = works(
            *("sample", f"--workdir={toy}", "--num=9", f"--out={path}", "--steps=4"),
            *("--sampler=ddim_sde", *flags),
        )
        assert f"ddim_sde: {8 if 'corrector' in str(flags) else 4} rows" in out
        with np.load(path) as data:
            made.append(data["arr_0"])
    assert np.abs(made[1] - made[0]).max() > 0.01 and np.abs(made[2] - made[0]).max() > 0.01


def test_samples_start_from_a_file(toy, works, tmp_path):
    """The command would start from other items than the library, or from noise."""
    x0 = np.float32([[1, 2], [2, 1]])
    np.save(tmp_path / "a.npy", x0)
    flags = [f"--from={tmp_path / 'a.npy'}", "--strength=0.4", f"--out={tmp_path / 'a.npz'}"]
    out = works("sample", f"--workdir={toy}", *flags, "--num=4", "--steps=5", "--sampler=ddim")
    assert "ddim: 2 rows, 2 network passes per sample" in out
    assert "from 2 points, strength 0.4" in out
    how = {"strength": 0.4, "steps": 5, "sampler": "ddim"}
    by_library = diffjax.load(toy).sample(4, start=x0, **how)
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["arr_0"], by_library.x)


def test_without_out_there_is_one_picture_in_the_workdir(toy, tmp_path, works):
    others = shutil.ignore_patterns("samples*.png")  # pictures of other tests
    toy = shutil.copytree(toy, tmp_path / "toy", ignore=others)
    assert f"wrote {toy / 'samples.png'}" in works("sample", f"--workdir={toy}", "--num=9")
    before = (toy / "samples.png").read_bytes()
    again = works("sample", f"--workdir={toy}", "--num=8")
    assert f"wrote {toy / 'samples_2.png'}\n" in again  # an earlier one is never lost
    assert (toy / "samples.png").read_bytes() == before != (toy / "samples_2.png").read_bytes()
    with Image.open(toy / "samples.png") as picture:
        assert picture.size == (500, 500)


def test_samples_from_elsewhere_are_scored_and_tabled(tmp_path, works, refused):
    """Samples of another program would be compared with the wrong data, or not at all."""
    real = digits("train")
    np.savez(tmp_path / "a.npz", real.x[:20], real.label[:20])
    flags = [f"--samples={tmp_path / 'a.npz'}", "--metrics=frechet,memorization:pairs=0"]
    works("evaluate", *flags, "--data=digits")
    (result,) = json.loads((tmp_path / "a.evaluation.json").read_text())["results"]
    assert result["memorization"]["samples"] == 0 and result["frechet"]["count"] == 20
    assert {"num": 20, "samples": f"{tmp_path / 'a.npz'}"}.items() <= result["protocol"].items()
    out = works("evaluate", "--table", tmp_path / "a.evaluation.json", tmp_path / "none")
    assert out.count("\n") == 3 and f" {result['frechet']['distance']:.4g} |" in out
    assert "--table: no results found" in refused("evaluate", "--table", tmp_path / "none")
    assert "--workdir: missing" in refused("evaluate", *flags)


@pytest.mark.thorough
def test_points_are_evaluated_in_cells_without_a_classifier(toy, works):
    """A combination would be left out, or use the samples of another one."""
    lists = ["--sampler=ddim:eta=0.5,ddim", "--steps=3,4"]
    out = works("evaluate", f"--workdir={toy}", "--num=50", *lists)
    assert out.count("\n| ") == 6 and f"wrote {toy / 'evaluation.png'}" in out
    results = json.loads((toy / "evaluation.json").read_text())["results"]
    told = [r["protocol"] for r in results]
    wanted = [(eta, steps) for eta in (0.5, None) for steps in (3, 4)]
    assert [(p["sampler"].get("eta"), p["steps"]) for p in told] == wanted
    assert len({r["frechet"]["distance"] for r in results}) == 4
    assert told[0]["features"]["name"] == "pixels" and "classifier" not in results[0]
    out = works("evaluate", f"--workdir={toy}", "--metrics=bpd:steps=4,num=20", "--split=train")
    assert "bits/dim on 20 items of moons train" in out
    report = json.loads((toy / "evaluation.json").read_text())
    assert report["results"] == results  # earlier results are kept
    assert report["network"]["bpd"]["protocol"]["dequantize"] == "none"


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--out=a.jpg"], ["--out=a.jpg", ".png, .npz"]),
        (["--trajectory=a.jpg"], ["--trajectory=a.jpg", ".png, .gif"]),
        (["--sampler=dmpp"], ["sampler", "'dmpp'", "ab_angle, ab_logsnr, ancestral"]),
        (["--sampler=ddim:eat=1"], ["sampler", "eat", "did you mean 'eta'?"]),
        (["--sampler=ddim:eta"], ["'ddim:eta'", "no value"]),
        (["--sampler=ddim:eta=2"], ["eta=2", "0 <= eta <= 1"]),
        (["--sampler="], ["sampler"]),
        (["--grid=unifrom"], ["grid", "did you mean 'uniform'?"]),
        (["--label=10"], ["--label=10", "0 to 9"]),
        (["--label=-1"], ["--label=-1", "0 to 9"]),
        (["--label=seven"], ["--label=seven: no such class; known: 0 to 9"]),
        (["--guidance=nan"], ["--guidance", "'nan': needs a finite number"]),
        (["--guidance=much"], ["--guidance", "much"]),
        (["--steps=0"], ["--steps", "at least 1"]),
        (["--num=0"], ["--num", "at least 1"]),
        (["--num=1.5"], ["--num", "1.5"]),
        (["--batch-size=-2"], ["--batch-size", "at least 1"]),
        (["--seed=-1"], ["--seed", "0 to 4294967295"]),
        (["--seed=1,-1"], ["--seed", "'-1': needs an integer"]),
        (["--index=-1"], ["--index", "'-1': needs an integer of at least 0"]),
        (["--index="], ["--index"]),
        (["--strength=0.5"], ["--strength=0.5: applies to --from, which is missing"]),
        (["--strength=0", "--from=a.png"], ["--strength", "0: needs 0 < strength <= 1"]),
        (["--from=none.png"], ["--from=none.png: no such file or folder of images"]),
        (["--from="], ["--from", "is empty"]),
        (["--index=1,2,3", "--num=2"], ["--index: 3 values for 2 samples; needs at most 2"]),
        (["--label=1,2,3", "--num=2"], ["--label: 3 values for 2 samples; needs at most 2"]),
        (["--weight=1,nan"], ["--weight", "'nan': needs a finite number"]),
        (["--weight=2", "--guidance=3"], ["--weight: --guidance=3 sets a weight too"]),
        (["--every=2"], ["--every=2", "--previews", "missing"]),
        (["--previews=a", "--every=4"], ["--every=4: the sampler has 3 rows; needs at most 3"]),
        (["--previews=a", "--sampler=adaptive"], ["--previews=a: adaptive steps differ"]),
        (["--previews=a.png"], ["--previews=a.png: unknown ending; known: .gif, none (a folder)"]),
        (["--nmu=3"], ["unrecognized arguments: --nmu=3 (did you mean --num?)"]),
        (["--nu=3"], ["unrecognized arguments: --nu=3"]),
        (["stray"], ["unrecognized arguments: stray; flags have the form --name=value"]),
    ],
    ids=lambda v: v[0],
)
def test_sampling_refuses_what_it_cannot_do(trained, refused, flags, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused("sample", f"--workdir={trained}", *flags)
    for part in parts:
        assert part in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/a.npz", "file/a.png", "dir.png"])
def test_an_out_that_cannot_be_written_is_refused(toy, refused, tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "dir.png").mkdir()
    line = refused("sample", f"--workdir={toy}", "--num=9", f"--out={tmp_path / name}")
    assert f"--out={tmp_path / name}: cannot be written" in line


@pytest.mark.parametrize("ending", [".pdb", ".stl"])
def test_files_of_other_programs_are_not_written_as_folders(toy, refused, tmp_path, ending):
    """A user would get a folder where another program expects a file."""
    line = refused("sample", f"--workdir={toy}", "--num=9", f"--out={tmp_path}/out{ending}")
    assert f"out{ending}: unknown ending; known: .png, .npz, .csv" in line


@pytest.mark.parametrize(("dropout", "weights"), [(0.1, [1.0, 1.5]), (0.0, [1.0])])
def test_only_networks_that_lacked_conditions_are_guided_unasked(tmp_path, dropout, weights):
    """The table would show a line that training has not prepared."""
    changes = ["network.width=8", f"loss.condition_dropout={dropout}"]
    e = builder.experiment(config.override(config.load("moons_vp"), changes))
    Trained(e.denoiser(e.parameters()), e).save(tmp_path / "run")
    asked = evaluate.flags().parse_args([f"--workdir={tmp_path / 'run'}"])
    asked.base = asked.workdir
    assert [cascade.last.about["guidance"] for cascade in evaluate.jobs(asked)] == weights


def test_points_are_not_written_as_images(toy, refused, tmp_path):
    line = refused("sample", f"--workdir={toy}", "--num=9", f"--out={tmp_path / 'folder'}")
    assert "folder: unknown ending; known: .png, .npz, .csv" in line


@pytest.mark.parametrize(
    ("flag", "part"),
    [("--label=0", "none (unconditional)"), ("--guidance=2", "network is unconditional")],
)
def test_an_unconditional_network_takes_no_label_and_no_guidance(toy, refused, flag, part):
    assert part in refused("sample", f"--workdir={toy}", flag)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--num=3"], "needs at least 4"),
        (["--guidance=1,x"], "--guidance"),
        (["--guidance=nan"], "finite"),
        (["--label=3"], "unrecognized arguments: --label=3"),
        (["--sampler=dmpp"], "'dmpp'"),
        (["--metrics=bdp"], "did you mean 'bpd'"),
        (["--metrics=bpd:num=8,trase=exact"], "did you mean 'trace'"),
        (["--metrics=bpd:trace=x"], "known: exact, gaussian"),
        (["--metrics=vlb", "--data=moons"], "items of shape (2,)"),
        (
            ["--metrics=frechet", "--data=moons"],
            "items of shape (2,): the network generates image items of shape (8, 8, 1)",
        ),
        (["--metrics=bpd", "--ema=power,raw"], "--ema=power,raw: needs a single average for bpd"),
        (["--features=inceptoin"], "did you mean 'inception'"),
        (["--samples=none.npz"], "--samples=none.npz: no such .npz file"),
        (["--metrics=vlb", "--split=valid"], "--split: invalid choice: 'valid'"),
    ],
    ids=lambda v: v[0],
)
def test_evaluation_refuses_what_it_cannot_do(trained, refused, flags, part):
    assert part in refused("evaluate", f"--workdir={trained}", *flags)


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_workdir_without_a_run_is_named_with_what_to_do(command, refused, trained, tmp_path):
    line = refused(command, f"--workdir={tmp_path / 'none'}")
    assert f"--workdir={tmp_path / 'none'}: no run here" in line
    assert "python -m diffjax.train" in line and "there are runs in" not in line
    assert not (tmp_path / "none").exists()
    (tmp_path / "runs").symlink_to(trained.parent)
    for near in ("runs", "runs/none"):
        line = refused(command, f"--workdir={tmp_path / near}")
        assert f"; there are runs in {tmp_path / 'runs' / trained.name}" in line


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_run_without_a_checkpoint_is_reported(command, refused, trained, tmp_path):
    for name in ("config.json", "data.json"):
        (tmp_path / name).write_text((trained / name).read_text())
    assert "no checkpoint yet" in refused(command, f"--workdir={tmp_path}")
    (tmp_path / "checkpoints").mkdir()
    assert "no checkpoint yet" in refused(command, f"--workdir={tmp_path}")


@pytest.mark.parametrize("text", ["", "{", '{"seed": 0}', "[]"])
def test_a_damaged_config_of_a_run_is_refused(refused, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert "config" in refused("sample", f"--workdir={tmp_path}")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_workdir_has_to_be_given(command, refused):
    assert "--workdir" in refused(command, *(["--config=x"] if command == "train" else []))


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--config=configs/digit_vp.py"], ["no such file", "did you mean 'digits_vp'?"]),
        (["--config.netwrk.channels=8"], ["config.netwrk", "did you mean 'network'?"]),
        (["--config.network.chanels=8"], ["config.network.chanels", "'channels'"]),
        (["--config.network.channels=abc"], ["config.network.channels='abc'", "int"]),
        (["--config.train.steps=1.5"], ["config.train.steps=1.5", "int"]),
        (["--config.train.steps", "500"], ["500", "--config.field=value"]),
        (["--config.train.steps"], ["config.train.steps", "no value"]),
        (["--config.sde.name=vee"], ["config.sde.name='vee'", "ve, vp"]),
        (["--config.network.heads=3"], ["config.network", "heads=3"]),
        (["--config.data.split=test"], ["config.data.split"]),
        (["--steps=5"], ["unrecognized arguments: --steps=5", "--config.field=value"]),
        (["--work=x"], ["unrecognized arguments: --work=x"]),
        (["stray"], ["unrecognized arguments: stray"]),
    ],
    ids=lambda v: " ".join(v),
)
def test_training_refuses_what_it_cannot_do_and_makes_no_folder(refused, tmp_path, flags, parts):
    config = [] if flags[0].startswith("--config=") else ["--config=digits_vp"]
    line = refused("train", f"--workdir={tmp_path / 'run'}", *config, *flags)
    for part in parts:
        assert part in line
    assert not (tmp_path / "run").exists()


def test_a_misspelt_flag_is_named_rather_than_the_one_that_is_missing(refused):
    """The user would read that --config is required, and see it in his command."""
    line = refused("train", "--configs=digits_vp", "--workdir=run")
    assert "unrecognized arguments: --configs=digits_vp (did you mean --config?)" in line


def test_a_workdir_that_cannot_be_made_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        line = refused("train", "--config=digits_vp", f"--workdir={workdir}")
        assert f"--workdir={workdir}: cannot be written" in line


@pytest.mark.parametrize(
    ("flags", "place", "part"),
    [
        (["--config=digit_vp"], "--config=digit_vp: ", "did you mean 'digits_vp'?"),
        pytest.param(
            *(["--config=digits_vp", "--config.sde.t_max=2"], "config.sde: ", "t_max <= 1"),
            marks=pytest.mark.thorough,
        ),
    ],
    ids=["before jax is loaded", "after"],
)
def test_a_mistake_in_a_process_of_its_own_is_one_line(tmp_path, flags, place, part):
    """A terminal would show something else than the tests above see in this process."""
    done = process("train", *flags, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {place}")
    assert part in line


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("train", "--config --workdir"),
        (
            "sample",
            "--workdir --seed --sampler --grid --steps --batch-size --num --label --guidance --out",
        ),
        (
            "evaluate",
            "--workdir --seed --sampler --grid --steps --batch-size --num --real --guidance",
        ),
    ],
)
def test_help_comes_quickly_and_lists_all_flags(command, flags):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = process(command, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert done.stderr == ""
    for flag in flags.split():
        assert f"  {flag} " in done.stdout
    assert f"python -m diffjax.{command} --" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def test_a_network_that_is_not_finite_is_one_line(trained, call, monkeypatch, tmp_path):
    """A user would read a traceback, without the row at which NaN began."""
    from diffjax.parameterization import V

    monkeypatch.setattr(V, "c_in", lambda self, sde, t: t * np.nan)
    flags = ["--num=33", f"--out={tmp_path / 'a.npz'}"]  # a program that no other test has traced
    code, _, err = call("sample", f"--workdir={trained}", *flags)
    assert code == 1 and "Traceback" not in err
    assert "error: the network's output is not finite at row 0" in err
    assert not (tmp_path / "a.npz").exists()
