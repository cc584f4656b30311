"""Adapters of encoders of text on redrawn weights; `make_text_adapters.py` made the numbers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_text import IDS, MASK
from test_text_parity import close, contents

from diffjax.encoders.pretrained import merged
from diffjax.io.reading import write
from diffjax.nets.text import text
from diffjax.published import adapters
from diffjax.published.text import read

STORED = dict(np.load(Path(__file__).with_name("text_adapters.npz")))
CASES = [key.removesuffix("/last") for key in STORED if key.endswith("/last")]


def stored(case, folder):
    """Write the adapter as its library stored it, and return its path."""
    above, facts = f"{case}/file/", json.loads(str(STORED[f"{case}/facts"]))
    tensors = {k.removeprefix(above): v for k, v in STORED.items() if k.startswith(above)}
    name = "adapter_model" if "config" in facts else "lora"
    write(path := folder / f"{name}.safetensors", tensors, facts["metadata"])
    if "config" in facts:
        (folder / adapters.CONFIG).write_text(json.dumps(facts["config"]))
        return folder
    return path


@pytest.mark.parametrize("case", CASES)
def test_states_with_an_adapter_are_those_of_peft(case, tmp_path):
    """A style would be described by other states than those that it was trained with."""
    published, _ = contents(case.partition("/")[0])
    changed = merged(published, stored(case, tmp_path), 1.0, "text_encoder")
    made, plain = read(changed), read(published)
    mask = np.ones_like(MASK) if made.settings.causal else MASK
    apply = jax.jit(text(made.settings).apply)
    ours, before = (
        np.asarray(apply(each.params, jnp.asarray(IDS), jnp.asarray(mask, bool))["last"])
        for each in (made, plain)
    )
    there, theirs = mask.astype(bool), STORED[f"{case}/last"]
    close(ours[there], theirs[there], case)
    assert np.abs(before - theirs)[there].max() > 0.01 * np.abs(theirs).max()


def test_an_adapter_of_another_part_is_refused(tmp_path):
    """An adapter of the second encoder would be merged into the first one."""
    published, _ = contents("clip")
    path = stored("clip/diffusers", tmp_path)
    with pytest.raises(ValueError, match="no adapter of the text_encoder_2, but of text_encoder"):
        merged(published, path, 1.0, "text_encoder_2")
    with pytest.raises(ValueError, match="no adapter of the network, but of text_encoder"):
        adapters.opened(path)
