"""Folders of diffusers with controls, from files to samples: see `make_control.py`."""

import json

import numpy as np
import pytest
from make_control import CLIP, SIDES, TEXT, TOKENS
from PIL import Image
from safetensors.numpy import save_file
from test_control_parity import contents

import diffjax
from diffjax.config import ConfigError
from diffjax.published import controls

SIDE = 8 * SIDES[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write a U-Net, and controls beside it, as diffusers stores them."""
    place = tmp_path_factory.mktemp("published")
    for name in ("sd", "sd_control", "full"):
        made = contents(name)
        (place / name).mkdir()
        (place / name / "config.json").write_text(json.dumps(made.config))
        save_file(dict(made.tensors), place / name / "diffusion_pytorch_model.safetensors")
    save_file(dict(contents("image_prompt").tensors), place / "ip.safetensors")
    return place


@pytest.mark.thorough
def test_controls_of_files_stand_beside_a_published_network(folders):
    """A pipeline of ControlNet, T2I-Adapter and IP-Adapter could not be sampled."""
    chosen = {folders / "sd_control": (0.8, 0.0, 0.5), folders / "full": 0.5}
    trained = diffjax.load(folders / "sd", adapters={**chosen, folders / "ip.safetensors": 0.3})
    form = trained.experiment.form
    assert [(s.name, s.kind, s.size) for s in form.conditions] == [
        ("text", "tokens", TEXT),
        ("sd_control", "map", 192),
        ("full", "map", 192),
        ("ip", "vector", CLIP),
    ]
    assert trained.notes[-3:] == tuple(
        f"{folders / name}: control added with weight {weight}"
        for name, weight in (("sd_control", 0.8), ("full", 0.5), ("ip.safetensors", 0.3))
    )
    Image.new("RGB", (SIDE, SIDE), (255, 0, 51)).save(folders / "red.png")
    cond = {"text": np.ones((TOKENS, TEXT), np.float32), "ip": np.ones(CLIP, np.float32)}
    cond |= {name: str(folders / "red.png") for name in ("sd_control", "full")}
    job = trained.job(cond=cond, steps=2)
    pixels = job.cond["sd_control"][0, 3, 5].reshape(8, 8, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to([1, 0, 0.2], (8, 8, 3)), atol=1e-6)
    samples = job.samples(2)
    assert samples.x.shape == (2, SIDES[0], SIDES[0], 4) and np.isfinite(samples.x).all()


def test_what_stands_beside_another_network_is_refused(folders):
    """A control of another U-Net would be added with wrong shapes, or read as one of its own."""
    found = controls.opened(folders / "sd_control")
    assert found is not None
    with pytest.raises(ValueError, match="a copy of another U-Net: of other shapes: "):
        found.params({"Conv_0": {"kernel": np.zeros((3, 3, 5, 16))}}, {}, 8)
    with pytest.raises(ConfigError, match="family: a ControlNetModel acts beside a network"):
        diffjax.load(folders / "sd_control")
    made = contents("sd_control")
    wrong = {**(made.config or {}), "controlnet_conditioning_channel_order": "bgr"}
    with pytest.raises(ValueError, match="channel_order='bgr'; needs 'rgb'"):
        controls.control(made._replace(config=wrong), "edges")
    adapter = contents("full")
    wrong = {**(adapter.config or {}), "adapter_type": "heavy"}
    with pytest.raises(ValueError, match="adapter_type='heavy'; known: full_adapter"):
        controls.control(adapter._replace(config=wrong), "depth")
