"""Published checkpoints, converted: the same outputs, and the same samples from the same noise.

Samples are made row by row from one compiled network, which most cases share, and of a few by the
loop of `run`, a program for each.

`make_converted.py` made the numbers with the original code; here tensors are drawn again, written
to files as they are published, and read by the function of the command.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import make_dit
import make_unet
import numpy as np
import pytest
from make_converted import LABEL, SCHEDULES, STEPS, WEIGHT
from programs import quick
from rows import sampled
from safetensors.numpy import save_file

import diffjax
from diffjax.config import ConfigError
from diffjax.grids import trailing
from diffjax.guidance import Conditional, Guided, Query
from diffjax.runs import trained
from diffjax.samplers import SAMPLERS, run

STORED = dict(np.load(Path(__file__).with_name("converted.npz")))
TRANSFORMERS = ("dit", "sit")


def part(name):
    """The stored arrays of one network, and its tensors drawn again."""
    stored = {k.split("/")[1]: v for k, v in STORED.items() if k.startswith(f"{name}/")}
    drawn = make_dit.drawn if name in TRANSFORMERS else make_unet.drawn
    shapes = json.loads(str(stored["shapes"]))
    tensors = {k: np.asarray(drawn(k, tuple(shape))) for k, shape in shapes.items()}
    return stored, tensors | ({"pos_embed": stored["positions"]} if name in TRANSFORMERS else {})


def older(name):
    """Return the former name of a tensor of attention."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


def pipeline(folder, name, changed=None, scheduler=None):
    """A folder as diffusers saves it, with other values in its configs."""
    stored, tensors = part(name)
    for place, file, changes in (
        ("unet", "config.json", changed),
        ("scheduler", "scheduler_config.json", scheduler),
    ):
        (folder / place).mkdir()
        settings = json.loads(str(stored[file])) | (changes or {})
        (folder / place / file).write_text(json.dumps(settings))
    tensors = {older(k) if name == "scaled" else k: v for k, v in tensors.items()}
    save_file(tensors, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return stored


def image(a):
    return jnp.asarray(np.moveaxis(a, 1, -1))


def error(ours, theirs):
    """Return the largest difference, relative to the largest value."""
    theirs = np.moveaxis(theirs, 1, -1)
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def converted(path):
    """Convert the file by the family in its name."""
    contents, family = trained.opened(path, path.stem)
    return trained.convert(contents, family, path, {"heads": 2})


def cond(made):
    return {"label": jnp.asarray(LABEL)} if made.experiment.classes else {}


def looped(made, stored):
    """Sample by the plan of the config from the stored noise."""
    keys = jax.random.split(jax.random.key(0), len(LABEL))
    plan = made.experiment.plan(made.sde)
    guided = {"cond": cond(made), "guidance": plan.guidance}
    return run(made.denoise, plan.table, image(stored["noise"]), keys, **guided).x


def by_rows(made, stored):
    """Sample as `looped` does, row by row."""
    plan = made.experiment.plan(made.sde)
    assert plan.guidance == Conditional()
    return sampled(quick(made.denoise), plan.table, image(stored["noise"]), cond(made))


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """Return a function that loads the stored arrays and the pipeline of a name once."""

    @functools.cache
    def loaded(name):
        folder = tmp_path_factory.mktemp(name)
        return pipeline(folder, name), diffjax.load(folder, {"steps": STEPS})

    return loaded


SHORT = ("clipped", "v")
"""Pipelines of the short suite."""


def tiers(names: Iterable[str], short: tuple[str, ...] = SHORT) -> list[Any]:
    return [n if n in short else pytest.param(n, marks=pytest.mark.thorough) for n in names]


@pytest.mark.parametrize("name", tiers(SCHEDULES))
def test_diffusers_networks_say_the_same(name, pipelines):
    """Settings, names or the noise label would be misread."""
    stored, made = pipelines(name)
    steps, x = made.sde.schedule.steps, image(stored["noise"])
    t = jnp.full(2, 38 / steps)
    assert error(quick(made.denoise)(x, t, cond(made)).output, stored["output"]) < 1e-5
    assert ["use_clipped_model_output" in note for note in made.notes] == [True] * (
        name == "clipped"
    )


@pytest.mark.parametrize("name", tiers(sorted(set(SCHEDULES) - {"clipped"}), ()))
def test_diffusers_networks_sample_the_same(name, pipelines):
    """Betas, spacing or prediction type would be misread."""
    stored, made = pipelines(name)
    assert error(by_rows(made, stored), stored["samples"]) < 1e-3


@pytest.mark.parametrize(
    "name",
    [n if n == "clipped" else pytest.param(n, marks=pytest.mark.thorough) for n in SCHEDULES],
)
def test_the_loop_samples_diffusers_networks_the_same(name, pipelines):
    """The loop, which users run, would differ from the table."""
    stored, made = pipelines(name)
    assert error(looped(made, stored), stored["samples"]) < 1e-3


def test_weights_of_dit_and_its_samples_are_the_published_ones(tmp_path):
    """DDIM or guidance would differ from the original, which guides three channels of four."""
    stored, tensors = part("dit")
    save_file(tensors, tmp_path / "dit.safetensors")
    ddim = {"sampler": {"name": "ddim"}, "steps": STEPS, "guidance": 1.0}
    found = converted(tmp_path / "dit.safetensors")
    made = trained.resampled(found, ddim)
    x, t = image(stored["noise"]), (jnp.asarray(stored["t"]) + 1) / 1000
    denoise = quick(made.denoise)
    seen = denoise(x, t, cond(made))
    both = jnp.concatenate([seen.output, seen.log_var], -1)
    assert error(both, stored["output"]) < 1e-5
    assert error(by_rows(made, stored), stored["samples"]) < 1e-3
    guide = Guided()
    guided, _ = guide(Query(denoise, x, t, cond(made)), jnp.asarray(WEIGHT), guide.init(x))
    assert error(guided.eps[..., :3], stored["guided"][:, :3]) < 1e-5
    assert error(both[..., 3:], stored["guided"][:, 3:]) < 1e-5


@pytest.mark.typed
def test_weights_of_sit_and_its_samples_are_the_published_ones(tmp_path):
    """The sign or direction of time would be lost: SiT's time runs from noise to data."""
    stored, tensors = part("sit")
    save_file(tensors, tmp_path / "sit.safetensors")
    made = converted(tmp_path / "sit.safetensors")
    x, t = image(stored["noise"]), 1 - jnp.asarray(stored["t"])
    denoise = quick(made.denoise)
    output = denoise(x, t, cond(made)).output
    assert error(-output, stored["output"]) < 1e-5
    table = SAMPLERS["ddim"](made.sde, trailing(made.sde, STEPS))
    assert error(sampled(denoise, table, x, cond(made)), stored["samples"]) < 1e-3


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"act_fn": "gelu"}, ["act_fn='gelu'", "'silu', 'swish'"]),
        ({"center_input_sample": True}, ["center_input_sample=True", "False"]),
        ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, ["'SkipDownBlock2D'"]),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, ["up_block_types", "mirror image"]),
        ({"freq_shift": 3}, ["flip_sin_to_cos", "freq_shift=1"]),
        ({"norm_num_groups": 16}, ["norm_num_groups=16", "[32, 64, 96, 128]"]),
        ({"time_embedding_type": "fourier"}, ["'fourier'", "'positional'"]),
        ({"sample_size": None}, ["sample_size=None"]),
        ({"class_embed_type": "timestep"}, ["class_embed_type='timestep'"]),
        ({"beyond": 1}, ["beyond=1", "not supported"]),
    ],
)
def test_settings_that_ours_lacks_are_refused_by_name(changed, parts, tmp_path):
    """The weights would silently define another network."""
    pipeline(tmp_path, "ddpm", changed)
    with pytest.raises(ConfigError) as refused:
        diffjax.load(tmp_path)
    assert all(part in str(refused.value) for part in parts), refused.value
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"beta_schedule": "sigmoid"}, ["beta_schedule='sigmoid'", "scaled_linear"]),
        ({"prediction_type": "flow"}, ["prediction_type='flow'", "v_prediction"]),
        ({"timestep_spacing": "log"}, ["timestep_spacing='log'", "leading"]),
        ({"rescale_betas_zero_snr": True}, ["alpha is 0"]),
    ],
)
def test_schedulers_that_ours_lacks_are_refused_by_name(changed, parts, tmp_path):
    """Samples would be drawn at other noise levels than those of training."""
    pipeline(tmp_path, "ddpm", scheduler=changed)
    with pytest.raises(ConfigError) as refused:
        diffjax.load(tmp_path)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_deviations_from_the_original_are_reported(tmp_path):
    """Samples would differ from the original's without any message."""
    scheduler = {"clip_sample": True, "timestep_spacing": "linspace"}
    pipeline(tmp_path, "ddpm", scheduler=scheduler)
    (tmp_path / "scheduler" / "scheduler_config.json").rename(tmp_path / "kept.json")
    assert "assumed" in " ".join(diffjax.load(tmp_path).notes)
    (tmp_path / "kept.json").rename(tmp_path / "scheduler" / "scheduler_config.json")
    notes = " ".join(diffjax.load(tmp_path).notes)
    assert all(part in notes for part in ("clips", "linspace"))
