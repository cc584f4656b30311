"""Tokens of captions, by a vocabulary in the published format."""

import gzip

import pytest

from diffjax.io import bpe

pytestmark = pytest.mark.typed

PAIRS = ["t h", "th e</w>", "a t</w>", "c at</w>", "l l</w>", "i n", "in g</w>"]


@pytest.fixture(params=["vocab.txt.gz", "merges.txt"])
def tokenizer(request, tmp_path):
    path = tmp_path / request.param
    text = "\n".join(['"a version', *PAIRS]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return bpe.read(path)


def test_words_end_where_the_published_pattern_ends_them():
    """Words would be cut elsewhere than in the published pattern.

    Numbers are single digits, and characters that are neither letters nor numbers stand together.
    """
    text = "The cat\u2019s 12 &amp;amp; ½e\u0301!?'ll  you'LL\n...'S"
    wanted = ["the", "cat", "'s", "1", "2", "&", "½", "é", "!?'", "ll", "you", "'ll", "...'", "s"]
    assert list(bpe.words(text)) == wanted


def test_the_first_pair_of_the_file_is_joined_first(tokenizer):
    """Another order of merges would give other tokens for the same words."""
    assert tokenizer.tokens("the") == ["the</w>"]
    assert tokenizer.tokens("cat") == ["cat</w>"]
    assert tokenizer.tokens("thing") == ["th", "ing</w>"]
    assert tokenizer.tokens("llll") == ["l", "l", "ll</w>"]
    assert tokenizer.tokens("é") == ["Ã", "©</w>"]


def test_rows_begin_and_end_as_the_network_was_trained(tokenizer):
    """The vector, which is read at the end token, would be read elsewhere in long captions."""
    ids = tokenizer.ids
    start, end = len(ids) - 2, len(ids) - 1
    short, long = tokenizer(["the cat", "the " * 100])
    assert list(short[:5]) == [start, ids["the</w>"], ids["cat</w>"], end, 0]
    assert (ids["!"], ids["!</w>"], ids["th"]) == (0, 256, 512)
    assert len(long) == 77
    assert (long[0], long[-2], long[-1]) == (start, ids["the</w>"], end)


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("first\none two three\n")
    with pytest.raises(ValueError, match=r"notes.txt'.*two parts"):
        bpe.read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        bpe.read(tmp_path / "none.gz")
