"""From a config to objects: what cannot work is refused in one line, before compiling."""

import copy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import some

import ml_collections_configs
from diffjax import builder
from diffjax.builder.sections import OPTIONAL
from diffjax.config import ConfigError, load, override
from diffjax.data.form import Form, labelled
from diffjax.denoiser import Model
from diffjax.nets import NETWORKS
from diffjax.parameterization import PARAMETERIZATIONS
from diffjax.samplers import SAMPLERS
from diffjax.schedules import DERIVED, SCHEDULES, Discrete, Linear, Logit
from diffjax.sde import SDES
from diffjax.specs import Spec
from diffjax.training.experiment import Experiment

CONFIGS = sorted(
    p.stem
    for p in Path(ml_collections_configs.__file__).parent.glob("*_*.py")
    if not p.stem.startswith("_")
)
# Small, because each successful build traces the network.
BASE = override(load("digits_vp"), ["network.multipliers=(1,)", "network.attention=()"])
SCHEDULE_NAMES = ", ".join(sorted(SCHEDULES | DERIVED))
SECTIONS = [name for name, value in BASE.items() if isinstance(value, dict)]


def refused(config) -> str:
    """Return the one line with which `builder.experiment` refuses this config."""
    with pytest.raises(ConfigError) as error:
        builder.experiment(config)
    text = str(error.value)
    assert text and "\n" not in text
    return text


def as_published(name: str, **network) -> Experiment:
    """Describe data sets that have to be prepared first, in place of opening them."""
    config = load(name)
    config["network"] = {**config["network"], **network}
    if "perceptual" in config["loss"]:  # its weights would be downloaded
        config["loss"]["perceptual"] = "edges"
    prepared = name.startswith(("cifar", "imagenet"))
    side = 32 // (config["data"].get("reduced") or {}).get("factor", 1)
    form = labelled("image", (side, side, 3), 10 * config["data"]["labels"]) if prepared else None
    form = labelled("latent", (4, 4, 2), 10) if "codec" in config["data"] else form
    if config["data"]["name"].startswith("lines:"):
        form = Form("sequence", (12, 1), units=(("levels", 27),))
    form = labelled("image", (8, 8, 1), 10) if config["data"]["name"] == "dreambooth" else form
    form = labelled("image", (64, 40, 1), 10) if name == "spoken_bands" else form
    if config["data"]["name"] == "meshes":
        form = Form("cloud", (256, 3), (Spec("extents", "vector", 3), Spec("seen", "tokens", 3)))
    if config["data"].get("vocabulary") or {"codec", "encoder"} <= {*config["data"]}:
        text = {"texts": ("text",), "vocabulary": ("dot", "red", "new")}
        stored = ("latent", (4, 4, 2)) if "codec" in config["data"] else ("image", (32, 32, 3))
        dtype = "float32" if "codec" in config["data"] else "uint8"
        form = Form(*stored, (Spec("text", "words", 3),), dtype, **text)
    return builder.experiment(config, form)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_file_builds(name, monkeypatch):
    """A config file would have a setting that its object refuses.

    Everything is constructed except the trace of the network; `test_configs` trains the configs.
    """
    own = {"Block": "kernel", "words_text": "embedding"}
    adapted = {k: {leaf: jnp.zeros((8, 8))} for k, leaf in own.items()}
    adapted["blocks"] = {"kernel": jnp.zeros((2, 8, 8))}  # of two blocks
    params = adapted | {"adapter": {"up": jnp.zeros(1)}} if "adapter" in load(name) else {}
    nothing = lambda self, key, x, cond=None: {"network": params}
    monkeypatch.setattr(Model, "init", nothing)
    experiment = as_published(name)
    assert not experiment.loss.denoises or experiment.plan(experiment.model.sde).rows >= 1


@pytest.mark.thorough
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_file_builds_to_the_end(name):
    """The shapes of the blocks would not fit together, as one block of each level shows."""
    levels = load(name)["network"]["name"] in ("unet", "edm2")
    experiment = as_published(name, **{"blocks": 1} if levels else {})
    assert not experiment.loss.denoises or experiment.plan(experiment.model.sde).rows >= 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_file_initialises(name):
    """The shapes of the whole network would not fit together. All configs take half a minute."""
    state = jax.eval_shape(as_published(name).initialise)
    for average in state.ema.values():
        averaged = {part: state.params[part] for part in average}  # a critic has no average
        assert "network" in averaged
        assert jax.tree.structure(averaged) == jax.tree.structure(average)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_file_states_its_command(name):
    """The docstring is how a user learns what to type."""
    text = (Path(ml_collections_configs.__file__).parent / f"{name}.py").read_text()
    assert f"python -m diffjax.train --config=configs/{name}.py" in text


def test_arguments_of_the_config_reach_the_objects():
    """If a field were dropped on the way, another model would be trained without notice."""
    experiment = builder.experiment(
        override(
            BASE,
            [
                "sde.t_max=0.9",
                "sde.schedule.s=0.25",
                "parameterization.sigma_data=0.5",
                "parameterization.c_noise=angle",
                "ema.std=0.05",
                "train.steps=70",
                "sampling.steps=5",
                "sampling.guidance=2",
                "seed=3",
            ],
        )
    )
    sde, parameterization = experiment.model.sde, experiment.model.parameterization
    assert (sde.t_max, sde.schedule.s) == (0.9, 0.25)
    assert (parameterization.sigma_data, parameterization.c_noise.__name__) == (0.5, "angle")
    assert (experiment.averages["power"].std, experiment.train.steps, experiment.seed) == (
        0.05,
        70,
        3,
    )
    plan = experiment.plan(sde)
    assert (plan.rows, plan.passes) == (5, 10)
    np.testing.assert_array_equal(plan.table.weight, np.full(5, 2.0))


def test_sections_may_leave_out_what_has_defaults():
    config = copy.deepcopy(BASE)
    config["network"] = {"name": "unet", "channels": 8, "multipliers": (1,)}
    config |= {"sampling": {"sampler": {"name": "ddim"}}, "loss": {}, "train": {}}
    experiment = builder.experiment(config)
    plan = experiment.plan(experiment.model.sde)
    assert (plan.rows, plan.passes) == (50, 50)


def test_equal_configs_give_equal_models():
    """Models that are not equal would be compiled twice for no reason."""
    a, b = builder.experiment(BASE), builder.experiment(copy.deepcopy(BASE))
    assert a.model == b.model
    assert hash(a.model) == hash(b.model)


@pytest.mark.parametrize(
    ("assignment", "place", "hint"),
    [
        ("netwrk=1", "config.netwrk: no such field", "did you mean 'network'?"),
        ("network.chanels=1", "config.network.chanels: no such field", "mean 'channels'?"),
        ("data.nam=a", "config.data.nam: no such field", "known: only"),
        ("data.flipp=1", "config.data.flipp: no such field", "known: only"),
        ("sde.tmin=0.1", "config.sde.tmin: no such field", "did you mean 't_min'?"),
        ("sde.schedule.beta_min=1", "config.sde.schedule.beta_min: no such field", "known: s"),
        ("parameterization.sigma=1", "config.parameterization.sigma: no", "'sigma_data'"),
        ("loss.wieght=a", "config.loss.wieght: no such field", "did you mean 'weight'?"),
        ("optimizer.lr=1", "config.optimizer.lr: no such field", "learning_rate"),
        ("ema.decay=0.9", "config.ema.decay: no such field", "known: std"),
        ("sampling.step=1", "config.sampling.step: no such field", "did you mean 'steps'?"),
        ("sampling.sampler.etta=1.0", "config.sampling.sampler.etta: no such", "mean 'eta'?"),
        ("sampling.grid.rho=7.0", "config.sampling.grid.rho: no such field", "known: none"),
        ("train.batchsize=1", "config.train.batchsize: no such field", "mean 'batch_size'?"),
    ],
)
def test_an_unknown_field_is_refused_with_a_suggestion(assignment, place, hint):
    text = refused(override(BASE, [assignment]))
    assert place in text
    assert hint in text


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        (
            "data.name",
            "known: array, checkerboard, clips, conformers, demonstrations, diamonds, digits, "
            "dreambooth, dw4, emoji, folder, joint, joint_clips, latents, lines, lj13, lorenz96, "
            "meshes, molecules, moons, moving_digits, relief, "
            "series, sounds, table, tfds, webdataset, winds",
        ),
        ("sde.name", "known: flow, sub_vp, ve, vp"),
        ("sde.schedule.name", SCHEDULE_NAMES),
        ("parameterization.name", "edm, eps, score, v, velocity, x0"),
        (
            "parameterization.c_noise",
            "angle, half_logsnr, index, log_half_sigma, log_sigma, one_minus_t, quarter_log_sigma",
        ),
        ("network.name", "dit, edm2, egnn, mlp, unet, wavenet"),
        ("optimizer.name", "adafactor, adam, adamw, lion, muon"),
        ("ema.name", "constant, half_life, power, warmup"),
        ("sampling.sampler.name", "ab_angle, ab_logsnr, ancestral"),
        ("sampling.grid.name", "beta, cosine, explicit"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(place, hint):
    text = refused(override(BASE, [f"{place}=nonsense"]))
    assert f"config.{place}='nonsense': unknown" in text
    assert hint in text


def test_an_unknown_name_is_refused_with_a_suggestion():
    assert "did you mean 'cosine'?" in refused(override(BASE, ["sde.schedule.name=cosin"]))


@pytest.mark.parametrize("place", ["data.name", "sde.name", "ema.name"])
def test_a_name_that_is_no_text_is_refused(place):
    """A list is unhashable, and looking it up would end in a traceback."""
    section, field = place.split(".")
    config = copy.deepcopy(BASE)
    config[section][field] = [1]
    assert f"config.{place}=[1]" in refused(config)


@pytest.mark.parametrize("section", builder.SECTIONS)
def test_a_missing_section_is_named(section):
    config = {k: v for k, v in BASE.items() if k != section}
    if section in OPTIONAL:
        assert builder.experiment(config).config == config
        return
    assert f"config.{section}: missing" in refused(config)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [5.5, "vp"])
def test_a_section_that_has_no_fields_is_refused(section, value):
    """The most likely mistake in a file, `sde="vp"`, would end in a traceback."""
    assert f"config.{section}" in refused({**BASE, section: value})


@pytest.mark.parametrize(
    "place", ["data", "sde", "parameterization", "network", "optimizer", "sampling.sampler"]
)
def test_a_missing_name_is_refused_with_the_known_ones(place):
    config = copy.deepcopy(BASE)
    node = config
    for part in place.split("."):
        node = node[part]
    del node["name"]
    text = refused(config)
    assert f"config.{place}.name" in text
    assert "known: " in text


def test_sampling_without_a_sampler_is_refused():
    config = copy.deepcopy(BASE)
    del config["sampling"]["sampler"]
    assert "config.sampling.sampler" in refused(config)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("network.channels='abc'", "config.network.channels='abc': needs int, got str"),
        ("network.channels=8.0", "config.network.channels=8.0: needs int, got float"),
        ("network.multipliers=2", "config.network.multipliers=2: needs tuple"),
        ("network.multipliers=(1, 2.5)", "config.network.multipliers[1]=2.5: needs int"),
        ("train.steps=1.5", "config.train.steps=1.5: needs int, got float"),
        ("train.steps=True", "config.train.steps=True: needs int, got bool"),
        ("train.batch_size=None", "config.train.batch_size=None: needs int"),
        ("optimizer.learning_rate=fast", "config.optimizer.learning_rate='fast': needs float"),
        ("optimizer.clip=True", "config.optimizer.clip=True: needs float or NoneType, got bool"),
        ("sde.t_min=(1,)", "config.sde.t_min=(1,): needs float, got tuple"),
        ("sampling.steps=2.0", "config.sampling.steps=2.0: needs int, got float"),
        ("sampling.guidance=much", "config.sampling.guidance='much': needs float"),
        ("sampling.sampler.eta=half", "config.sampling.sampler.eta='half': needs float"),
        ("seed=1.0", "config.seed=1.0: needs int, got float"),
        ("seed=True", "config.seed=True: needs int, got bool"),
    ],
)
def test_a_wrong_type_is_refused(assignment, message):
    assert message in refused(override(BASE, [assignment]))


@pytest.mark.parametrize(
    ("assignments", "parts"),
    [
        (["seed=-1"], ["config.seed=-1", "0 <= seed"]),
        (["seed=4294967296"], ["config.seed=4294967296", "2**32"]),
        (["sde.t_min=0"], ["config.sde", "0 < t_min < t_max <= 1"]),
        (["sde.t_max=1.5"], ["config.sde", "t_max=1.5"]),
        (["sde.t_min=0.9", "sde.t_max=0.5"], ["config.sde", "t_min < t_max"]),
        (["sde.schedule.s=1.5"], ["config.sde.schedule", "s=1.5", "0 <= s < 1"]),
        (["sde.schedule={}"], ["config.sde.schedule"]),
        (["parameterization.sigma_data=0"], ["config.parameterization", "sigma_data > 0"]),
        (["loss.condition_dropout=2"], ["config.loss", "condition_dropout=2"]),
        (["loss.condition_dropout=-0.5"], ["config.loss", "condition_dropout=-0.5"]),
        (["optimizer.learning_rate=0"], ["config.optimizer", "learning_rate=0"]),
        (["optimizer.clip=-1"], ["config.optimizer", "clip=-1"]),
        (["optimizer.warmup=-1"], ["config.optimizer", "warmup=-1"]),
        (["optimizer.b1=2"], ["config.optimizer", "b1=2"]),
        (["optimizer.b2=-1"], ["config.optimizer", "b2=-1"]),
        (["ema.std=0.5"], ["config.ema", "std=0.5", "0 < std"]),
        (["sampling.steps=0"], ["config.sampling", "steps=0"]),
        (["sampling.sampler.eta=2"], ["config.sampling.sampler", "eta=2", "0 <= eta <= 1"]),
        (["sampling.guidance=1e999"], ["config.sampling.guidance=inf", "finite"]),
        (["train.batch_size=0"], ["config.train", "batch_size=0", "batch_size >= 1"]),
        (["train.steps=0"], ["config.train", "steps=0"]),
        (["train.keep=0"], ["config.train", "keep=0"]),
        (["train.log_every=-5"], ["config.train", "log_every=-5"]),
    ],
    ids=lambda v: ",".join(v),
)
def test_a_value_out_of_range_is_refused(assignments, parts):
    schedule = [a for a in assignments if a == "sde.schedule={}"]
    config = override(BASE, [a for a in assignments if a not in schedule])
    if schedule:
        config["sde"]["schedule"] = {}
    text = refused(config)
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("network.channels=0", "channels=0"),
        ("network.channels=-8", "channels=-8"),
        ("network.blocks=-1", "blocks=-1"),
        ("network.heads=0", "heads=0"),
        ("network.heads=-2", "heads=-2"),
        ("network.heads=3", "heads=3: must divide"),
        ("network.multipliers=()", "multipliers=()"),
        ("network.multipliers=(1, 2, 2, 2, 2)", "divisible by 16"),
        ("network.dropout=2", "dropout=2"),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_training(assignment, part):
    """The user would see a traceback of the compiler, which explains nothing."""
    text = refused(override(BASE, [assignment]))
    assert "config.network" in text
    assert part in text


def toy(**data):
    return override(BASE, []) | {"data": data, "network": {"name": "mlp"}}


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({**BASE, "data": {"name": "moons"}, "network": {"name": "unet"}}, "unet"),
        ({**BASE, "network": {"name": "mlp"}}, "mlp"),
    ],
    ids=["unet for points", "mlp for images"],
)
def test_a_network_that_does_not_suit_the_data_is_refused(config, part):
    text = refused(config)
    assert "config.network" in text
    assert part in text


@pytest.mark.parametrize("data", [{"size": -1}, {"size": 0}, {"noise": -0.5}], ids=str)
def test_data_that_cannot_be_is_refused(data):
    assert "config.data" in refused(toy(name="moons", **data))


def test_the_split_of_the_data_is_no_setting():
    """`data.split=test` would train on held-out data, or crash: commands choose the split."""
    text = refused(override(BASE, ["data.split=test"]))
    assert "config.data.split: no such field" in text


@pytest.mark.parametrize(
    ("assignments", "parts"),
    [
        (
            ["sde.t_max=1.0", "parameterization.name=eps"],
            ["config.parameterization", "alpha is 0", "t_max < 1"],
        ),
        (["sde.t_max=1.0", "sde.name=ve"], ["config.sde", "sigma is infinite", "t_max < 1"]),
        (
            ["sde.t_max=1.0", "sampling.sampler.name=heun"],
            ["config.sampling.sampler", "alpha is 0", "ddim"],
        ),
        (
            ["sde.t_max=1.0", "sampling.grid.name=logsnr_uniform"],
            ["config.sampling.grid", "-inf", "uniform"],
        ),
        (
            ["data.labels=False", "sampling.guidance=1.5"],
            ["config.sampling.guidance=1.5", "unconditional"],
        ),
        (["data.name=checkerboard"], ["config.data: labels=True", "no labels"]),
        (["data.name=moons", "data.flip=True"], ["config.data: flip", "(2,)"]),
        (["data.crop=9"], ["config.data: crop=9", "(8, 8, 1)"]),
        (["data.workers=0"], ["config.data: workers=0"]),
        (["network.classes=7"], ["config.network.classes: no such field"]),
        (["data.augment=affin"], ["config.data.augment.name='affin'", "did you mean 'affine'?"]),
        (["data.augment=affine:p=2"], ["config.data.augment: p=2"]),
        (["data.augment=affine:q=2"], ["config.data.augment.q: no such field"]),
        (["data.name=moons", "data.augment=affine"], ["config.data: augment", "(2,)"]),
        (["data.name=moons", "data.dequantize=True"], ["config.data: dequantize", "float32"]),
        (["data.name=checkerboard", "data.labels=False", "data.balanced=True"], ["balanced=True"]),
        (["loss.condition_dropout={'augment': 0.1}"], ["condition_dropout.augment: no such"]),
        (
            ["loss.pairing=optimal_transport", "sampling.sampler=ancestral"],
            ["config.loss: pairing: ", "config.sampling.sampler.name='ancestral' adds noise"],
        ),
        (["train.accumulate=3"], ["config.train: batch_size=128", "accumulate=3"]),
        (["train.steps_per_dispatch=7"], ["config.train: steps=600", "steps_per_dispatch=7"]),
        (["network.dtype=float16"], ["config.network: dtype='float16'", "bfloat16"]),
    ],
    ids=lambda v: v[-1],
)
def test_what_cannot_work_together_is_refused(assignments, parts):
    text = refused(override(BASE, assignments))
    for part in parts:
        assert part in text


INFINITE = ("cosine", "sigmoid", "polynomial", "laplace", "logit")
"""Schedules whose log-SNR is -inf at t = 1."""
STEEP = ("sigmoid", "laplace")
"""Those along which alpha falls like the root of 1 - t, or faster: its slope is infinite."""


ENDS = [(name, 1.0) for name in SCHEDULES] + [(name, 0.995) for name in INFINITE]


@pytest.mark.parametrize("frame", some(SDES, ("vp", "ve")))
@pytest.mark.parametrize(("schedule", "t_max"), some(ENDS, ENDS[::4]))
def test_every_legal_combination_builds_and_the_others_are_refused(schedule, frame, t_max):
    """A legal combination would be refused, or an illegal one accepted.

    Where l is -inf at t_max, alpha is 0 or sigma infinite there; nothing else is refused. All
    parameterizations of a process are tested, as the rest of the config does not depend on them.
    """
    config = {**BASE, "sde": {"name": frame, "t_max": t_max, "schedule": {"name": schedule}}}
    unbounded = schedule in INFINITE and t_max == 1
    if unbounded and frame == "ve":
        assert "config.sde: " in refused(config)
        return
    for name in PARAMETERIZATIONS:
        config["parameterization"] = {"name": name}
        steep = name == "velocity" and schedule in STEEP
        if unbounded and (name in ("eps", "score") or steep):
            with pytest.raises(ConfigError, match=r"^config\.parameterization: "):
                builder.construct_model(config, (Spec("label", "label", 10),))
        else:
            model = builder.construct_model(config, (Spec("label", "label", 10),))
            assert type(model.sde) is SDES[frame]
            assert model.sde.schedule == SCHEDULES[schedule]()
            assert type(model.parameterization) is PARAMETERIZATIONS[name]
    table = builder.plan(
        {"sampler": {"name": "ddim"}, "steps": 5}, model.sde, labelled("points", (2,), 0)
    ).table
    assert np.isfinite(table.update).all()


@pytest.mark.parametrize("frame", some(SDES, ("flow",)))
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_every_frame_and_parameterization_builds_to_the_end(frame, name):
    config = override(toy(name="moons"), [f"sde.name={frame}", "sde.t_max=0.995"])
    config["parameterization"] = {"name": name}
    experiment = builder.experiment(config)
    assert type(experiment.model.sde) is SDES[frame]
    assert type(experiment.model.parameterization) is PARAMETERIZATIONS[name]


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        (
            {"name": "shifted", "by": -1.0, "schedule": {"name": "logit"}},
            DERIVED["shifted"](Logit(), -1.0),
        ),
        (
            {"name": "classic_sub_vp", "schedule": {"name": "linear", "beta_max": 10.0}},
            DERIVED["classic_sub_vp"](Linear(beta_max=10.0)),
        ),
        (
            {
                "name": "shifted",
                "schedule": {"name": "zero_terminal", "schedule": {"name": "linear"}},
            },
            DERIVED["shifted"](DERIVED["zero_terminal"](Linear())),
        ),
        ({"name": "discrete", "betas": (0.1, 0.2, 0.3)}, Discrete((0.1, 0.2, 0.3))),
    ],
    ids=lambda v: v["name"] if isinstance(v, dict) else "",
)
def test_schedules_made_of_another_are_nested_in_the_config(spec, made):
    """The inner schedule would be lost, or keep its defaults."""
    place = "config.sde.schedule"
    assert builder.construct_schedule(spec, place) == made
    config = toy(name="moons") | {"sde": {"name": "sub_vp", "t_max": 0.99, "schedule": spec}}
    assert builder.experiment(config).model.sde.schedule == made


@pytest.mark.parametrize(
    ("schedule", "parts"),
    [
        (
            {"name": "shifted", "schedule": {"name": "logi"}},
            ["config.sde.schedule.schedule.name='logi': unknown", "'logit'"],
        ),
        (
            {"name": "shifted", "schedule": {"name": "linear", "beta_min": -1.0}},
            ["config.sde.schedule.schedule: ", "0 < beta_min"],
        ),
        (
            {"name": "shifted", "schedule": {"name": "linear", "s": 1.0}},
            ["config.sde.schedule.schedule.s: no such field"],
        ),
        (
            {"name": "linear", "schedule": {"name": "logit"}},
            ["config.sde.schedule.schedule: no such field"],
        ),
        ({"name": "shifted"}, ["config.sde.schedule.schedule.name: missing; known: "]),
        ({"name": "shifted", "schedule": "logits"}, ["config.sde.schedule.schedule.name='logits'"]),
        ({"name": "shifted", "schedule": 3}, ["config.sde.schedule.schedule=3"]),
        ({"name": "discrete", "betas": (0.1, 2.0)}, ["config.sde.schedule", "betas"]),
        ({"name": "discrete"}, ["config.sde.schedule", "betas"]),
    ],
    ids=str,
)
def test_a_nested_schedule_that_cannot_be_is_refused_with_its_place(schedule, parts):
    """The reader would not know which of the schedules is meant."""
    text = refused({**BASE, "sde": {"name": "vp", "schedule": schedule}})
    for part in parts:
        assert part in text


CAN = {"learn_variance": True, "conditions": {"to": {"size": 1}}}
"""What samplers may need of config.network."""


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_of_the_catalogue_builds_with_its_defaults(name):
    sde = builder.construct_sde(BASE["sde"], "config.sde")
    spec = {**BASE["sampling"], "sampler": {"name": name}}
    assert (
        builder.plan(spec, sde, labelled("points", (2,), 2), **builder.abilities(CAN)).rows
        >= BASE["sampling"]["steps"]
    )
    if name.endswith("_learned"):
        assert "a network with a second output" in refused(
            override(BASE, [f"sampling.sampler.name={name}"])
        )
    if SAMPLERS[name].leads:
        assert "a second time" in refused(override(BASE, [f"sampling.sampler.name={name}"]))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_catalogue_builds_with_its_defaults(name):
    suited = {"mlp": "moons"}.get(name, "digits")
    config = {**BASE, "data": {"name": suited}, "network": {"name": name}}
    config["network"] |= {"multipliers": (1, 2)} if name == "unet" else {}
    config["network"] |= {"attention": (8,)} if name == "edm2" else {}
    form = labelled("sequence", (16, 2), 0) if name in ("wavenet", "egnn") else None
    assert builder.experiment(config, form).conditions(3) == {}


def test_labels_go_round_and_reach_the_loss_only_if_the_network_has_classes():
    experiment = builder.experiment(BASE)
    np.testing.assert_array_equal(experiment.conditions(12)["label"], [*range(10), 0, 1])
    items = experiment.source("train")[np.arange(3)]
    assert set(experiment.batch(items)["cond"]) == {"label"}
    unconditional = builder.experiment(override(BASE, ["data.labels=False"]))
    assert unconditional.batch(items)["cond"] == {}


def test_what_follows_the_colon_of_a_name_is_the_first_setting_of_the_source():
    """`moons:500` would not be 500 points, nor `folder:PATH` change the data in one line."""
    for text, part in (("folder:/no/where", "path='/no/where'"), ("array:a.npy", "path='a.npy'")):
        assert f"config.data: {part}" in refused(override(BASE, [f"data.name={text}"]))
    assert "config.data.name='foldr'" in refused(override(BASE, ["data.name=foldr:/a"]))
    assert "drawn='a': unknown" in refused(override(BASE, ["data.name=emoji:a"]))
    assert "size='a': needs int" in refused(override(BASE, ["data.name=moons:a"]))


def test_a_run_whose_form_of_data_is_known_opens_no_data_set():
    """Sampling from a run would need the data on which it was trained."""
    config = override(BASE, ["data.name=folder:/no/where"])
    experiment = builder.experiment(config, labelled("image", (16, 16, 3), 5))
    assert (experiment.shape, experiment.classes) == ((16, 16, 3), 5)
    np.testing.assert_array_equal(experiment.conditions(6)["label"], [0, 1, 2, 3, 4, 0])


def test_images_of_another_size_and_kind_need_another_data_line_alone(tmp_path):
    """A user would have to set size, channels and classes, which follow from the data."""
    x = np.zeros((40, 16, 24, 3), np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(40) % 4)
    experiment = builder.experiment(override(BASE, [f"data.name=array:{tmp_path}/mine.npz"]))
    assert (experiment.shape, experiment.classes) == ((16, 24, 3), 4)
    label = jax.eval_shape(experiment.initialise).params["network"]["Embedding_0"]["label"]
    assert label["embedding"].shape[0] == 5


def test_the_network_is_built_for_augmentation_and_sampling_leaves_it_out():
    """A user would have to set the width of the labels by hand, or samples look augmented."""
    experiment = builder.experiment(override(BASE, ["data.augment=affine:p=0.3,turn=True"]))
    assert experiment.reading.augment.p == 0.3
    params = jax.eval_shape(experiment.initialise).params["network"]["Embedding_0"]
    assert params["augment"]["kernel"].shape[0] == experiment.reading.augment.width == 11
    config = override(BASE, ["data.augment=affine:labels=False"])
    silent = jax.eval_shape(builder.experiment(config).initialise).params["network"]["Embedding_0"]
    assert "augment" not in silent
    config = override(BASE, ["data.augment=affine"]) | {"network": {"name": "dit", "size": "S"}}
    assert "config.network: condition 'augment' of kind augment: enters by features" in refused(
        config
    )


def test_a_large_number_in_whole_digits_may_stand_for_a_float():
    """197 TFLOP/s would have to be written 1.97e14. FLOP/s and rates beyond 2^31 are no counts."""
    train = {"peak_flops": 197_000_000_000_000}
    e = builder.experiment(load("moons_vp") | {"train": train})
    assert e.train.peak_flops == 197e12
    with pytest.raises(ConfigError, match=r"steps=3000000000: needs an integer below 2\*\*31"):
        builder.experiment(load("moons_vp") | {"train": {"steps": 3_000_000_000}})
