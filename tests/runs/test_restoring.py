"""Restoration of images: what is drawn, written and refused."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest
from commands import ended
from PIL import Image

from diffjax import analytic, builder, config
from diffjax.config import ConfigError
from diffjax.inverse import METHODS, OPERATORS, psnr, ssim
from diffjax.runs import trained as runs
from diffjax.runs.restored import Restored
from diffjax.runs.restoring import restoration
from diffjax.runs.trained import Trained
from diffjax.tools import restore as tool

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def exact() -> Trained:
    """A "network" of independent standard normal pixels, with the classes of the digits."""
    experiment = builder.experiment(config.load("digits_vp"))
    data = analytic.gaussian(jnp.zeros(SHAPE), jnp.ones(SHAPE))
    return Trained(data.denoiser(experiment.model.sde), experiment)


@pytest.fixture
def run(exact, monkeypatch, capsys):
    """Run the command with this network; return exit code, stdout and stderr."""
    monkeypatch.setattr(runs, "load", lambda path, *sampling, **more: exact)

    def command(*flags) -> tuple[int, str, str]:
        code = ended(monkeypatch, "tools.restore", "--workdir=run", *flags)
        return (code, *capsys.readouterr())

    return command


def test_samples_have_the_exact_posterior(exact):
    """Samples would have another posterior: mean y / 2 and variance 1/2 where measured.

    The images are normal, and the noise has a standard deviation of 1.
    """
    accurate = {"sampler": "dpmpp_2m", "grid": "logsnr_uniform", "steps": 20}
    restored = exact.restore("test:0,5", "half", std=1.0, method="pigdm", num=200, **accurate)
    assert restored.x.shape == (2, 200, *SHAPE)
    seen, hidden = np.s_[:, :, :, :4], np.s_[:, :, :, 4:]
    np.testing.assert_allclose(restored.x[seen].mean(1), restored.y[:, :, :4] / 2, atol=0.25)
    assert abs(restored.x[seen].var(1).mean() - 0.5) < 0.05
    assert abs(restored.x[hidden].mean()) < 0.05
    assert abs(restored.x[hidden].var(1).mean() - 1) < 0.1
    assert (restored.y[:, :, 4:] == 0).all()


@pytest.mark.thorough
def test_an_image_is_restored_alone_as_among_others(exact):
    """A measurement of one image would reach the samples of another."""
    settings = {"std": 0.3, "method": "pigdm", "num": 3, "steps": 3}
    both = exact.restore("test:0,5", "half", **settings)
    y = exact.restore("test:5", "half", y=None, **settings)
    again = exact.restore(None, "half", y=both.y, **settings)
    np.testing.assert_array_equal(both.x[0], exact.restore("test:0", "half", **settings).x[0])
    np.testing.assert_array_equal(both.x, again.x)
    assert again.truth is None and y.truth is not None


IN_SUITE = ("particles", "daps")
"""Methods that draw samples in a way of their own."""


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=() if m in IN_SUITE else pytest.mark.thorough) for m in METHODS],
)
def test_every_method_restores_and_counts_its_cost(exact, method):
    problem = "identity" if method == "denoising" else "half"
    ready = restoration(exact, "test:0", problem, std=0.5, method=method, num=2, steps=4)
    restored = ready.run()
    assert np.isfinite(restored.x).all()
    assert restored.misfit()[0] < 2
    per_sample = {"repaint": 7, "particles": 64}
    assert restored.passes == per_sample.get(method, 4)
    assert f"{restored.passes} network passes" in str(ready)


def test_the_command_writes_a_picture_and_arrays(run, tmp_path):
    flags = ("--image=test:0,1", "--problem=average:factor=2", "--method=prior", "--num=2")
    code, out, err = run(*flags, "--std=0.1", "--steps=2", f"--out={tmp_path / 'a.png'}")
    assert code == 0, err
    assert "2 rows, 2 network passes per sample, 2 images of 2 samples" in out
    assert "PSNR of the mean" in out and "warning" not in err
    with np.load(tmp_path / "a.npz") as arrays:
        shapes = {name: arrays[name].shape for name in arrays}
        mean, x = arrays["mean"], arrays["x"]
    whole = (2, *SHAPE)
    assert shapes == {"x": (2, 2, 8, 8, 1), "y": (2, 4, 4, 1), "mean": whole, "std": whole,
                      "truth": whole}  # fmt: skip
    np.testing.assert_allclose(mean, x.mean(1), atol=1e-6)
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape[0] > 200 and picture.shape[1] > 500


@pytest.mark.thorough
@pytest.mark.parametrize("problem", [p for p in OPERATORS if p != "grey"])
def test_measurements_of_every_operator_are_drawn(exact, problem):
    """A measurement that is no image, or has another size, would stop the picture at the end."""
    restored = exact.restore("test:0", problem, std=0.1, method="dps", num=1, steps=1)
    assert restored.picture().ndim == 3


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--problem=blurr"], "--problem.name='blurr': unknown"),
        (["--problem=box:size=0.5,top=0.9"], "--problem: top=0.9"),
        (["--problem=average:factor=3"], "factor=3: does not divide items (8, 8, 1); allowed: [1"),
        (["--problem=grey"], "needs images (H, W, 3)"),
        (["--problem=mask:file=none.png"], "none.png: no such file"),
        (["--problem=half", "--method=mmps"], "--method.name='mmps': unknown"),
        (["--problem=half", "--method=tweedie:iterations=0"], "iterations=0"),
        (["--problem=half", "--std=-1"], "--std: std=-1.0"),
        (["--problem=half", "--std=nan"], "--std: 'nan': needs a finite number"),
        (["--problem=half", "--num=0"], "--num: '0': needs an integer"),
        (["--problem=half", "--method=dps"], "std=0 with covariance=Zero: needs std > 0"),
        (["--problem=half", "--method=particles"], "--method"),
        (["--problem=bicubic", "--method=replacement"], "needs an operator with a spectrum"),
        (["--problem=half", "--method=denoising", "--std=1"], "--method"),
        (["--problem=half", "--method=ddrm", "--sampler=ddim"], "allowed: flow_map"),
        (["--problem=half", "--method=particles", "--std=1", "--sampler=ddim"], "adds no noise"),
        (["--problem=half", "--label=11"], "--label=11: no such class"),
        (["--problem=half", "--label=1,2"], "--label: 2 classes for 1 images"),
        (["--problem=half", "--image=test:4000"], "no item 4000 in the test split"),
        (["--problem=half", "--image=test:a"], "needs test:INDEX,..."),
        (["--problem=half", "--y=y.npy"], "needs one of them"),
        (["--problem=half", "--out=a.jpg"], "--out=a.jpg: known ending: .png"),
    ],
)  # fmt: skip
def test_what_cannot_be_restored_is_refused_in_one_line(run, flags, line, monkeypatch):
    """The network would be compiled first, or a traceback hide the reason."""
    monkeypatch.setattr("diffjax.runs.restoring.Restoration.run", lambda _: pytest.fail("ran"))
    image = [] if any(flag.startswith("--image") for flag in flags) else ["--image=test:0"]
    code, _, err = run(*flags, *image)
    assert code == 2
    assert line in err and err.count("\n") == 1


def test_images_measurements_and_masks_of_another_form_are_refused(exact, tmp_path):
    bad = np.zeros((1, 8, 8, 1), np.float32)
    bad[0, 0, 0, 0] = np.nan
    for image, message in (
        (np.zeros((1, 8, 8, 3), np.uint8), "needs uint8 or float32"),
        (np.zeros((1, 4, 8, 1), np.uint8), "needs uint8 or float32"),
        (bad, "values up to nan"),
    ):
        with pytest.raises(ConfigError, match=message):
            restoration(exact, image, "half")
    with pytest.raises(ConfigError, match="not finite"):
        restoration(exact, None, "half", y=bad)
    with pytest.raises(ConfigError, match="needs measurements"):
        restoration(exact, None, "average", y=bad)
    file = tmp_path / "mask.png"
    for mask, message in (
        (np.zeros((4, 8), np.uint8), r"needs \(8, 8\)"),
        (np.full((8, 8), 100, np.uint8), "needs black and white"),
    ):
        Image.fromarray(mask).save(file)
        with pytest.raises(ConfigError, match=message):
            restoration(exact, "test:0", f"mask:file={file}")


def test_black_is_known_and_white_is_hidden(exact, tmp_path):
    file, hidden = tmp_path / "mask.png", np.zeros((8, 8), np.uint8)
    hidden[:2] = 255
    Image.fromarray(hidden).save(file)
    ready = restoration(exact, "test:0", f"mask:file={file}", method="ddnm", steps=2, num=1)
    keep = np.asarray(ready.measurements[0].operator.keep)[0, :, :, 0]
    np.testing.assert_array_equal(keep, hidden == 0)


def test_the_help_has_a_paragraph_on_each_method():
    """A method would be found only in the code."""
    lines = (importlib.import_module("diffjax.tools.restore").__doc__ or "").splitlines()
    start = lines.index(next(line for line in lines if line.startswith("Methods,")))
    named = [line.split()[0] for line in lines[start + 2 :] if line and line[0] != " "]
    assert named == [*METHODS]
    assert "--problem" in tool.flags().format_help()


def test_samples_that_diverged_are_counted():
    """A picture of clipped values would look like a bad restoration."""
    x = np.full((2, 3, *SHAPE), 1.0)
    fine = Restored(x, x[:, 0], 0.1, None, OPERATORS["half"](SHAPE), passes=1, products=1)
    assert fine.warning() == ""
    x[0, 1] = 1e6
    assert "1 of 6 samples diverged (RMS up to 1e+06" in fine.warning()


def test_psnr_and_ssim_are_those_of_their_definitions():
    """Reported values would have another range or window than those of papers."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 3, 9, 10, 2))
    assert psnr(x, x + 0.2)[0] == pytest.approx(20 * np.log10(2 / 0.2))
    np.testing.assert_allclose(ssim(x, x), 1)
    a, b = x[0, 1:8, 2:9, 0].ravel(), y[0, 1:8, 2:9, 0].ravel()  # the window at (1, 2)
    c1, c2 = 0.02**2, 0.06**2
    cov = np.cov(a, b)
    one = (2 * a.mean() * b.mean() + c1) * (2 * cov[0, 1] + c2)
    one /= (a.mean() ** 2 + b.mean() ** 2 + c1) * (cov[0, 0] + cov[1, 1] + c2)
    alone = ssim(x[0, 1:8, 2:9, :1], y[0, 1:8, 2:9, :1])
    assert alone == pytest.approx(one)
    with pytest.raises(ValueError, match="height=6"):
        ssim(x[:, :6], y[:, :6])
