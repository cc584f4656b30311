"""Cascades of runs: the commands, the interface, latents, items of any size, and refusals."""

import json
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from codecs_of_tests import codec
from commands import ended, one_device
from PIL import Image

import diffjax
from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data.form import Form
from diffjax.generation import Chain, Engine
from diffjax.runs.trained import Trained, load
from diffjax.serve.limits import Limits
from diffjax.serve.requests import Asked
from diffjax.serve.service import Service
from diffjax.specs import Spec

CONFIG = {
    "seed": 0,
    "data": {"name": "digits", "labels": True},
    "sde": {"name": "vp", "schedule": {"name": "cosine"}, "t_max": 0.99},
    "parameterization": {"name": "v"},
    "network": {"name": "cascades_of_tests:network"},
    "loss": {"weight": "uniform_output"},
    "optimizer": {"name": "adamw"},
    "ema": {"name": "constant"},
    "sampling": {"sampler": {"name": "ddim"}, "steps": 3},
    "train": {"writers": ()},
}
ENLARGED = {"enlarged": {"factor": 2, "levels": (0.0, 0.6)}}


def run(**data):
    """An untrained network of digits."""
    with one_device():
        e = builder.experiment({**CONFIG, "data": CONFIG["data"] | data})
        return Trained(e.denoiser(e.parameters()), e)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Exports of the three stages of a cascade from 2 to 4 to 8 pixels."""
    folder = tmp_path_factory.mktemp("cascade")
    run(reduced={"factor": 4}).save(folder / "a")
    run(reduced={"factor": 2}, **ENLARGED).save(folder / "b")
    run(**ENLARGED).save(folder / "c")
    return folder


@pytest.fixture
def works(monkeypatch, capsys):
    def execute(name, *flags) -> str:
        with one_device():
            code = ended(monkeypatch, name, *flags)
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return execute


def stored(path):
    with np.load(path) as file:
        return file["arr_0"], file["arr_1"]


def test_a_chain_is_its_commands_one_after_the_other(runs, works, tmp_path):
    """A cascade would differ from samples that are written, and enlarged by another command."""
    out = tmp_path / "all.npz"
    then = [f"--then={runs / 'b'},tau=0.2,steps=2", f"--then={runs / 'c'},sampler=ddim:eta=1"]
    shown = works("sample", f"--workdir={runs / 'a'}", *then, "--num=7", f"--out={out}")
    assert "stage 1: " in shown and "stage 3: " in shown
    x, label = stored(out)
    assert x.shape == (7, 8, 8, 1) and x.dtype == np.uint8 and label.tolist() == [*range(7)]
    steps = {"a": [], "b": ["--tau=0.2", "--steps=2"], "c": ["--sampler=ddim:eta=1"]}
    low = []
    for name, flags in steps.items():
        file = tmp_path / f"{name}.npz"
        label = [] if name == "a" else ["--label=0,1,2,3,4,5,6"]
        works(
            "sample", f"--workdir={runs / name}", *flags, *low, *label, "--num=7", f"--out={file}"
        )
        low = [f"--low={file}"]
    np.testing.assert_array_equal(x, stored(file)[0])


def test_the_picture_and_the_previews_of_each_stage_are_there(runs, works, tmp_path):
    """The first stage would be shown only when the last one ends."""
    flags = [f"--then={runs / 'b'}", "--num=4", f"--out={tmp_path / 'all.png'}"]
    shown = works(
        "sample", f"--workdir={runs / 'a'}", *flags, f"--previews={tmp_path / 'way'}", "--every=1"
    )
    first = tmp_path / "all_stage_1.png"
    assert shown.index(f"wrote {first}") < shown.index("wrote " + str(tmp_path / "all.png"))
    assert len([*(tmp_path / "way_stage_1").iterdir()]) == 3
    assert len([*(tmp_path / "way_stage_2").iterdir()]) == 3
    with Image.open(first) as picture:
        assert json.loads(picture.text["sampler"])["name"] == "ddim"  # type: ignore[attr-defined]


def test_sample_k_does_not_depend_on_its_batch_in_any_stage(runs):
    """A sample would change with --num and --batch-size."""
    with one_device():
        chain = diffjax.cascade([runs / name for name in "abc"])
        whole = chain.sample(9, tau=[0.1, 0.5], seed=[3, 4])
        part = chain.sample(5, tau=[0.1, 0.5], seed=[3, 4], batch_size=2)
        one = chain.sample(1, tau=0.1, seed=3, index=2, label=2, batch_size=1)
    np.testing.assert_array_equal(part.x, whole.x[:5])
    np.testing.assert_array_equal(one.x[0], whole.x[4])  # number 2 of seed 3
    assert len(np.unique(whole.x.reshape(9, -1), axis=0)) == 9


def test_each_stage_has_noise_of_its_own(runs):
    """The noise of a stage would repeat that of the stage below it."""
    jobs = diffjax.cascade([runs / name for name in "abc"]).job().jobs
    assert len({job.stream for job in jobs}) == 3
    places, zeros = np.arange(4), np.zeros(4, int)
    noises = []
    for job in jobs[1:]:
        low = job.low.of(np.full((4, *job.low.form.shape), 127, np.uint8))
        low = type(low)(low.items, low.form, low.enlarged, (0.6,))
        noises.append(low.conditions(places, zeros, places)["low"][:, :2, :2].ravel())
        other = low.conditions(places, zeros + 1, places)["low"][:, :2, :2].ravel()
        assert abs(np.corrcoef(noises[-1], other)[0, 1]) < 0.9
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.9


def test_evaluate_takes_a_chain(runs, works):
    """Cascades could be sampled but not compared."""
    flags = [f"--then={runs / 'b'}", f"--then={runs / 'c'}", "--tau=0,0.5", "--guidance=1"]
    flags += ["--metrics=frechet", "--num=20", "--batch-size=20"]
    shown = works("evaluate", f"--workdir={runs / 'a'}", *flags)
    report = json.loads((runs / "c" / "evaluation.json").read_text())
    protocols = [result["protocol"] for result in report["results"]]
    assert [protocol["tau"] for protocol in protocols] == [[0.0], [0.5]]
    assert all(len(p["stages"]) == 2 and p["passes"] == 9 for p in protocols)
    assert "| tau" in shown.replace("tau |", "| tau")
    folders = sorted(path.name for path in (runs / "c" / "evaluation").iterdir() if path.is_dir())
    assert len(folders) == 5  # the base once, and two chains of two and of three stages
    before = {p: p.stat().st_mtime_ns for p in (runs / "c" / "evaluation").rglob("*.npz")}
    works("evaluate", f"--workdir={runs / 'a'}", *flags)
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_an_engine_enlarges_the_same_items(runs):
    """A server would enlarge other items, or with other noise."""
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    with one_device():
        run = diffjax.load(runs / "c")
        job = run.job(low=small, tau=0.3, label=[1, 2, 3])
        with Engine(run.job(), slots=2) as engine:
            items = [ticket.result() for ticket in engine.submit(job, num=3)]
        whole = job.samples(3).x
    assert np.abs(np.stack(items).astype(int) - whole).max() <= 1


def test_an_upsampler_alone_enlarges_held_out_items(runs):
    """Its samples would be conditions of nothing, or need a file."""
    with one_device():
        run = diffjax.load(runs / "c")
        made, other = run.sample(3), run.sample(3, tau=0.4)
    assert made.x.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(made.label, run.experiment.defaults["label"][:3])
    assert (made.x != other.x).any()


def test_a_photo_of_any_size_is_enlarged_in_tiles(runs, works, tmp_path):
    """Super-resolution would be limited to the size of training."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    out = tmp_path / "large.npz"
    low = [f"--low={tmp_path / 'small.png'}", "--label=3", "--num=2"]
    works("sample", f"--workdir={runs / 'c'}", *low, "--tau=0,0.2", f"--out={out}")
    assert stored(out)[0].shape == (2, 12, 18, 1)
    small = tmp_path / "small.npy"  # as large as in training: no tiles, the same pixels
    np.save(small, pixels[:4, :4, None])
    whole = tmp_path / "whole.npz"
    works("sample", f"--workdir={runs / 'c'}", f"--low={small}", "--num=1", f"--out={whole}")
    assert stored(whole)[0].shape == (1, 8, 8, 1)


def test_two_stages_of_latents_are_decoded_by_the_codec_of_the_last():
    """A coarse latent would be decoded between the stages, or not at the end."""
    label = (Spec("label", "label", 10),)
    data = {"name": "latents:nowhere", "labels": True}
    last = data | {"codec": "codecs_of_tests:codec", **ENLARGED}
    fine = Form("latent", (4, 4, 4), label, units=(("codec", "haar"),))
    stages = []
    with one_device():
        for section, shape in ((data, (2, 2, 4)), (last, (4, 4, 4))):
            form = Form("latent", shape, label) if section is data else None
            enlarged = builder.construct_data(section, "data", opened=False)[1].enlarged
            form = form or enlarged.form(fine)
            e = builder.experiment({**CONFIG, "data": section}, form)
            stages.append(Trained(e.denoiser(e.parameters()), e))
        job = diffjax.cascade(stages).job(tau=0.1)
        made: list = []
        images = job.samples(3, finished=lambda _, samples: made.append(samples))
        latents = diffjax.cascade(stages).job(tau=0.1, latents=True).samples(3).x
    assert made[0].x.shape == (3, 2, 2, 4) and made[0].x.dtype == np.float32
    assert images.x.shape == (3, 8, 8, 1) and images.x.dtype == np.uint8
    decoded = np.asarray(codec().decode(latents))
    np.testing.assert_array_equal(images.x, np.clip(np.round((decoded + 1) * 127.5), 0, 255))


def refusals(runs):
    """Requests that cannot be, and what their messages say."""
    chain = lambda names: diffjax.cascade([runs / name for name in names])
    upsampler = lambda: diffjax.load(runs / "c")
    small = np.zeros((3, 3, 1), np.uint8)
    return {
        "no stage": (lambda: chain(""), "needs at least one run"),
        "no condition": (lambda: chain("ba").job(), "stage 2 of the cascade: was trained without"),
        "sizes": (
            lambda: chain("ac").job(),
            "stage 2 of the cascade: enlarges images (4, 4, 1), and stage 1 generates images (2, 2",
        ),
        "tau": (lambda: chain("ab").job(tau=0.7), "--tau: tau=0.7: needs 0 <= tau <= 0.6"),
        "tau of a base": (lambda: chain("a").job(tau=0.1), "trained without config.data.enlarged"),
        "low of a base": (lambda: chain("a").job(low=small), "so it enlarges nothing"),
        "small": (lambda: upsampler().job(low=small), "needs uint8 or float32 of shape (4, 4, 1)"),
        "no file": (lambda: upsampler().job(low="nowhere.png"), "--low=nowhere.png"),
        "stages": (lambda: chain("ab").job(stages=[{}, {}]), "settings for 2 later stages; has 1"),
        "cond": (lambda: upsampler().job(cond={"tau": 0.1}), "no such condition; known: label"),
    }


@pytest.mark.parametrize("name", refusals(None))
def test_wrong_chains_are_refused_by_name(runs, name):
    """A chain would fail after its first stage, or enlarge something else."""
    request, says = refusals(runs)[name]
    with pytest.raises(ConfigError) as refused:
        request()
    assert says in str(refused.value)


def test_the_command_refuses_unknown_settings_of_a_stage(runs, monkeypatch, capsys):
    """A misspelt setting would be ignored."""
    flags = [f"--workdir={runs / 'a'}", f"--then={runs / 'b'},step=3", "--num=1"]
    assert ended(monkeypatch, "sample", *flags) == 2
    assert ".step: no such field (did you mean 'steps'?)" in capsys.readouterr().err
    flags = [flags[0], f"--then={runs / 'b'}", "--trajectory=a.png"]
    assert ended(monkeypatch, "sample", *flags) == 2
    assert "--trajectory: shows one network" in capsys.readouterr().err


def test_a_chain_of_engines_gives_each_sample_the_bits_that_it_has_alone(runs):
    """A server would mix the small images of its users, or start a stage from another one."""
    with one_device():
        cascade = diffjax.cascade([runs / name for name in "abc"])
        stages = [{"tau": 0.3}, {"tau": [0.0, 0.6], "steps": 4}]
        asked = [
            cascade.job(stages=stages, seed=k, label=[k, k + 1], steps=2 + k) for k in range(4)
        ]
        with Chain(cascade.job(), slots=3) as chain:
            alone = [[t.result(60) for t in chain.submit(job, 3)] for job in asked]
            tickets = [chain.submit(job, 3, every=2) for job in asked]
            found = [[t.result(60) for t in of] for of in tickets]
            rows = [e.row for e in tickets[3][0].events()]
            (long,) = chain.submit(cascade.job(stages=[{"steps": 900}], steps=1), 1)
            while long.row < 5:
                time.sleep(0.01)
            long.cancel()
            with pytest.raises(CancelledError):
                long.result(60)
            assert chain.stats.running == chain.stats.waiting == 0
            with pytest.raises(ValueError, match="1 stages; needs 3"):
                chain.submit(diffjax.cascade([runs / "a"]).job(), 1)
        assert np.array_equal(found, alone) and rows == [*range(1, 13)]
        assert tickets[1][2].rows == 10 and tickets[1][2].number == 2
        for job, items in zip(asked, found, strict=True):
            assert np.abs(job.samples(3).x.astype(int) - items).max() <= 1


def test_a_server_of_a_chain_answers_with_images_of_the_last_stage(runs):
    """A service would show the small images, or count the rows of the first stage alone."""
    with one_device():
        first, *later = (load(runs / name) for name in "abc")
        settings = [{"tau": 0.3}, {"steps": 4}]
        service = Service(first, 2, Limits(), later=[*zip(later, settings, strict=True)])
        admitted = service.admitted(Asked(seed=3, num=2, label=5, steps=2))
        tickets = service.engine.submit(admitted.job, admitted.num)
        found = [ticket.result(60) for ticket in tickets]
        job = diffjax.cascade([first, *later]).job(stages=settings, seed=3, label=5, steps=2)
        assert np.abs(job.samples(2).x.astype(int) - found).max() <= 1
        assert admitted.about["rows"] == 9 and service.about()["shape"] == (8, 8, 1)
        assert "heun" in service.samplers and service.about()["stages"] == 3
        with pytest.raises(ConfigError, match="image: several networks"):
            service.admitted(Asked(image="AAAA"))
        service.engine.close()
