"""Adapters of PEFT, diffusers and LyCORIS: what is read, what is merged, and what is written."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffjax.io.reading import write
from diffjax.published import adapter_files, adapters
from diffjax.published.adapting import changed

FILE = np.load(Path(__file__).with_name("adapters.npz"))
CASES = list(dict.fromkeys(name.partition("/")[0] for name in FILE.files))
NAMED = {"kohya": "adapter", "diffusers": "pytorch_lora_weights"}


def part(case, name):
    """Return the arrays of a case by name."""
    above = f"{case}/{name}/"
    return {k.removeprefix(above): FILE[k] for k in FILE.files if k.startswith(above)}


def stored(case, folder):
    """Write the adapter as its library stored it, and return its path."""
    facts = json.loads(str(FILE[f"{case}/facts"]))
    path = folder / f"{NAMED.get(case.partition('_')[0], 'adapter_model')}.safetensors"
    write(path, part(case, "file"), facts.get("metadata", {}))
    if "config" in facts:
        (folder / adapters.CONFIG).write_text(json.dumps(facts["config"]))
        return folder
    return path


@pytest.mark.parametrize("case", CASES)
def test_merged_weights_are_those_of_the_original(case, tmp_path):
    """An adapter would do something else here than where it was trained."""
    base, wanted = part(case, "base"), part(case, "merged")
    merged = changed(base, [(adapters.opened(stored(case, tmp_path)), 1.0)])
    assert set(merged) == set(wanted)
    for name, weight in wanted.items():
        assert np.abs(weight - base[name]).max() > 0.1
        np.testing.assert_allclose(merged[name], weight, atol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case != "patterns"])
def test_files_are_those_of_the_original(case, tmp_path):
    """Another program would not find the tensors, or their settings."""
    read = adapters.fitted(adapters.opened(stored(case, tmp_path)), part(case, "base"))
    form = {"kohya": "kohya", "diffusers": "diffusers"}.get(case.partition("_")[0], "peft")
    made, wanted = adapter_files.FORMATS[form](read), part(case, "file")
    assert set(made.tensors) == set(wanted)
    for name, tensor in wanted.items():
        factor = 1.5 if form == "diffusers" and "lora_B" in name else 1  # the scale is in B
        assert made.tensors[name].shape == tensor.shape, name
        np.testing.assert_allclose(made.tensors[name], factor * tensor, rtol=1e-6)
    facts = json.loads(str(FILE[f"{case}/facts"]))
    if "config" in facts:
        ours, theirs = made.settings, facts["config"]
        assert set(ours) <= set(theirs)
        alpha = 3 * np.sqrt(2) if case == "rslora" else 3
        assert ours["r"] == theirs["r"] == 2 and ours["lora_alpha"] == pytest.approx(alpha)
        assert not ours["use_rslora"] and ours["use_dora"] == theirs["use_dora"]
        assert ours["target_modules"] == sorted(theirs["target_modules"])
    if form == "diffusers":
        both = made.metadata, facts["metadata"]
        ours, theirs = (json.loads(metadata[adapters.METADATA]) for metadata in both)
        assert set(ours) <= set(theirs)
        assert ours["unet.r"] == ours["unet.lora_alpha"] == theirs["unet.r"] == 2
        assert theirs["unet.lora_alpha"] == 3
