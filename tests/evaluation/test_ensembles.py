"""Metrics of forecasts on a linear system, where the scores of all forecasts have closed forms."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from diffjax import data
from diffjax.data import Memory, Reading
from diffjax.data.hidden import Concealed, Hidden
from diffjax.evaluation import OF_SAMPLES, Real, Samples
from diffjax.evaluation.beforehand import Counts, enough
from diffjax.evaluation.ensembles import grouped
from diffjax.report import ranks

RHO, CASES, MEMBERS = 0.8, 400, 30
STD = np.sqrt(1 - RHO**2)
SHAPE = (3, 2)


@dataclass(frozen=True)
class Linear:
    """x = RHO map + STD z with normal map and z, so that x is normal too."""

    pairs: Memory

    @property
    def form(self):
        return self.pairs.form

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]

    def labels(self):
        return self.pairs.labels()

    def ensemble(self, index, members, seed=0):
        rng = np.random.default_rng(seed)
        now = self.pairs.cond["map"][index]
        return RHO * now + STD * rng.normal(size=(members, *now.shape))


def linear(split, shift=0.0, classes=0):
    rng = np.random.default_rng(len(split))
    now = rng.normal(size=(CASES, *SHAPE)).astype(np.float32)
    x = (RHO * now + STD * rng.normal(size=now.shape)).astype(np.float32)
    label = np.arange(CASES, dtype=np.int32) % classes if classes else None
    x = x if label is None else x + np.float32(shift) * label.astype(np.float32)[:, None, None]
    return Linear(Memory(x, label, classes, kind="sequence", cond={"map": now}))


@pytest.fixture(scope="module")
def real():
    return Real(linear, Reading(), CASES, Path())


@pytest.fixture(scope="module")
def samples():
    """Samples of the exact law, in an order in which no two samples of an item stand together."""
    asked = np.arange(CASES * MEMBERS) % CASES
    return Samples(linear("test").ensemble(asked, 1, seed=5)[0], None, asked)


def test_scores_have_their_closed_forms(real, samples):
    """The skill would be that against another climatology, or the floor that of another law."""
    found = OF_SAMPLES["crps"](real, samples)
    exact = STD / np.sqrt(np.pi)
    assert found["score"] == pytest.approx(exact, rel=0.05)
    assert found["floor"] == pytest.approx(exact, rel=0.05)
    assert found["ratio"] == pytest.approx(1, abs=0.02)
    assert found["climatology"] == pytest.approx(1 / np.sqrt(np.pi), rel=0.05)
    away = np.sqrt((1 - RHO) ** 2 + STD**2)
    assert found["persistence"] == pytest.approx(away * np.sqrt(2 / np.pi), rel=0.05)
    assert found["skill"] == pytest.approx(1 - STD, abs=0.04)
    assert (found["members"], found["cases"]) == (MEMBERS, CASES)
    low, high = found["intervals"]["score"]
    assert low < exact < high and high - low < 0.1 * exact


def test_too_narrow_and_shifted_forecasts_are_seen(real, samples):
    names = ("crps", "energy", "spread_skill", "rank_histogram")
    mean = RHO * real.test.cond["map"][samples.asked]
    narrow = samples._replace(x=mean + (samples.x - mean) / 2)
    shifted = samples._replace(x=samples.x + 0.5)
    of = lambda s: {k: OF_SAMPLES[k](real, s, resamples=0) for k in names}
    good, sure, off = map(of, (samples, narrow, shifted))
    for name in ("crps", "energy"):
        assert good[name]["ratio"] == pytest.approx(1, abs=0.02)
        assert min(sure[name]["ratio"], off[name]["ratio"]) > 1.05
    assert good["spread_skill"]["ratio"] == pytest.approx(1, abs=0.05)
    assert sure["spread_skill"]["ratio"] == pytest.approx(
        good["spread_skill"]["ratio"] / 2, abs=0.05
    )
    assert good["rank_histogram"]["distance"] < 2 * good["rank_histogram"]["floor"]
    shares = sure["rank_histogram"]["shares"]
    assert len(shares) == 20 and min(shares[0], shares[-1]) > 0.1
    assert off["rank_histogram"]["shares"][0] > 2 * off["rank_histogram"]["shares"][-1]


def test_only_hidden_values_count(samples):
    """An imputation would be praised for values that it was told."""
    of = lambda split: Concealed(linear(split).pairs, Hidden((0.5, 0.5)))
    real = Real(of, Reading(), CASES, Path())
    known = np.isnan(real.test.cond["known"][samples.asked])
    told = samples._replace(x=np.where(known, samples.x, real.test.x[samples.asked]))
    whole = Real(linear, Reading(), CASES, Path())
    metrics = {k: {"resamples": 0} for k in ("crps", "energy", "spread_skill", "rank_histogram")}
    found = {k: OF_SAMPLES[k](real, told, **settings) for k, settings in metrics.items()}
    plain = {k: OF_SAMPLES[k](whole, samples, **settings) for k, settings in metrics.items()}
    for name, key in [("crps", "score"), ("crps", "climatology"), ("spread_skill", "rmse")]:
        assert found[name][key] == pytest.approx(plain[name][key], rel=0.06)
    assert found["spread_skill"]["ratio"] == pytest.approx(1, abs=0.06)
    assert found["energy"]["score"] == pytest.approx(plain["energy"]["score"], rel=0.1)
    assert found["rank_histogram"]["distance"] < 0.08
    blind = OF_SAMPLES["crps"](whole, told, resamples=0)
    assert blind["score"] == pytest.approx(plain["crps"]["score"] / 2, rel=0.06)


def test_climatology_is_that_of_the_label(samples):
    """January would be forecast by July."""
    of = lambda split: linear(split, shift=10.0, classes=2)
    real = Real(of, Reading(), CASES, Path())
    found = OF_SAMPLES["crps"](real, samples, resamples=0)
    assert found["climatology"] == pytest.approx(1 / np.sqrt(np.pi), rel=0.05)


def test_without_a_law_or_an_earlier_state_there_is_only_climatology():
    source = lambda split: data.moons(split, size=20)
    real = Real(source, Reading(), 20, Path())
    asked = np.arange(40) % 20
    samples = Samples(real.train.x[asked], None, asked)
    found = OF_SAMPLES["crps"](real, samples, resamples=0)
    assert found.keys() == {"score", "climatology", "skill", "members", "cases"}


def test_members_belong_to_their_item_in_any_order(samples):
    """Forecasts of one state would be compared with the outcome of another."""
    members, cases = grouped(samples, "crps")
    order = np.random.default_rng(0).permutation(len(samples.x))
    mixed = samples._replace(x=samples.x[order], asked=samples.asked[order])
    again, same = grouped(mixed, "crps")
    np.testing.assert_array_equal(cases, same)
    np.testing.assert_allclose(np.sort(members, 0), np.sort(again, 0))
    assert grouped(samples._replace(x=samples.x[:-1], asked=samples.asked[:-1]), "crps")[0].shape[
        0
    ] == (MEMBERS - 1)


@pytest.mark.parametrize("name", ["crps", "energy", "spread_skill", "rank_histogram"])
def test_ensembles_of_one_member_are_refused(name, real, samples):
    metric = OF_SAMPLES[name]
    with pytest.raises(ValueError, match="9 samples of 5 held-out items; needs at least 10"):
        enough(metric, Counts(9, 6, 6, cases=5))
    with pytest.raises(ValueError, match="no conditions of held-out items"):
        enough(metric, Counts(9, 6, 6))
    with pytest.raises(ValueError, match=f"{name}: an item has 1 sample"):
        metric(real, Samples(samples.x[:3], None, samples.asked[:3]))
    with pytest.raises(ValueError, match=f"{name}: the samples were not made for held-out"):
        metric(real, Samples(samples.x, None))


def test_histograms_of_all_jobs_are_one_picture(tmp_path):
    job = {"protocol": {"sampler": {"name": "ddim"}, "steps": 5}}
    shares = {"rank_histogram": {"distance": 0.1, "shares": [0.4, 0.2, 0.4]}}
    path = tmp_path / "evaluation_ranks.png"
    assert ranks.drawn(path, [job | shares, job]) and path.is_file()
    assert not ranks.drawn(path, [job]) and not path.exists()
