"""Rates and intervals of the answers of participants."""

import json

import numpy as np
import pytest
from scipy import stats

from diffjax import intervals
from diffjax.config import ConfigError
from diffjax.report import answers


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (31, 50), (49, 50), (1200, 2400)])
def test_intervals_and_tests_are_those_of_scipy(hits, count):
    """A wrong interval would be printed in a paper."""
    ours = intervals.wilson(hits / count, count)
    exact = stats.binomtest(hits, count)
    np.testing.assert_allclose(ours, exact.proportion_ci(method="wilson"), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(answers.fair(hits, count), exact.pvalue, rtol=1e-12)


def test_answers_that_go_together_count_less():
    """Ten people who agree on the same pairs would count as ten independent observations."""
    rng = np.random.default_rng(0)
    one = np.arange(40) % 2 == 0
    assert answers.independent(np.tile(one, (10, 1))) == pytest.approx(39)
    assert answers.independent(np.tile(one[:, None], (1, 10))) == pytest.approx(39)
    assert answers.independent(np.ones((3, 7))) == 21
    found = [answers.independent(rng.random((10, 40)) < 0.6) for _ in range(50)]
    assert max(found) <= 400 and 180 < np.mean(found) < 300  # conservative


def test_the_clustered_interval_holds_the_truth_where_the_simple_one_does_not():
    """The interval would be half as wide as it should be where pairs and people differ."""
    rng, held = np.random.default_rng(1), np.zeros(2)
    for _ in range(400):
        chance = 0.5 + rng.uniform(-0.35, 0.35, (1, 30)) + rng.uniform(-0.15, 0.15, (10, 1))
        hits = rng.random((10, 30)) < chance
        for k, count in enumerate((hits.size, answers.independent(hits))):
            low, high = intervals.wilson(hits.mean(), count)
            held[k] += (low <= 0.5 <= high) / 400
    assert held[0] < 0.8
    assert 0.93 < held[1] < 0.99


KEY = {
    "page": "p",
    "trials": [{"hit": side} for side in ("left", "right", "right", "left")],
}


def test_rates_are_those_counted_by_hand():
    """Left and right, or the two images of a pair, would be mixed up."""
    people = [
        answers.Answers("ann", np.array([False, True, True, True]), np.array([1.0, 2, 3, 4])),
        answers.Answers("bob", np.array([True, True, False, True]), np.array([1.0, 1, 1, 9])),
    ]
    found = answers.rates(KEY, people)
    assert [p["rate"] for p in found["people"]] == [0.75, 0.25]
    assert found["all"]["rate"] == 0.5 and found["all"]["answers"] == 8
    assert found["all"]["interval"] == intervals.wilson(0.5, 8)
    assert found["all"]["right"] == {"share": 0.75, "p": pytest.approx(74 / 256)}
    shares = {side: part["share"] for side, part in found["all"]["right_where"].items()}
    assert shares == {"left": 0.75, "right": 0.75}
    assert found["people"][0]["median_seconds"] == 2.5
    assert "clustered" not in answers.rates(KEY, people[:1])["all"]


def saved(**other):
    """Write a file as the page saves it, with the trials in the order in which they were shown."""
    given = [{"trial": t, "choice": "right", "ms": 100 * t} for t in (2, 0, 3, 1)]
    return {"page": "p", "participant": "", "answers": given} | other


def test_answers_are_read_by_trial_not_in_the_order_shown(tmp_path):
    path = tmp_path / "someone.json"
    given = saved()
    given["answers"][0]["choice"] = "left"
    path.write_text(json.dumps(given))
    one = answers.read_answers(path, KEY)
    assert one.person == "someone"
    assert one.right.tolist() == [True, True, False, True]
    assert one.seconds.tolist() == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (saved(page="q"), "answers of the page 'q'; needs 'p'"),
        (saved(answers=saved()["answers"][:3]), "has 3 answers; needs one per trial, 4"),
        (saved(answers=saved()["answers"][:3] * 2), "has 6 answers; needs one per trial"),
        (saved(answers=[a | {"choice": "up"} for a in saved()["answers"]]), "choice='up'; known"),
        (saved(answers=[a | {"ms": -1} for a in saved()["answers"]]), "ms=-1"),
        (saved(answers=[a | {"ms": None} for a in saved()["answers"]]), "damaged"),
        (saved(answers=[a | {"trial": True} for a in saved()["answers"]]), "needs one per trial"),
        (saved(answers=3), "damaged"),
        ([], "damaged"),
        ({}, "damaged"),
    ],
)
def test_what_the_page_did_not_save_is_refused(tmp_path, content, part):
    """A truncated file, or one of another test, would silently change a rate."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError) as refused:
        answers.read_answers(path, KEY)
    assert str(refused.value).startswith(f"--results={path}: ") and part in str(refused.value)
    assert "\n" not in str(refused.value)
