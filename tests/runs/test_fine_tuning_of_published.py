"""Converted checkpoints as the start of adapters, DreamBooth, textual inversion, and of parts."""

import json
import re

import jax
import numpy as np
import pytest
from commands import ended, one_device
from PIL import Image
from safetensors.numpy import save_file
from small_checkpoints import HEADS, UNET, dit, unet

import diffjax
from diffjax.config import ConfigError, load, override
from diffjax.io.trees import flat

SHORT = ["train.steps=2", "train.batch_size=4", "train.log_every=2", "train.checkpoint_every=2"]
SHORT += ["train.sample_every=99", "train.writers=()", "sampling.steps=2", "optimizer.warmup=0"]
SHORT += ["optimizer.learning_rate=0.01"]


@pytest.fixture(autouse=True, scope="module")
def one():
    with one_device():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Convert a DiT of ten classes and a U-Net of diffusers, and write latents and pictures."""
    place, rng = tmp_path_factory.mktemp("published"), np.random.default_rng(0)
    small = {k: v if k == "pos_embed" else v / 8 for k, v in dit().items()}
    save_file(small, place / "dit.safetensors")
    (place / "ddpm").mkdir()
    save_file(unet(), place / "ddpm" / "diffusion_pytorch_model.safetensors")
    (place / "ddpm" / "config.json").write_text(json.dumps(UNET))
    x = rng.normal(size=(40, 4, 4, 4)).astype(np.float32)
    np.savez(place / "latents.npz", x=x, y=np.arange(40) % 10)
    (place / "mine").mkdir()
    for k in range(5):
        picture = rng.integers(0, 256, (12, 10, 3), np.uint8)
        Image.fromarray(picture).save(place / "mine" / f"{k}.png")
    with pytest.MonkeyPatch.context() as patch:
        heads = "--family=dit", f"--set=heads={HEADS['heads']}"
        for source, flags in (("dit.safetensors", heads), ("ddpm", ())):
            out = place / "runs" / source.partition(".")[0]
            assert ended(patch, "tools.convert", place / source, f"--out={out}", *flags) == 0
    return place


def network(path):
    return flat(jax.device_get(diffjax.load(path).denoise.params["network"]))


def train(world, name, workdir, monkeypatch, *changes):
    """Train from the converted checkpoint with its own config, as a user types it."""
    begin = world / "runs" / name
    fields = [f"--config.{text}" for text in (*SHORT, *changes)]
    flags = f"--config={begin / 'config.json'}", f"--workdir={workdir}", f"--resume_from={begin}"
    return ended(monkeypatch, "train", *flags, *fields)


def moved(before, after):
    """Return the paths of the parameters that changed, and of those that are new."""
    return {k for k, v in after.items() if k not in before or np.abs(v - before[k]).max() > 0}


WAYS = {
    "the row of a class": ("adapter=rows:where=label", "^adapter/.*label/embedding/rows$"),
    "an adapter": ("adapter=lora:where=blocks,rank=2", "^adapter/blocks/.*/(down|up)$"),
    "parts": ("optimizer.frozen=('^network/(?!blocks/.*qkv)',)", "^blocks/.*qkv"),
    "all weights": ("seed=0", "."),
}


FIRST = "the row of a class"
"""The others are in `make thorough`."""


@pytest.mark.parametrize(
    "name",
    [FIRST, *(pytest.param(n, marks=pytest.mark.thorough) for n in WAYS if n != FIRST)],
)
def test_what_is_not_trained_stays_that_of_the_published_network(
    name, world, tmp_path, monkeypatch
):
    """Fine-tuning by parts would change the others as well."""
    change, pattern = WAYS[name]
    data = f"data=array:path={world / 'latents.npz'},kind=latent,labels=True"
    assert train(world, "dit", tmp_path / "run", monkeypatch, data, change) == 0
    before, after = network(world / "runs/dit"), network(tmp_path / "run")
    changed = moved(before, after)
    assert changed and all(re.search(pattern, path) for path in changed)
    if name == "all weights":
        assert len(changed) > 0.9 * len(before)
    if name == "the row of a class":
        merged = flat(jax.device_get(diffjax.load(tmp_path / "run").merged().denoise.params))
        [path] = [k for k in before if k.endswith("label/embedding")]
        new = merged[f"network/{path}"]
        assert (np.abs(new - before[path]).max(1) > 0).tolist() == [False] * 10 + [True]


@pytest.mark.thorough
def test_dreambooth_begins_with_a_published_network(world, tmp_path, monkeypatch):
    """A published network could not learn images of one's own."""
    prior = f"--workdir={world / 'runs/ddpm'}", f"--out={tmp_path / 'prior'}", "--num=6"
    assert ended(monkeypatch, "tools.prior", *prior, "--steps=2") == 0
    data = f"data=dreambooth:path={world / 'mine'},prior={tmp_path / 'prior'},weight=0.5"
    adapter = "adapter=lora:where=Attention|Block,rank=2"
    assert train(world, "ddpm", tmp_path / "run", monkeypatch, data, adapter) == 0
    before, after = network(world / "runs/ddpm"), network(tmp_path / "run")
    changed = moved(before, after)
    assert changed and all(path.startswith("adapter/") for path in changed)
    assert network(world / "ddpm").keys() == before.keys()


def test_a_config_that_is_no_run_is_refused(tmp_path):
    for text, message in (("{}", "is no config of a run"), ("{", "cannot be read")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=rf"--config=.*config.json: {message}"):
            override(load(str(tmp_path / "config.json")), [])
