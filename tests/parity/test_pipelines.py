"""Pipelines of diffusers from text to images: see `make_pipelines.py`, which made the numbers."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from make_dit import drawn
from make_pipelines import (
    CASES,
    NEGATIVE,
    PROMPTS,
    SIDE,
    SIZED,
    STEPS,
    TOKENIZERS,
    WEIGHT,
    WIDE,
    family,
    noise,
)
from programs import quick
from rows import sampled

import diffjax
from diffjax.config import ConfigError
from diffjax.guidance.denoiser import GuidedDenoiser
from diffjax.io.reading import write

STORED = dict(np.load(Path(__file__).with_name("pipelines.npz")))
FILE = "diffusion_pytorch_model.safetensors"


def last(a):
    """Return an array with its channels last."""
    return np.moveaxis(a, 1, -1)


def close(ours, theirs):
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error < 1e-3, f"{error:.1e}"


def written(name, folder):
    """Write a pipeline with redrawn tensors, as diffusers saves one."""
    about = json.loads(str(STORED[f"{name}/about"]))
    put = lambda place, fields: (folder / place).write_text(json.dumps(fields))
    for part, shapes in about["shapes"].items():
        (folder / part).mkdir(parents=True)
        put(f"{part}/config.json", about["configs"][part])
        tensors = {k: drawn(f"{part}.{k}", tuple(shape)) for k, shape in shapes.items()}
        file = "model.safetensors" if part.startswith("text") else FILE
        write(folder / part / file, tensors, {"format": "pt"})
    for part, kind in about["tokenizers"].items():
        shutil.copytree(TOKENIZERS / kind, folder / part)
    (folder / "scheduler").mkdir()
    put("scheduler/scheduler_config.json", about["scheduler"])
    put("model_index.json", about["index"])
    return folder


def more(value):
    """Mark a further case of the same claim as thorough."""
    return pytest.param(value, marks=pytest.mark.thorough)


FIRST = ("sd15", "sd35")


@pytest.fixture(scope="module", params=[n if n in FIRST else more(n) for n in CASES])
def case(request, tmp_path_factory):
    """Return the name of a case and its network, loaded from its folder."""
    folder = written(request.param, tmp_path_factory.mktemp("pipelines") / request.param)
    settings = {"size": SIDE} if family(request.param) == "flux" else {}
    return request.param, diffjax.load(folder, settings=settings)


@pytest.mark.parametrize("negative", [None, more(NEGATIVE)])
def test_prompts_become_the_images_of_diffusers(case, negative):
    """Another text, null, scheduler or scale than that of the pipeline would draw other images."""
    name, trained = case
    weight = 1.0 if name == "flux_schnell" and not negative else WEIGHT
    prepare = lambda: trained.job(prompt=PROMPTS, negative=negative, steps=STEPS, guidance=weight)
    if name == "flux_dev" and negative:
        with pytest.raises(ConfigError, match="the network takes the weight of distilled guidance"):
            prepare()
        return
    job = prepare()
    denoise = GuidedDenoiser(quick(trained.denoise), job.plan.guidance, weight)
    cond = {k: jnp.asarray(v) for k, v in job.cond.items()}
    z = sampled(denoise, job.plan.table, last(noise(name)), cond)
    place = f"{name}/{'negative' if negative else 'plain'}"
    close(z, last(STORED[f"{place}/latents"]))
    image = np.asarray(trained.codec.decode(jnp.asarray(z, jnp.float32)))
    close(np.clip(image / 2 + 0.5, 0, 1), STORED[f"{place}/image"])


def test_another_size_is_that_of_latents_and_conditions(case):
    """SDXL would read the size of training, or the codec refuse what the network drew."""
    name, trained = case
    if name.startswith("flux"):
        return
    job = trained.job(prompt=PROMPTS, steps=STEPS, size=(2 * SIDE, 3 * SIDE))
    channels = last(noise(name)).shape[-1]
    assert job.form.shape == (SIDE, 3 * SIDE // 2, channels)
    assert job.decoding.stored.shape == (2 * SIDE, 3 * SIDE, 3)
    if name == "sdxl":
        sides = [2 * SIDE, 3 * SIDE]
        assert job.cond["text_pooled"][0, -6:].tolist() == [*sides, 0, 0, *sides]


@pytest.mark.thorough
def test_another_size_is_that_of_diffusers(case):
    """Positions, attention, or the sizes that SDXL reads would be those of training."""
    name, trained = case
    if name not in SIZED:
        return
    size = (2 * WIDE[0], 2 * WIDE[1])
    job = trained.job(prompt=PROMPTS, steps=STEPS, guidance=WEIGHT, size=size)
    assert job.form.shape == (*WIDE, last(noise(name)).shape[-1])
    denoise = GuidedDenoiser(quick(job.denoise), job.plan.guidance, WEIGHT)
    cond = {k: jnp.asarray(v) for k, v in job.cond.items()}
    z = sampled(denoise, job.plan.table, last(noise(name, WIDE)), cond)
    close(z, last(STORED[f"{name}/sized/latents"]))
    assert job.decoding.stored.shape == (*size, 3)


def test_the_times_of_flux_belong_to_a_size(case):
    """Images of another size would be drawn at the times of this one."""
    name, trained = case
    if name == "flux_dev":
        with pytest.raises(ConfigError, match=r"--size=32x16: the times of this network depend"):
            trained.job(prompt=PROMPTS, size=(32, 16))


def changed(folder, **fields):
    """Change fields of the index of a pipeline."""
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | fields))


def test_parts_that_are_missing_or_unknown_are_named(tmp_path):
    """A user would get an error about a tensor of some layer, or images of another text."""
    folder = written("sd15", tmp_path / "sd")
    with pytest.raises(ConfigError, match=r"text: not set \(--prompt of"):
        diffjax.load(folder).job()
    config = folder / "text_encoder" / "config.json"
    other = json.loads(str(STORED["sdxl/about"]))
    shapes = other["shapes"]["text_encoder_2"]
    tensors = {k: drawn(k, tuple(shape)) for k, shape in shapes.items()}
    write(config.with_name("model.safetensors"), tensors, {"format": "pt"})
    config.write_text(json.dumps(other["configs"]["text_encoder_2"]))
    with pytest.raises(ConfigError, match=r"texts become .*size=16.*the network takes .*size=24"):
        diffjax.load(folder)
    changed(folder, vae=["diffusers", "AutoencoderDC"])
    with pytest.raises(ConfigError, match="vae='AutoencoderDC': not supported; known: Auto"):
        diffjax.load(folder)
    changed(folder, vae=["diffusers", "AutoencoderKL"])
    shutil.rmtree(folder / "vae")
    with pytest.raises(ConfigError, match="the folder vae is missing"):
        diffjax.load(folder)
    changed(folder, _class_name="KandinskyPipeline")
    with pytest.raises(ConfigError, match="_class_name='KandinskyPipeline': unknown; known: St"):
        diffjax.load(folder)
