"""Runs with a control: their base never changes, and controls go beside other networks."""

import json

import jax
import numpy as np
import pytest
from commands import ended
from PIL import Image

import diffjax
from diffjax import builder
from diffjax.config import ConfigError, load, override
from diffjax.data.maps import edges
from diffjax.io.trees import flat
from diffjax.nets import CONTROLS

pytestmark = pytest.mark.thorough
SHORT = ("network.channels=8", "network.attention=()", "network.heads=1", "train.batch_size=8")
SHORT += ("train.steps=2", "train.steps_per_dispatch=1", "train.log_every=1", "train.writers=()")
SHORT += ("train.checkpoint_every=1", "train.sample_every=5", "sampling.steps=2")


def fit(name, workdir, *changes, **more):
    return diffjax.fit(override(load(name), (*SHORT, *changes)), workdir, **more)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "run"
    fit("digits_vp", folder)
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("control") / "run"
    fit("digits_control", folder, "optimizer.learning_rate=0.1", resume_from=base, resume_ema="raw")
    return folder


def network(path, **more):
    return flat(jax.device_get(diffjax.load(path, **more).denoise.params["network"]))


def test_the_base_stays_bit_for_bit_what_it_was(base, run):
    """Training a control would change the network that it stands beside."""
    ours, theirs = network(run, ema="raw"), network(base, ema="raw")
    own = {k for k in ours if k.startswith("adapter/edges/")}
    assert set(ours) - own == set(theirs)
    assert all(np.array_equal(ours[k], theirs[k]) for k in theirs)
    assert any(np.abs(ours[k]).max() > 0 for k in own if "/out/" in k)
    state = json.loads((run / "checkpoints/2/state/_METADATA").read_text())["tree_metadata"]
    assert all("adapter" in path or "count" in path for path in state if "'network'" in path)


def test_controls_stand_beside_other_networks(base, run, tmp_path):
    """A control would act alone, with another weight, or in other rows than asked."""
    beside = diffjax.load(base, adapters={run: 1.0}, ema="raw")
    alone = diffjax.load(run)
    assert beside.experiment.form == alone.experiment.form
    assert beside.notes == (f"{run}: control added with weight 1",)
    halves = diffjax.load(base, adapters={run: (0.5, 0.0, 0.5)}).job(steps=4)
    model = halves.denoise.model
    labels = np.asarray(model.parameterization.c_noise(model.sde, halves.plan.table.t))
    (control,) = model.network.controls
    assert control.scale == 0.5
    assert (labels[1] > control.labels[0] > labels[2]) and control.labels[1] == np.inf
    beside.save(tmp_path / "export")
    ours, theirs = network(tmp_path / "export"), network(run)
    assert {k for k in ours if k.startswith("adapter")} == {k for k in theirs if "adapter" in k}
    again = diffjax.load(base, adapters={run: 0.5}).experiment
    twice = {**again.config["adapter"]["edges"], "condition": "small"}
    config = {**again.config, "adapter": {**again.config["adapter"], "small": twice}}
    with pytest.raises(ConfigError, match=r"config\.adapter\.small\.condition='small'"):
        builder.experiment(config, again.form)


def test_maps_of_given_images_are_conditions_of_samples(run, tmp_path, monkeypatch):
    """`--control` would give the maps of other images, or a picture of a map would be misread."""
    trained = diffjax.load(run)
    image = trained.experiment.source("test")[np.array([3])]["x"]
    wanted = edges(np.float32(image) / 127.5 - 1)
    job = trained.job(control=image, label=3)
    np.testing.assert_allclose(job.cond["edges"], wanted, atol=1e-6)
    Image.fromarray(np.uint8(np.round(255 * wanted[0, :, :, 0]))).save(tmp_path / "map.png")
    job = trained.job(cond={"edges": str(tmp_path / "map.png")})
    np.testing.assert_allclose(job.cond["edges"], wanted, atol=0.5 / 255 + 1e-6)
    Image.fromarray(image[0, :, :, 0]).save(tmp_path / "three.png")
    asked = [f"--workdir={run}", f"--control={tmp_path / 'three.png'}", "--num=2", "--label=3"]
    assert ended(monkeypatch, "sample", *asked, f"--out={tmp_path / 'out.npz'}") == 0
    assert np.load(tmp_path / "out.npz")["arr_0"].shape == (2, 8, 8, 1)
    with pytest.raises(ConfigError, match="--control: --cond=edges sets it too"):
        trained.job(control=image, cond={"edges": wanted})


def test_what_does_not_fit_is_refused(base, run, tmp_path):
    """A wrong control would end in a traceback, or be merged as if it were one of kernels."""
    with pytest.raises(ConfigError, match=r"condition='edge': the data have no such condition"):
        fit("digits_control", tmp_path / "a", "adapter.condition=edge", resume_from=base)
    with pytest.raises(ConfigError, match=r"maps\[0\]\.name='edgy'"):
        fit("digits_control", tmp_path / "b", "data.maps=('edgy',)", resume_from=base)
    config = load("digits_control")
    edm2 = {"name": "edm2", "channels": 8, "head_channels": 8, "multipliers": (1, 2)}
    edm2["attention"] = ()
    with pytest.raises(ConfigError, match=r"adapter: .* has no encoder to copy; allowed: unet"):
        builder.experiment({**config, "network": edm2})
    edges, kernels = config["adapter"], {"name": "lora", "where": "Dense"}
    with pytest.raises(ConfigError, match=r"adapter\.b: is no control, and config\.adapter\.a is"):
        builder.experiment({**config, "adapter": {"a": edges, "b": kernels}})
    with pytest.raises(ConfigError, match=r"b\.condition='edges': config\.adapter\.a reads it too"):
        builder.experiment({**config, "adapter": {"a": edges, "b": edges}})
    with pytest.raises(ConfigError, match=r"--resume_from=RUN names the run"):
        fit("digits_control", tmp_path / "d")
    with pytest.raises(ConfigError, match=r"start=0\.5, end=0\.2: needs 0 <= start < end <= 1"):
        diffjax.load(base, adapters={run: (1.0, 0.5, 0.2)})
    with pytest.raises(ConfigError, match="the network has a condition 'edges' already"):
        diffjax.load(run, adapters=run)
    with pytest.raises(ConfigError, match="--control: the network takes no map of images"):
        diffjax.load(base).job(control=np.zeros((1, 8, 8, 1), np.uint8))
    with pytest.raises(ConfigError, match="shares of the rows of a table; adaptive steps differ"):
        diffjax.load(base, adapters={run: (1.0, 0.5, 1.0)}).job(sampler="adaptive")


def test_a_control_is_exported_and_not_merged(run, tmp_path, monkeypatch, capsys):
    """`--merge` would write a folder that still has its control, in silence."""
    out = tmp_path / "merged"
    assert ended(monkeypatch, "tools.convert", str(run), "--merge", f"--out={out}") != 0
    assert "--merge: a control is no change of kernels" in capsys.readouterr().err
    assert ended(monkeypatch, "tools.convert", str(run), "--format=peft", f"--out={out}") != 0
    assert "--format=peft: holds controls alone" in capsys.readouterr().err


def test_every_control_is_constructed_from_a_config():
    """An entry of the catalogue could not be named in a config."""
    config = load("digits_control")
    settings = {"control_net": {}, "t2i": {"widths": (32, 64)}}
    for name in settings:
        section = {"name": name, "condition": "edges", **settings[name]}
        built = builder.experiment({**config, "adapter": section})
        assert type(built.model.network.controls[0]) is CONTROLS[name]
