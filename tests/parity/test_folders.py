"""Folders of diffusers, written from what was read from them: equal tensors, names and config."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from make_features import drawn

from diffjax import builder
from diffjax.codecs.rules import rule_of
from diffjax.config import load as load_config
from diffjax.config import override
from diffjax.data.form import labelled
from diffjax.io.contents import Contents
from diffjax.io.reading import read
from diffjax.io.trees import flat
from diffjax.published import autoencoder, diffusers, folders, schedulers
from diffjax.published.tables import conv, interleaved, layer, with_null
from diffjax.published.written import inverted, written
from diffjax.runs.published import completed

PARITY = Path(__file__).parent
UNETS = dict(np.load(PARITY / "converted.npz"))
KL = dict(np.load(PARITY / "autoencoders.npz"))


def stored(name):
    """Return the tensors of a model of diffusers, drawn again, with its config and scheduler."""
    own = {k.split("/")[1]: v for k, v in UNETS.items() if k.startswith(f"{name}/")}
    shapes = json.loads(str(own["shapes"]))
    tensors = {k: np.asarray(drawn(k, tuple(s)), np.float32) for k, s in shapes.items()}
    texts = (json.loads(str(own[f"{name}.json"])) for name in ("config", "scheduler_config"))
    return Contents(tensors, {}, "", *texts)


def same(ours, theirs):
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        assert ours[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("name", ["ddpm", "v", "modern"])
def test_a_unet_is_written_as_it_was_read(name, tmp_path):
    """A user of diffusers would load other weights, or a model with other settings."""
    contents = stored(name)
    converted = diffusers.convert(contents)
    form = labelled(converted.kind, converted.shape, converted.classes)
    experiment = builder.experiment(completed(converted), form)
    config = experiment.complete(experiment.config)
    files = folders.pipeline(
        config, experiment.model.sde, converted.shape, converted.params, converted.classes
    )
    folders.save(tmp_path, files)
    back = read(tmp_path)
    same(back.tensors, contents.tensors)
    differ = {
        k: (back.config.get(k), v)
        for k, v in contents.config.items()
        if back.config.get(k) != v and k != "_diffusers_version"
    }
    assert differ == {}
    theirs, ours = (schedulers.read(each.scheduler).sections for each in (contents, back))
    assert ours["sde"] == theirs["sde"]
    assert ours["parameterization"] == theirs["parameterization"]
    same(flat(diffusers.convert(back).params), flat(converted.params))


@pytest.mark.parametrize("name", ["sd", "vavae"])
def test_an_autoencoder_is_written_as_it_was_read(name):
    """A decoder trained here could not be used in a pipeline of diffusers."""
    own = {k.partition("/")[2]: v for k, v in KL.items() if k.startswith(f"{name}/")}
    shapes = json.loads(str(own["shapes"]))
    tensors = {k: np.asarray(drawn(k, tuple(s)), np.float32) for k, s in shapes.items()}
    contents = Contents(tensors, {}, config=json.loads(str(own["config"])))
    params = autoencoder.kl(contents).params
    settings = autoencoder._kl_settings(tensors, "resnets")
    network = {**settings, "name": "autoencoder", "groups": contents.config["norm_num_groups"]}
    rule = {"centre": [0.5], "scale": [2.0], "std": 1.0}
    ((config, back),) = folders.autoencoder(network, params, rule).values()
    same(back, tensors)
    norm = ("_diffusers_version", "latents_mean", "latents_std", "scaling_factor")
    stated = {k: v for k, v in contents.config.items() if v is not None and k not in norm}
    assert {k: v for k, v in stated.items() if config.get(k, v) != v} == {}
    assert rule_of(config, {}).normalisation.centre.tolist() == [0.5]


def test_a_learned_null_becomes_the_last_class():
    """The class of missing labels would be lost, or move all others."""
    contents = stored("modern")
    converted = diffusers.convert(contents)
    form = labelled(converted.kind, converted.shape, converted.classes)
    e = builder.experiment(completed(converted), form)
    network = e.complete(e.config)["network"]
    rows = converted.params["Embedding_0"]["label"]["embedding"]
    rows[0] = 7
    config, tensors = folders.unet(network, converted.shape, converted.params, converted.classes)
    assert config["num_class_embeds"] == converted.classes + 1
    theirs = tensors["class_embedding.weight"]
    assert (theirs[-1] == 7).all() and (theirs[:-1] == rows[1:]).all()


def test_layouts_are_inverted_where_they_keep_all_values():
    """A layout would be inverted to values that it does not have."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(12, 4)).astype(np.float32)
    layout = interleaved(2, "h3c")
    (back,) = inverted(layout, layout(w), [(12, 4)])
    assert (back == w).all()
    rows = with_null(w)
    assert (inverted(with_null, rows, [(12, 4)])[0] == w).all()
    rows[0, 0] = 1  # a learned null has no place among their classes
    assert inverted(with_null, rows, [(12, 4)]) is None
    assert inverted(lambda a, b: a + b, w, [(12, 4)] * 2) is None
    assert inverted(lambda a: a[:6], w[:6], [(12, 4)]) is None  # the others are not known
    table = conv("a", "b") | layer("c", "d")
    with pytest.raises(ValueError, match="e/kernel: has no counterpart"):
        written(table, {"e": {"kernel": w}})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([], "config.network.groups=32: norms of"),
        (["network={'name':'dit','width':16,'depth':1,'heads':2}"], "other frequencies"),
        (["network.groups=8", "network.patch=2"], "config.network.patch=2"),
        (["network.groups=8", "network.resample=filter"], "config.network.resample='filter'"),
        (["network.groups=8"], "config.sde.schedule.name='cosine'"),
        (["network.groups=8", "sde.schedule={'name':'ddpm_linear'}"], "c_noise='time'"),
    ],
)
def test_what_diffusers_lacks_is_refused_by_name(changes, reason):
    """A folder would be written whose samples differ from those of the run."""
    small = ["network.channels=32", "network.multipliers=(1, 2)", "network.attention=(4,)"]
    small = [] if "'dit'" in str(changes) else small
    e = builder.experiment(override(load_config("digits_vp"), small + changes))
    zeros = lambda a: np.zeros(a.shape, np.float32)
    params = jax.tree.map(zeros, jax.eval_shape(e.parameters))["network"]
    config = e.complete(e.config)
    with pytest.raises(ValueError, match="a") as error:
        folders.pipeline(config, e.model.sde, e.form.shape, params, 10)
    assert reason in str(error.value)
