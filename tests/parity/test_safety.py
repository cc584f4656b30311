"""The filter `clip_concepts` beside diffusers' safety checker, with every weight drawn again.

`make_safety.py` made the decisions with the original code.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from make_features import drawn, noise
from make_safety import SHIFTS, SIZE, SPECIAL, limits

import diffjax.filters.clip_concepts  # noqa: F401
from diffjax.builder import construct_filters

STORED = dict(np.load(Path(__file__).with_name("safety.npz")))


@pytest.fixture(scope="module")
def tensors():
    shapes = json.loads(str(STORED["shapes"]))
    return {k: np.asarray(drawn(k, tuple(s))) for k, s in shapes.items()}


def test_images_are_stopped_as_the_original_stops_them(tensors):
    """Images would pass, or be grey, that the published checker judges otherwise."""
    import sys

    module = sys.modules["diffjax.filters.clip_concepts"]
    tower, (special, _, concepts, _) = module.converted(tensors)
    v = jax.jit(tower.net.apply)(tower.params, jnp.asarray(noise(SIZE)))["pool"]
    ours = np.zeros_like(STORED["decisions"])
    score = jax.jit(module.scores)
    for i, other in enumerate(SPECIAL):
        of_special = limits("special_care_embeds_weights", 3, other)
        for j, shift in enumerate(SHIFTS):
            of_concepts = limits("concept_embeds_weights", 17, shift)
            ours[i, j] = score(v, special, of_special, concepts, of_concepts) > 0
    np.testing.assert_array_equal(ours, STORED["decisions"])
    changes = STORED["decisions"].sum(1)  # of shifts at which an image is stopped
    assert (changes > 0).all() and (changes < len(SHIFTS)).all()
    assert (changes[0] > changes[2]).all()  # special concepts that are near count 0.01


@pytest.mark.parametrize("old", [False, True])
def test_the_file_of_a_pipeline_is_read(tensors, tmp_path, old):
    """The published file has its tower below `vision_model.vision_model`."""
    rename = lambda k: k.replace("vision_model.", "vision_model.vision_model.", 1) if old else k
    (tmp_path / "safety_checker").mkdir()
    made = {rename(k): v for k, v in tensors.items()}
    file = tmp_path / "safety_checker" / "model.safetensors"
    safetensors.numpy.save_file(made, file)
    (found,) = construct_filters([f"clip_concepts:path={file.parent}"], "--filter")
    assert found.stops(noise(40)).shape == (2,)
    assert found.about["name"] == "clip_concepts" and len(found.about["sha256"]) == 12
    del made["concept_embeds"]
    safetensors.numpy.save_file(made, file)
    with pytest.raises(ValueError, match=r"is no safety checker \(lacks concept_embeds"):
        construct_filters([f"clip_concepts:path={file}"], "--filter")
