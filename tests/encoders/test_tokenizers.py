"""Tokenizers of folders against transformers; `make_tokenizers.py` made the folders and tokens."""

import builtins
import json
from pathlib import Path

import pytest
from make_tokenizers import CUT, LENGTH, TEXTS

from diffjax.encoders import tokenizers

FOLDERS = sorted(Path(__file__).with_name("tokenizers").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tokens_are_those_of_transformers(folder):
    """A published network would receive other tokens than it was trained with."""
    theirs = json.loads((folder / "ids.json").read_text())
    tokenizer = tokenizers.read(folder, {})
    ours = tokenizer(TEXTS, LENGTH)
    assert ours.ids.tolist() == theirs["ids"]
    assert ours.mask.astype(int).tolist() == theirs["mask"]
    assert tokenizer(TEXTS, CUT, cut=True).ids.tolist() == theirs["cut"]


def test_a_text_with_more_tokens_is_refused():
    """The end of a prompt would be ignored in silence."""
    with pytest.raises(ValueError, match=r"'red apple, noto style': has \d+ tokens; needs at"):
        tokenizers.read(FOLDERS[0], {})(TEXTS, 3)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    """The error would name no file to add."""
    with pytest.raises(ValueError, match=r"has no tokenizer; known: tokenizer.json, spiece.model"):
        tokenizers.read(tmp_path, {})


@pytest.mark.parametrize(("folder", "package"), [("t5", "tokenizers"), ("pieces", "sentencepiece")])
def test_a_package_that_is_not_installed_is_named(folder, package, monkeypatch):
    """A user would not know how to go on."""
    found = builtins.__import__

    def refused(name, *rest, **more):
        if name == package:
            raise ImportError(name)
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(ValueError, match=rf"needs the package {package}: pip install 'diffjax\[te"):
        tokenizers.read(FOLDERS[0].parent / folder, {})


def test_the_tokenizer_of_a_pipeline_lies_beside_its_network(tmp_path):
    """The second encoder of a pipeline would be read with the tokenizer of the first, or none."""
    for name in ("text_encoder_2", "tokenizer_2", "tokenizer"):
        (tmp_path / name).mkdir()
    assert tokenizers.place(tmp_path / "text_encoder_2") == tmp_path / "tokenizer_2"
