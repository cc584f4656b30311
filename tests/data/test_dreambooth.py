"""Images of your own among samples of a network, each with its weight in the loss."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax import data, nets, parameterization, schedules, sde
from diffjax.data.dreambooth import ABOUT, FILE
from diffjax.data.form import Form
from diffjax.denoiser import Model
from diffjax.objectives import Context, Denoising
from diffjax.objectives.pairings import stored
from diffjax.specs import Spec

LABEL, TEXT = Spec("label", "label", 4), Spec("text", "words", 3)


def pictures(folder, count=2, texts=()):
    folder.mkdir()
    for k in range(count):
        Image.fromarray(np.full((10, 8), 100 + k, np.uint8)).save(folder / f"{k}.png")
    rows = [json.dumps({"file_name": f"{k}.png", "text": text}) for k, text in enumerate(texts)]
    if rows:
        (folder / "metadata.jsonl").write_text("\n".join(rows))
    return str(folder)


def prior(folder, *conditions, texts=(), **arrays):
    """Write a prior of six images for a network with these conditions."""
    folder.mkdir()
    vocabulary = ("a", "dot", "line") if texts else ()
    form = Form("image", (4, 4, 1), conditions, "uint8", texts=texts, vocabulary=vocabulary)
    (folder / ABOUT).write_text(json.dumps({"form": form.as_json()}))
    np.savez(folder / FILE, x=np.zeros((6, 4, 4, 1), np.uint8), **arrays)
    return str(folder)


def test_own_images_are_half_of_the_items(tmp_path):
    """A few images would drown in the prior, or have its classes."""
    own = pictures(tmp_path / "own")
    y = {"y": np.array([0, 1, 2] * 2)}
    source = data.dreambooth(
        "train", own, prior(tmp_path / "prior", LABEL, **y), label=3, weight=0.25
    )
    items = source[np.arange(len(source))]
    assert items["label"].tolist() == [3] * 6 + [0, 1, 2] * 2
    assert items["weight"].tolist() == [1.0] * 6 + [0.25] * 6
    assert items["x"][:, 0, 0, 0].tolist() == [100] * 3 + [101] * 3 + [0] * 6
    assert source.form.classes == 4 and source.form.shape == (4, 4, 1)
    third = data.dreambooth("train", own, str(tmp_path / "prior"), label=3, share=0.25)
    assert (third.labels() == 3).sum() == 2


def test_own_images_have_the_prompt_or_their_captions(tmp_path):
    """A new subject would be learned under the words of another one."""
    texts = {"prompt": np.array(["a dot", "a line"] * 3)}
    folder = prior(tmp_path / "prior", TEXT, texts=("text",), **texts)
    plain, told = pictures(tmp_path / "own"), pictures(tmp_path / "told", texts=["sks", "sks a"])
    source = data.dreambooth("train", plain, folder, prompt="sks dot")
    assert source.captions(np.array([0, 5, 6, 7])) == [["sks dot"]] * 2 + [["a dot"], ["a line"]]
    assert data.dreambooth("train", told, folder).captions(np.array([0, 3])) == [["sks"], ["sks a"]]
    with pytest.raises(ValueError, match=r"prompt='': .* has no captions"):
        data.dreambooth("train", plain, folder)
    with pytest.raises(ValueError, match=r"label=1: the network takes no classes"):
        data.dreambooth("train", plain, folder, label=1, prompt="sks")


WRONG = {
    "share=1.0: needs 0 < share < 1": {"share": 1.0},
    "weight=-1.0": {"weight": -1.0},
    "label=None: needs a class of the network, 0 to 3": {"label": None},
    "label=4: needs a class of the network, 0 to 3": {"label": 4},
    "prompt='x': the network takes no captions": {"prompt": "x"},
    "prior='': no prior.npz in it; diffjax.tools.prior writes one": {"prior": ""},
    "path='': no such folder": {"path": ""},
}


@pytest.mark.parametrize("message", WRONG)
def test_settings_that_cannot_work_are_refused(message, tmp_path):
    folder = prior(tmp_path / "prior", LABEL, y=np.zeros(6, np.int32))
    given = {"path": pictures(tmp_path / "own"), "prior": folder, "label": 3} | WRONG[message]
    with pytest.raises(ValueError, match=re.escape(message)):
        data.dreambooth("train", **given)


def test_a_prior_that_does_not_fit_is_refused(tmp_path):
    own, vector = pictures(tmp_path / "own"), Spec("vector", "vector", 2)
    with pytest.raises(ValueError, match=r"prior.npz lacks y; write it again"):
        data.dreambooth("train", own, prior(tmp_path / "a", LABEL), label=0)
    with pytest.raises(ValueError, match="the network takes 'vector', which your images lack"):
        data.dreambooth("train", own, prior(tmp_path / "b", vector))


def test_a_share_of_the_samples_is_held_out(tmp_path):
    """What the network must keep could not be measured, or own images would be held out."""
    given = {"path": pictures(tmp_path / "own"), "label": 3, "holdout": 0.5}
    given["prior"] = prior(tmp_path / "prior", LABEL, y=np.arange(6) % 3)
    train, test = (data.dreambooth(split, **given) for split in ("train", "test"))
    kept = len(train) - (train.labels() == 3).sum()
    assert 0 < len(test) == 6 - kept < 6 and not (test.labels() == 3).any()


def test_weights_of_items_are_those_of_two_batches():
    """The prior would count otherwise than in the paper: L(own) + weight L(prior)."""
    init = lambda key, *_: {"w": jax.random.normal(key, (3, 3))}
    network = nets.Network(init, lambda params, x, *_, key=None: jnp.tanh(x @ params["w"]))
    model = Model(sde.VP(schedules.Cosine()), parameterization.V(), network)
    rng = np.random.default_rng(0)
    x, noise = (jnp.asarray(rng.normal(size=(8, 3)), jnp.float32) for _ in range(2))
    u, loss = jnp.asarray(rng.uniform(size=8), jnp.float32), Denoising(pairing=stored)
    params = {"network": init(jax.random.key(1))}

    def value(params, rows, weight=None):
        batch = {"x": x[rows], "noise": noise[rows], "u": u[rows]}
        batch |= {} if weight is None else {"weight": weight}
        return loss(Context(model, params, batch, jax.random.key(0)))[0]

    own, old = slice(0, 4), slice(4, 8)
    together = lambda p: 2 * value(p, slice(None), jnp.where(jnp.arange(8) < 4, 1.0, 0.3))
    apart = lambda p: value(p, own) + 0.3 * value(p, old)
    ours, theirs = (jax.value_and_grad(f)(params) for f in (together, apart))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    np.testing.assert_allclose(ours[1]["network"]["w"], theirs[1]["network"]["w"], atol=1e-6)
    alone = jax.grad(lambda p: value(p, own))(params)["network"]["w"]
    assert np.abs(ours[1]["network"]["w"] - alone).max() > 0.01
