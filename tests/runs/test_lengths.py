"""Sequences and sounds of different lengths: trained, held out, sampled, drawn and written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_kinds_of_data import CONFIG, DIT

import diffjax
from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data import array
from diffjax.data.form import Form, from_json
from diffjax.data.kinds import KINDS
from diffjax.data.pipeline import Reading, masked
from diffjax.denoiser import Model
from diffjax.draws import Uniform
from diffjax.nets import Network
from diffjax.nets.conditions import Length
from diffjax.objectives import Context, Denoising
from diffjax.parameterization import V
from diffjax.runs import output
from diffjax.schedules import Linear
from diffjax.sde import VP
from diffjax.specs import Spec

N, L = 24, 8
LENGTHS = 2 + np.arange(N) % 7
INSIDE = np.arange(L) < LENGTHS[:, None]


def stored(folder, padding=np.nan, channels=2, **arrays):
    x = np.random.default_rng(0).normal(size=(N, L, channels)).clip(-0.9, 0.9)
    x = np.where(INSIDE[..., None], x, padding).astype(np.float32)
    np.savez(folder / "a.npz", **({"x": x, "length": LENGTHS} | arrays))
    return folder / "a.npz"


def config(path, network=DIT, **sections):
    data = {"name": f"array:{path}", "holdout": 0.3} | sections.pop("data", {})
    return CONFIG | {"network": network, "data": data} | sections


def refusal(settings):
    with pytest.raises(ConfigError) as refused:
        builder.experiment(settings)
    return str(refused.value)


@pytest.mark.parametrize("by", ["length", "mask", "both"])
def test_lengths_and_masks_declare_the_form(tmp_path, by):
    """Padding would count as data. It is no part of an item, even if it is NaN."""
    arrays = {"mask": {"mask": INSIDE}, "both": {"mask": INSIDE * 1.0}}.get(by, {})
    path = stored(tmp_path, **arrays)
    if by == "mask":
        kept = dict(np.load(path))
        np.savez(path, **{k: v for k, v in kept.items() if k != "length"})
    data = array("train", path=str(path))
    assert data.form.kind == "sequence" and data.form.shape == (L, 2)
    assert data.form.ends and not data.form.conditional
    assert from_json(json.loads(json.dumps(data.form.as_json()))) == data.form
    items = data[np.arange(len(data))]
    assert items["length"].dtype == np.uint32
    ended = np.isnan(items["x"]).all(-1)
    np.testing.assert_array_equal(ended.sum(1), L - items["length"])


def test_sounds_of_integers_are_floats_where_they_end(tmp_path):
    """The end of a sound would be lost: no value of 16 bits can mark it."""
    x = np.full((N, L, 1), 16384, np.int16)
    path = stored(tmp_path, x=x)
    data = array("train", path=str(path), rate=8000)
    assert (data.form.kind, data.form.dtype) == ("audio", "float32")
    assert np.nanmax(data.x) == np.nanmin(data.x) == 0.5


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"length": LENGTHS - 2}, "length: 0 is not a length; needs 1 to 8"),
        ({"length": LENGTHS + 1}, "length: 9 is not a length; needs 1 to 8"),
        ({"length": LENGTHS * 0.5}, "length: needs one integer, or several"),
        ({"length": LENGTHS[1:]}, r"length: has the shape \(23,\); needs \(24,\)"),
        ({"mask": INSIDE[:, ::-1]}, "mask: has gaps"),
        ({"mask": INSIDE[:, 1:]}, r"mask: has the shape \(24, 7\); needs \(24, 8\)"),
        ({"mask": INSIDE | True}, "length, mask: disagree"),
    ],
)
def test_other_lengths_are_refused(tmp_path, arrays, said):
    """Items would be cut at the wrong place."""
    with pytest.raises(ValueError, match=said):
        array("train", path=str(stored(tmp_path, **arrays)))


def smoothed(params, x, c_noise, cond, *, key=None):
    """A network whose outputs depend on neighbours, as convolutions and attention do."""
    x = Length(L).cut(x, cond["length"])
    return params["w"] * (x + jnp.roll(x, 1, axis=1))


def loss_of(batch, w=1.0):
    """Return `Denoising` in terms of v on a batch, with the network `smoothed`."""
    model = Model(VP(Linear()), V(), Network(lambda key, x, c_noise, cond: {}, smoothed))
    return Denoising()(Context(model, {"network": {"w": w}}, batch, jax.random.key(3)))


def test_padding_changes_neither_loss_nor_gradient():
    """The padding would be fitted, or seen through a convolution."""
    x = np.random.default_rng(1).normal(size=(4, L, 2)).astype(np.float32)
    cond = {"length": np.array([2, 3, 8, 5], np.uint32)}
    inside = np.arange(L)[:, None] < cond["length"][:, None, None]

    @jax.jit
    def both(x):
        batch = Reading(kind="sequence").on_device(jax.random.key(1), {"x": x, "cond": cond})
        return jax.value_and_grad(lambda w: loss_of(batch, w)[:2], has_aux=True)(0.7)

    first, second = both(x), both(np.where(inside, x, np.float32(np.nan)))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert np.isfinite(first[0][0]) and np.isfinite(first[1]) and first[1] != 0


def test_the_loss_of_an_item_is_the_mean_over_its_own_values():
    """An item would be weighted by its length, as a mean over all positions does."""
    batch = masked({"x": jnp.ones((2, L, 2)), "cond": {"length": jnp.array([2, 8], jnp.uint32)}})
    measured = loss_of(batch | {"weight": jnp.array([1.0, 0.0])}, w=0.0)[1]["loss"]
    key_t, key_eps, _, _ = jax.random.split(jax.random.key(3), 4)
    t, eps = Uniform().positions(key_t, 2), jax.random.normal(key_eps, (2, L, 2))
    sde = VP(Linear())
    t, _ = Uniform()(sde, t, ())
    v = sde.alpha(t)[:, None, None] * eps - sde.sigma(t)[:, None, None]
    assert float(measured) == pytest.approx(float((v[0, :2] ** 2).mean()) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"crop": 4}}, "config.data: crop=4: sequences with lengths cannot be cropped"),
        (
            {"loss": {"pairing": "optimal_transport"}},
            "pairing: compares",
        ),
        ({"loss": {"name": "flow_map"}}, "config.loss: FlowMap counts padding as data"),
        ({"sampling": {"sampler": {"name": "ddim"}, "steps": 2, "guidance": 2.0}}, "unconditional"),
    ],
)
def test_what_would_see_the_padding_is_refused(tmp_path, change, said):
    """A feature that cannot skip the padding would treat it as data."""
    assert said in refusal(config(stored(tmp_path), **change))


@pytest.mark.parametrize("shape", [(L, 2), (4, L)])
def test_forms_that_do_not_fit_their_length_are_refused(shape):
    """The items of a user's source would be cut along another axis."""
    with pytest.raises(ValueError, match="needs"):
        Form("sequence", shape, (Spec("length", "length", 5),))
    with pytest.raises(ValueError, match="length: the items are vectors of"):
        Form("vector", (8,), (Spec("length", "length", 8),))


def test_pictures_show_the_item_alone():
    """A line of zeros after the end would look like a value."""
    x = np.full((1, L, 1), 0.5, np.float32)
    tiles = KINDS["sequence"].tiles
    whole, ended = tiles(x), tiles(np.where(np.arange(L)[:, None] < 4, x, np.nan))
    coloured = lambda a: a[0, :, :, 0] == 31
    columns = coloured(ended).any(0)
    assert coloured(whole).any(0).all() and columns[:40].all() and not columns[42:].any()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["sequence", "audio"])
def test_a_run_trains_samples_and_writes(tmp_path, kind):
    """An item would be padded somewhere between data and files."""
    path = stored(tmp_path, channels=1, padding=7.0)
    trained = diffjax.fit(config(path, data={"kind": kind}), tmp_path / "run")
    rows = [json.loads(s) for s in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any(np.isfinite(row.get("held_out/loss", np.nan)) for row in rows)
    held_out = array("test", path=str(path), holdout=0.3, kind=kind)
    samples = trained.sample(5)
    np.testing.assert_array_equal(samples.cond["length"], held_out.cond["length"][:5])
    chosen = trained.sample(5, cond={"length": [3, 8]})
    ended = np.isnan(chosen.x).all(-1)
    np.testing.assert_array_equal(L - ended.sum(1), [3, 8, 3, 8, 3])
    assert np.isfinite(chosen.x[~ended]).all() and chosen.picture().shape[-1] == 3
    with pytest.raises(ConfigError, match="--cond=length=9: 9 is not a length; needs 1 to 8"):
        trained.sample(1, cond={"length": 9})
    files = KINDS[kind].folder()
    assert files is not None
    output.write(tmp_path / "files", chosen)
    each = sorted((tmp_path / "files").iterdir())
    assert [len(files.read(p, (L, 1), {})) for p in each] == [3, 8, 3, 8, 3]
    output.write(tmp_path / "out.npz", chosen)
    if kind == "sequence":
        again = array("train", path=str(tmp_path / "out.npz"), holdout=0.0)
        assert again.cond["length"].tolist() == [3, 8, 3, 8, 3]
