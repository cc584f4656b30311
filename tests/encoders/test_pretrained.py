"""Published transformers as encoders: their rules, what they keep, and folders they refuse."""

import json

import jax
import numpy as np
import pytest
from encoders_of_tests import KNOWN, POSITIONS, TOKENIZERS, folder

from diffjax.encoders import POOLED, TEXT, bert, clip, pretrained, t5, tokenizers
from diffjax.io import reading
from diffjax.nets.text import text
from diffjax.published.text import read

ENTRIES = {"clip": clip, "bigg": clip, "bert": bert, "t5": t5, "umt5": t5}
TEXTS = ["red apple, noto style", "zebra"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    return {name: folder(place / name, name) for name in TOKENIZERS}


def settings(name):
    return {} if ENTRIES[name] is clip else {"length": 22}


@pytest.mark.parametrize("name", ENTRIES)
def test_tokens_are_the_states_of_the_text(folders, name):
    """A network would attend to states of the padding, or not to those of the text."""
    encoder = ENTRIES[name](path=str(folders[name]), **settings(name))
    network = read(reading.read(folders[name]))
    length = POSITIONS if ENTRIES[name] is clip else 22
    ids, mask = tokenizers.read(folders[name], network.config)(TEXTS, length)
    there = np.ones_like(mask) if ENTRIES[name] is clip else mask
    wanted = jax.jit(text(network.settings).apply)(network.params, ids, there)["last"]
    tokens = encoder(TEXTS)[TEXT]
    assert tokens.shape == (2, length, encoder.specs[0].size)
    np.testing.assert_array_equal(~np.isnan(tokens).any(-1), there)
    np.testing.assert_allclose(tokens[there], np.asarray(wanted)[there], atol=2e-5)


def test_the_padding_of_a_masked_text_changes_nothing(folders):
    """A caption would mean something else with another largest length."""
    path = str(folders["t5"])
    short, long = (t5(path=path, length=n)(TEXTS)[TEXT] for n in (22, 30))
    there = ~np.isnan(short).any(-1)
    np.testing.assert_allclose(long[:, :22][there], short[there], atol=1e-5)
    assert np.isnan(long[:, 22:]).all()


def test_the_vector_of_a_text_is_the_state_at_its_end(folders):
    """SDXL would receive the state of another token, or one that is not projected."""
    encoder = clip(path=str(folders["bigg"]), state="before", pooled=True)
    plain = clip(path=str(folders["bigg"]))
    values, network = encoder(TEXTS), encoder.network
    assert [spec.name for spec in encoder.specs] == [TEXT, POOLED]
    ids = encoder.tokenizer(TEXTS, POSITIONS).ids
    ends = [row.tolist().index(522) for row in ids]
    states = plain(TEXTS)[TEXT][np.arange(2), ends]
    np.testing.assert_allclose(values[POOLED], states @ network.project, atol=1e-4)
    assert values[POOLED].shape == (2, 20)
    assert np.abs(values[TEXT] - plain(TEXTS)[TEXT]).max() > 0.1


@pytest.mark.parametrize("name", ["bigg", "t5"])
def test_the_empty_text_is_the_null_of_its_family(folders, name):
    """Guidance would lead away from something that the network was not trained with."""
    more = {"pooled": True} if name == "bigg" else {}
    of = lambda empty: ENTRIES[name](path=str(folders[name]), empty=empty, **more)(["", "zebra"])
    missing, zeros, encoded = map(of, ("missing", "zeros", "encoded"))
    for key, value in missing.items():
        assert np.isnan(value[0]).all() and (zeros[key][0] == 0).all()
        assert np.nanmax(np.abs(encoded[key][0])) > 0.1
        for other in (zeros, encoded):
            np.testing.assert_array_equal(other[key][1], value[1])


def test_each_text_is_encoded_once(folders, monkeypatch):
    """An epoch would encode all captions again, and a batch its repeated ones."""
    encoder = bert(path=str(folders["bert"]), length=12)
    calls = []
    counted = pretrained.dataclasses.replace(
        encoder,
        states=lambda *inputs: calls.append(len(inputs[1])) or encoder.states(*inputs),
        kept={},
    )
    first = counted(["red", "zebra", "red"])[TEXT]
    np.testing.assert_array_equal(counted(["zebra", "red"])[TEXT], first[[1, 0]])
    assert calls == [1, 1]
    assert bert(path=str(folders["bert"]), length=12) is encoder


def test_fingerprints_are_those_of_weights_and_tokenizer(folders, tmp_path):
    """A run would be sampled with another encoder, or not with a copy of its own."""
    first = bert(path=str(folders["bert"]), length=20)
    copy, other, changed = (
        folder(tmp_path / str(k), "bert", seed) for k, seed in enumerate((0, 1, 0))
    )
    file = changed / "tokenizer.json"
    file.write_text(file.read_text().replace('"apple"', '"appel"'))
    assert bert(path=str(copy), length=20) == first and len(first.fingerprint) == 12
    found = {bert(path=str(path), length=20).fingerprint for path in (other, changed)}
    assert len(found | {first.fingerprint}) == 3


def without(path, name):
    tensors = dict(reading.read(path).tensors)
    del tensors[name]
    reading.write(path / "model.safetensors", tensors, {})


def config(path, **changes):
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


BAD = {
    "tensor": (
        lambda p: without(p, "encoder.layer.1.output.dense.bias"),
        r"missing: 1 \(encoder\.layer\.1",
    ),
    "config": (lambda p: (p / "config.json").unlink(), "has no config.json"),
    "model": (lambda p: config(p, model_type="gpt2"), "model_type='gpt2': unknown; known: clip_t"),
    "field": (lambda p: p.joinpath("config.json").write_text('{"model_type": "bert"}'), "no field"),
    "tokenizer": (lambda p: (p / "tokenizer.json").unlink(), "has no tokenizer; known: tok"),
    "tensors": (lambda p: (p / "model.safetensors").unlink(), "no tensors in it"),
    "damaged": (lambda p: (p / "tokenizer.json").write_text("{"), "tokenizer.json: cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_lacks_something_is_refused(tmp_path, case):
    """A run would train on the states of random layers, or end in a traceback."""
    break_it, message = BAD[case]
    break_it(path := folder(tmp_path / "encoder", "bert"))
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        bert(path=str(path), length=20)


def test_bad_requests_are_refused_by_name(folders):
    """A setting would be ignored."""
    path = str(folders["bert"])
    for call, message in (
        (lambda: clip(path=path), "holds bert; needs clip_text_model; allowed: bert"),
        (lambda: t5(path=str(folders["clip"])), "holds clip_text_model; needs t5 or umt5; allowed"),
        (lambda: bert(path="nowhere"), "path=nowhere: no such folder"),
        (lambda: bert(path=path, length=POSITIONS + 1), "length=65: needs 1 <= length <= 64"),
        (lambda: bert(path=path, length=0), "length=0: needs length >= 1"),
        (
            lambda: bert(path=path, length=9, state="middle"),
            "state='middle': unknown; known: 'last'",
        ),
        (
            lambda: bert(path=path, length=9, empty="none"),
            "empty='none': unknown; known: 'miss",
        ),
        (lambda: bert(path=path, length=4)(["red apple style"]), "has 5 tokens; needs at most 4"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_tokens_beyond_the_network_are_refused(folders, tmp_path):
    """An index beyond the embedding would be read as its last row."""
    path = folder(tmp_path / "encoder", "clip")
    tensors, name = dict(reading.read(path).tensors), "embeddings.token_embedding.weight"
    reading.write(path / "model.safetensors", tensors | {name: tensors[name][:400]}, {})
    config(path, vocab_size=400)
    with pytest.raises(ValueError, match="'red': has the token 522; the network knows 400 tokens"):
        clip(path=str(path)).check(["red"])
    assert KNOWN > 522
