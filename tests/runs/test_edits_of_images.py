"""Editing images by command: inversion, other classes, soft masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ended
from PIL import Image

from diffjax import analytic, builder, config
from diffjax.arrays import rebuild
from diffjax.config import ConfigError
from diffjax.prediction import Prediction
from diffjax.runs import trained as runs
from diffjax.runs.editing import editing, soft_mask, target
from diffjax.runs.images import images
from diffjax.runs.trained import Trained

SHAPE = (8, 8, 1)


@jax.tree_util.register_pytree_node_class
class Classes:
    """The exact denoiser of normal pixels with the class mean -0.5 + label / 10."""

    def __init__(self, sde):
        self.sde = sde

    def tree_flatten(self):
        return (), self.sde

    @classmethod
    def tree_unflatten(cls, sde, _):
        return cls(sde)

    def __call__(self, x, t, cond=None, *, key=None):
        known = {} if cond is None else cond
        label = known.get("label", jnp.full(len(x), -1))
        mean = jnp.where(label < 0, 0.0, -0.5 + label / 10).reshape(-1, 1, 1, 1)
        data = analytic.gaussian(jnp.zeros(SHAPE), jnp.full(SHAPE, 0.25))
        alpha = self.sde.alpha(t).reshape(-1, 1, 1, 1)
        p = data.denoiser(self.sde)(x - alpha * mean, t)
        return Prediction(p.x0 + mean, p.x0 + mean, p.eps)


@pytest.fixture(scope="module")
def exact() -> Trained:
    experiment = builder.experiment(config.load("digits_vp"))
    return Trained(Classes(experiment.model.sde), experiment)


@pytest.fixture
def run(exact, monkeypatch, capsys):
    """Run the command with this network; return exit code, stdout and stderr."""
    monkeypatch.setattr(runs, "load", lambda path, *sampling, **more: exact)

    def command(part, *flags) -> tuple[int, str, str]:
        code = ended(monkeypatch, "tools.edit", part, "--workdir=run", *flags)
        return (code, *capsys.readouterr())

    return command


def test_an_image_comes_back_from_its_latent(run, tmp_path):
    """The latent would be that of another image."""
    out = tmp_path / "a.png"
    code, said, err = run("invert", "--image=test:0,1", "--steps=12", f"--out={out}")
    assert code == 0, err
    error = float(said.partition("back: ")[2].split()[0])
    assert error < 0.05
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_allclose(arrays["again"], arrays["image"], atol=2e-3)
        assert {name: arrays[name].shape for name in arrays} == {
            name: (2, *SHAPE) for name in ("image", "latent", "again")
        }
    assert np.asarray(Image.open(out)).ndim == 3


@pytest.mark.parametrize("sampler", ["ddim", pytest.param("ancestral", marks=pytest.mark.thorough)])
def test_an_edit_moves_an_image_by_the_difference_of_the_classes(exact, sampler):
    """The ODE would not move a sample with its class: by 0.3 from class 2 to 5, for any image.

    With repeated noises the same holds, since the network is affine.
    """
    ready = editing(exact, "test:0,1", label="2", steps=40, sampler=sampler)
    same = ready.edited(target(exact.experiment, ready.cond, "2"))
    moved = ready.edited(target(exact.experiment, ready.cond, "5"))
    np.testing.assert_allclose(same, ready.x0, atol=5e-3)
    np.testing.assert_allclose(moved - same, 0.3, atol=0.02)


def test_inpainting_keeps_black_and_draws_white(exact, tmp_path):
    file, mask = tmp_path / "mask.png", np.zeros((8, 8), np.uint8)
    mask[4:], mask[3] = 255, 128
    Image.fromarray(mask).save(file)
    ready = editing(exact, "test:0,1", steps=4)
    x = ready.inpainted(soft_mask(str(file), SHAPE), 3).reshape(2, 3, *SHAPE)
    kept = np.broadcast_to(ready.x0[:, None, :3], x[:, :, :3].shape)
    np.testing.assert_allclose(x[:, :, :3], kept, atol=1e-5)
    assert (x[:, 0, 4:] != x[:, 1, 4:]).all()


@pytest.mark.parametrize(
    ("part", "flags", "line"),
    [
        ("invert", ["--sampler=ancestral"], "the table adds noise; allowed: ODE samplers"),
        ("invert", ["--sampler=dpmpp_2m"], "first-order samplers"),
        ("invert", ["--strength=0"], "strength=0"),
        ("invert", ["--strength=nan"], "needs a finite number"),
        ("invert", ["--iterations=0"], "--iterations"),
        ("invert", ["--source=12"], "no such class"),
        ("edit", ["--label=12"], "--label=12: no such class"),
        ("edit", [], "--label"),
        ("inpaint", ["--mask=none.png"], "--mask: none.png: no such file"),
        ("invert", ["--out=a.gif"], "--out=a.gif: known ending: .png"),
    ],
)
def test_what_cannot_be_edited_is_refused_in_one_line(run, part, flags, line):
    code, _, err = run(part, "--image=test:0", "--steps=3", *flags)
    assert code == 2
    assert line in err and err.count("\n") == 1


def test_masks_and_classes_that_do_not_fit_are_refused(exact, tmp_path):
    np.save(tmp_path / "zero.npy", np.zeros((8, 8)))
    np.save(tmp_path / "big.npy", np.full((8, 8), 1.5))
    for name, message in (("zero", "keeps the whole image"), ("big", "holds 1.5")):
        with pytest.raises(ConfigError, match=message):
            soft_mask(str(tmp_path / f"{name}.npy"), SHAPE)
    loss = rebuild(exact.experiment.loss, condition_dropout=0.0)
    never = Trained(exact.denoise, rebuild(exact.experiment, loss=loss))
    with pytest.raises(ConfigError, match="--source: the class of the images"):
        editing(never, "test:0")
    assert images(exact.experiment, "test:0").dtype == np.float32
