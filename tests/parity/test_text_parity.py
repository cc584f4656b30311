"""Published transformers of text with every tensor redrawn; `make_text.py` made the numbers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_features import drawn
from make_text import CASES, IDS, MASK

from diffjax.io.contents import Contents
from diffjax.nets.text import text
from diffjax.published.text import pooled, read

STORED = dict(np.load(Path(__file__).with_name("text.npz")))
LIMIT = 1e-5
"""Of the largest value; float32 in both."""


def contents(name):
    """Return the tensors drawn again with the config, and the stored arrays."""
    stored = {k.partition("/")[2]: v for k, v in STORED.items() if k.startswith(f"{name}/")}
    shapes = json.loads(str(stored["shapes"]))
    tensors = {k: np.asarray(drawn(k, tuple(s))) for k, s in shapes.items()}
    return Contents(tensors, {}, config=json.loads(str(stored["config"]))), stored


def close(ours, theirs, what):
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    assert error < LIMIT, f"{what}: {error:.1e}"


@pytest.mark.parametrize("name", CASES)
def test_states_are_those_of_transformers(name):
    """Published networks would receive other texts than they were trained with."""
    published, stored = contents(name)
    made = read(published)
    mask = np.ones_like(MASK) if "pooled" in stored else MASK
    apply = jax.jit(text(made.settings).apply)
    out = apply(made.params, jnp.asarray(IDS), jnp.asarray(mask, bool))
    there = mask.astype(bool)
    for state in ("last", "before"):
        close(out[state][there], stored[state][there], state)
    if "pooled" in stored:
        close(pooled(made, IDS, np.asarray(out["last"])), stored["pooled"], "pooled")
