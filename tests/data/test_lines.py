"""Lines of letters as tokens, and the models of letters beside them."""

from itertools import product

import numpy as np
import pytest

from diffjax.data import lines
from diffjax.data.form import Form
from diffjax.data.lines import items, texts
from diffjax.denoiser import Model
from diffjax.discrete import Masked, tokens
from diffjax.nets import dit
from diffjax.objectives import Discrete, Task
from diffjax.parameterization import X0
from diffjax.schedules import Cosine
from diffjax.sde import VP
from experiments.discrete.words import EDGE, Grams


def test_lines_become_tokens_and_come_back(tmp_path):
    """Letters would be shifted, or lines of other letters be learned with a wrong one."""
    (place := tmp_path / "words").write_text("zoo\nab\nAb\nab\nlonger\n\nab c\n")
    read = lines("train", str(place), length=5, holdout=0.0)
    assert texts(read.x) == ["ab", "zoo"] and read.x.shape == (2, 5, 1)
    k = np.asarray(tokens(read.x, 27))[..., 0]
    np.testing.assert_array_equal(k, [[0, 1, 26, 26, 26], [25, 14, 14, 26, 26]])


def test_splits_share_no_line(tiny_lines):
    train, test = (texts(lines(split, str(tiny_lines), 5, holdout=0.3).x) for split in SPLITS)
    assert train and test and not {*train} & {*test}


SPLITS = ("train", "test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "nowhere"}, "path='nowhere': no such file; the form is name=lines:PATH"),
        ({"length": 0}, "length=0"),
        ({"alphabet": "aa"}, "alphabet='aa': needs letters that differ"),
        ({"alphabet": "xyz"}, "has no line of up to 12 letters of 'xyz' alone"),
    ],
)
def test_what_cannot_be_read_is_named(tiny_lines, settings, message):
    with pytest.raises(ValueError, match=message):
        lines("train", **{"path": str(tiny_lines), **settings})


def test_the_process_has_the_levels_of_the_data():
    """Letters would fall between levels, and the bound be that of other data."""
    model = Model(VP(Cosine()), X0(), dit(width=8, depth=1, heads=2, patch=1))
    check = lambda loss, form: loss.check(loss.adapted(model), Task(form=form))
    form = Form("sequence", (5, 1), units=(("levels", 27),))
    check(Discrete(Masked(27)), form)
    with pytest.raises(ValueError, match=r"process.levels=26: .* of 27 levels; needs"):
        check(Discrete(Masked(26)), form)
    with pytest.raises(ValueError, match="of float32 without levels; needs"):
        check(Discrete(Masked(27)), Form("sequence", (5, 1)))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_probabilities_of_letters_sum_to_one(n):
    """The bits of a rival would be those of no distribution."""
    grams = Grams(["ab", "abba", "b"], n, "ab")
    for k in range(n):
        for context in map("".join, product("ab" + EDGE, repeat=k)):
            assert grams.law(context).sum() == pytest.approx(1)
    # All words of up to 8 letters hold nearly all probability, and the empty one the rest.
    words = ["".join(w) for k in range(9) for w in product("ab", repeat=k)]
    total = sum(2 ** -grams.bits(word) for word in words)
    assert 0.9 < total < 1 + 1e-9


def test_the_interpolated_count_is_that_of_the_formula():
    """With a, a, b seen: p(a) = (2 + 3 / 3) / (3 + 3), where three signs, also the end, differ."""
    grams = Grams(["aa", "b"], 1, "ab")  # signs: a a . b .
    np.testing.assert_allclose(grams.law(""), (np.array([2, 1, 2]) + 3 / 3) / (5 + 3))
    assert texts(items(["ab"], 4, "ab"), "ab") == ["ab"]
