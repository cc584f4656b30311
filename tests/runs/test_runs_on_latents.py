"""Networks of latents with a codec: what is written, shown and judged are images."""

import json
import shutil

import numpy as np
import pytest
from codecs_of_tests import HAAR, SHAPE, codec
from commands import ended, one_device
from PIL import Image

import diffjax
from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data.form import Form
from diffjax.runs.subject import compared_section
from diffjax.runs.trained import Trained
from diffjax.specs import Spec

CODEC = "codecs_of_tests:codec"
FORM = Form("latent", SHAPE, (Spec("label", "label", 10),), units=(("codec", "haar"),))
CONFIG = {
    "seed": 0,
    "data": {"name": "latents:nowhere", "labels": True, "codec": CODEC},
    "sde": {"name": "vp", "schedule": {"name": "cosine"}},
    "parameterization": {"name": "v"},
    "network": {"name": "codecs_of_tests:linear"},
    "loss": {"weight": "uniform_output"},
    "optimizer": {"name": "adamw"},
    "ema": {"name": "constant"},
    "sampling": {"sampler": {"name": "ddim"}, "steps": 2},
    "train": {"writers": ()},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An export of an untrained network of latents."""
    folder = tmp_path_factory.mktemp("latents") / "run"
    with one_device():
        experiment = builder.experiment(CONFIG, FORM)
        Trained(experiment.denoiser(experiment.parameters()), experiment).save(folder)
    return folder


@pytest.fixture
def command(run, monkeypatch, capsys):
    def execute(name, *flags) -> tuple[int, str, str]:
        with one_device():
            code = ended(monkeypatch, name, f"--workdir={run}", *flags)
        return (code, *capsys.readouterr())

    return execute


def test_samples_are_images_unless_latents_are_asked_for(command, tmp_path):
    """Latents would be written as the result, or drawn in false colours."""
    files = [f"--out={tmp_path / name}" for name in ("a.npz", "a.png", "folder")]
    code, _, err = command("sample", "--num=12", f"--previews={tmp_path / 'way'}", *files)
    assert code == 0, err
    flags = ("--latents", f"--previews={tmp_path / 'raw'}", f"--out={tmp_path / 'z.npz'}")
    code, _, err = command("sample", "--num=12", *flags)
    assert code == 0, err
    with np.load(tmp_path / "a.npz") as images, np.load(tmp_path / "z.npz") as latents:
        x, z = images["arr_0"], latents["arr_0"]
        assert x.dtype == np.uint8 and x.shape == (12, 8, 8, 1) and z.shape == (12, *SHAPE)
        floats = (z * np.array([1, 0.5, 0.5, 0.25]) + 0.5) @ HAAR.T
        pixels = floats.reshape(12, 4, 4, 2, 2).transpose(0, 1, 3, 2, 4).reshape(x.shape)
        assert np.abs(np.clip(127.5 * (pixels + 1), 0, 255) - x).max() < 0.51
        assert images["arr_1"].tolist() == latents["arr_1"].tolist()
    assert len([*(tmp_path / "folder").glob("*.png")]) == 12
    with Image.open(tmp_path / "folder" / "000003.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), x[3, ..., 0])
    with Image.open(tmp_path / "way" / "row_0002.png") as last, Image.open(tmp_path / "a.png") as a:
        np.testing.assert_array_equal(np.asarray(last), np.asarray(a))


@pytest.mark.thorough
def test_decoded_samples_are_judged_against_images(command, run):
    """Latents would be compared, or stored samples of another codec be reused."""
    flags = ("--num=8", "--metrics=precision_recall:k=1", "--guidance=1")
    code, _, err = command("evaluate", *flags)
    assert code == 2 and "--data: missing: samples are decoded to images" in err, err
    code, _, err = command("evaluate", *flags, "--data=digits", "--real=20")
    assert code == 0, err
    (result,) = json.loads((run / "evaluation.json").read_text())["results"]
    protocol = result["protocol"]
    assert protocol["codec"]["fingerprint"] == "haar"
    assert protocol["reference"]["data"] == "digits"


def test_samples_are_compared_with_the_images_that_were_encoded(tmp_path):
    """Decoded samples would be compared with latents, or with images of another data set."""
    origin = tmp_path / "z"
    origin.mkdir()
    (origin / "encoded.json").write_text(json.dumps({"data": {"name": "digits"}}))
    section = {"name": f"latents:{origin}"}
    assert compared_section(section) == section
    assert compared_section(section | {"codec": CODEC}) == {"name": "digits"}
    assert compared_section(section, codec=CODEC) == {"name": "digits"}
    assert compared_section(section, "moons,size=4", CODEC) == {"name": "moons", "size": 4}
    with pytest.raises(ConfigError, match="--data: missing: samples are decoded to images"):
        compared_section({"name": "latents:nowhere"}, codec=CODEC)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (f"{CODEC},fingerprint=vae", "=vae: has the fingerprint vae, and the latents were encoded"),
        ("runs/nowhere", "--codec=runs/nowhere: no such file or folder; needs a published"),
        (f"{CODEC},size=2", f"--codec={CODEC}.size: no such field"),
        ("codecs_of_tests:fold", "--codec=codecs_of_tests:fold.params: missing"),
        ("codecs_of_tests:linear", "returned Network; needs diffjax.codecs.base.Codec"),
    ],
)
def test_a_wrong_codec_is_refused_in_one_line(command, tmp_path, name, line):
    """A picture of nothing would be written, or the reason hidden in a traceback."""
    out = tmp_path / "a.png"
    code, _, err = command("sample", f"--codec={name}", f"--out={out}")
    assert code == 2 and line in err and err.count("\n") == 1, err
    assert not out.exists()


def test_the_codec_of_a_run_is_that_of_its_config_or_another(run):
    with one_device():
        trained = diffjax.load(run)
        assert trained.codec is not None and trained.codec.about == codec().about
        assert trained.job().key != trained.job(latents=True).key
        start = np.full((1, 8, 8, 1), 128, np.uint8)
        assert trained.job(start=start).start.shape == (1, *SHAPE)
        assert trained.job(start=np.zeros((1, *SHAPE)), latents=True).start.shape == (1, *SHAPE)
        with pytest.raises(ConfigError, match="encoded by the codec haar"):
            _ = diffjax.load(run, codec=f"{CODEC},fingerprint=vae").codec


@pytest.fixture
def encoded(run, tmp_path, monkeypatch):
    """A copy of the run that has latents of images as its data."""
    x, y = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8), np.arange(40) % 10
    np.savez(tmp_path / "a.npz", x=x, y=y)
    flags = (f"array:{tmp_path / 'a.npz'},holdout=0.3", f"--codec={CODEC}")
    with one_device():
        assert ended(monkeypatch, "tools.encode", *flags, f"--out={tmp_path / 'z'}") == 0
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["data"]["name"] = f"latents:{tmp_path / 'z'}"
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "SHA256SUMS").unlink()
    return copy


@pytest.mark.thorough
def test_what_draws_data_or_samples_shows_images(encoded, tmp_path, monkeypatch, capsys):
    """A page, a film or a question for people would show latents in false colours."""
    from diffjax.data.kinds import latent

    monkeypatch.setattr(latent, "shades", pytest.fail)
    out = tmp_path / "out"
    out.mkdir()
    with one_device():
        for name, *flags in (
            ("sample", "--num=2", f"--trajectory={out / 'way.png'}", f"--out={out / 's.npz'}"),
            ("tools.report", f"--out={out / 'page.html'}"),
            ("tools.likelihood", "rank", "--metric=bpd:num=4,steps=2", f"--out={out / 'r.png'}"),
        ):
            command = [*flags[:1]] if name == "tools.likelihood" else []
            flags = [*command, f"--workdir={encoded}", *flags[len(command) :]]
            assert ended(monkeypatch, name, *flags) == 0, capsys.readouterr().err
        assert "bits/dim on 4 latents of latents:" in capsys.readouterr().out
        sets = (str(out / "s.npz"), str(encoded), "--split=train", "--num=1")
        asked = ended(monkeypatch, "tools.compare", *sets, f"--out={out / 'ask'}")
        assert asked == 0, capsys.readouterr().err
        config = f"--config={tmp_path / 'config.py'}"
        data = {"name": f"latents:{tmp_path / 'z'}", "codec": CODEC}
        fields = f"import ml_collections\nfields = {CONFIG | {'data': data}}\n"
        get_config = "get_config = lambda: ml_collections.ConfigDict(fields)\n"
        (tmp_path / "config.py").write_text(fields + get_config)
        forward = ("forward", config, "--num=1", f"--out={out / 'f.png'}")
        assert ended(monkeypatch, "tools.plot", *forward) == 0, capsys.readouterr().err
    assert "No picture of the data" not in (out / "page.html").read_text()
    for name in ("way.png", "r.png", "f.png"):
        assert (out / name).stat().st_size > 1000
