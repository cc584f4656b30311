"""Every metric of the catalogue on real samples: settings, refusals, and its line in the list."""

import copy
import dataclasses
import functools
import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from diffjax import builder
from diffjax.data import digits
from diffjax.evaluation import OF_SAMPLES, Real, Samples
from diffjax.features import EXTRACTORS, Extractor, features

pytestmark = pytest.mark.typed


def seen(x):
    """Return features of every kind, without a network."""
    flat = features(x, "image")
    return {"pool": flat[:, 18:40], "logits": 9 * flat[:, 10:20], "spatial": flat[:, :20] + 1}


@pytest.fixture(scope="module")
def real(small, tmp_path_factory):
    captions = lambda texts: np.array([np.arange(22) + len(text) for text in texts])
    extractor = lambda real: Extractor("all", "0", "", seen, captions)
    made = Real(
        digits,
        small.reading,
        300,
        tmp_path_factory.mktemp("real"),
        extractor,
    )
    made.judge = SimpleNamespace(right=lambda x, asked: x.sum((1, 2, 3)) % 3 > 0, about="")
    return made


@pytest.fixture(scope="module")
def samples():
    test = digits("test")
    order = np.argsort(test.label[:240], kind="stable")
    return Samples(255 - (255 - test.x[order]) // 3 * 2, test.label[order].astype(np.int32))


def numbers(found):
    for value in found.values():
        if isinstance(value, dict):
            yield from numbers(value)
        elif isinstance(value, list):
            yield from numbers(dict(enumerate(value)))
        elif isinstance(value, float):
            yield value


OF_SOUNDS = {"log_spectral"}
"""Metrics of sounds alone; see test_spectral.py."""
OF_PARTICLES = {"energies", "clouds", "completion"}
"""Metrics of particles and of clouds alone; see test_energies, test_clouds and test_completion."""
OF_FIELDS = {"spectrum"}
"""Metrics of fields alone; see test_power.py."""
OF_MOLECULES = {"molecules", "conformers"}
"""Metrics of molecules alone; see test_chemistry and test_conformer_metric."""
OF_TABLES = {"columns", "closest_record", "downstream"}
"""Metrics of rows alone; see test_tables.py."""
OF_FORECASTS = {"crps", "energy", "spread_skill", "rank_histogram"}
"""Metrics of several samples for each held-out item; see test_ensembles.py."""
OF_VIDEOS = {"one_class", "paths", "motion"}
"""Metrics of videos alone; see test_clips.py."""


OF_OTHERS = OF_SOUNDS | OF_TABLES | OF_FORECASTS | OF_PARTICLES | OF_FIELDS | OF_MOLECULES
OF_OTHERS |= OF_VIDEOS


@pytest.mark.parametrize("name", sorted(set(OF_SAMPLES) - OF_OTHERS))
def test_metrics_give_finite_numbers_the_same_each_time(name, real, samples, tmp_path):
    """The output would not be JSON, or the numbers would change between runs."""
    (lines := tmp_path / "captions.txt").write_text("\n".join("a" * k for k in range(10)))
    quick = {"resamples": 3, "subsets": 3, "pairs": 3, "captions": str(lines)}
    taken = inspect.signature(OF_SAMPLES[name]).parameters
    metric = functools.partial(OF_SAMPLES[name], **{k: quick[k] for k in quick if k in taken})
    samples = samples._replace(asked=np.arange(len(samples.x)) % len(real.test.x))
    found = metric(real, samples)
    assert found == metric(real, samples)
    assert json.loads(json.dumps(found)) == found
    assert list(numbers(found)) and np.isfinite(list(numbers(found))).all()
    for key, (low, high) in found.get("intervals", {}).items():
        assert low <= found[key] <= high
    assert isinstance(next(iter(found.values())), float)  # the first is what a table shows


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_metrics_are_listed_by_one_line_of_their_docstring(name):
    """--list would show half a paragraph."""
    first = OF_SAMPLES[name].__doc__.partition("\n")[0]
    assert first.endswith(".") and f"{first}\n" in builder.listing() + "\n"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("inception_score", "no logits; features with logits: classifier, inception"),
        ("sfid", "no spatial; features with spatial: inception"),
    ],
)
def test_features_that_an_extractor_lacks_are_asked_of_another(
    name, part, small, samples, tmp_path
):
    """A KeyError in a traceback would not name an extractor that has them."""
    real = Real(digits, small.reading, 50, tmp_path)
    assert set(part.partition(": ")[2].split(", ")) <= set(EXTRACTORS)
    with pytest.raises(ValueError, match=f"^features=pixels: provides {part}"):
        OF_SAMPLES[name](real, samples)


@pytest.mark.parametrize("name", ["classifier", "fid_per_class"])
def test_metrics_of_classes_need_them(name, real, samples):
    """All labels would be None, and the agreement 0."""
    with pytest.raises(ValueError, match=f"{name}: .*no classes"):
        OF_SAMPLES[name](real, Samples(samples.x, None))


def test_captions_belong_to_classes_or_to_samples(real, samples, tmp_path):
    """A sample would be compared with the caption of another."""
    file, score = tmp_path / "captions.txt", functools.partial(OF_SAMPLES["clip_score"], real)
    words = ["a" * k for k in range(10)]
    file.write_text("\n".join(words))
    by_class = score(samples, str(file), resamples=0)
    file.write_text("\n".join(words[k] for k in samples.label))
    assert score(samples, str(file), resamples=0) == by_class
    for captions, part in [
        ("", "captions: needs a text file"),
        (str(tmp_path / "none.txt"), "none.txt: cannot be read"),
    ]:
        with pytest.raises(ValueError, match=part):
            score(samples, captions)
    texts = [(words[k], "another") for k in real.test.labels()]
    described = copy.copy(real)
    described.test = dataclasses.replace(real.test, texts=texts)
    asked = np.resize(np.arange(len(texts)), len(samples.x))
    file.write_text("\n".join(words[k] for k in real.test.labels()[asked]))
    own = functools.partial(OF_SAMPLES["clip_score"], described)
    assert own(samples._replace(asked=asked)) == score(samples, str(file))
    file.write_text("one\ntwo")
    wanted = "2 lines; needs 240, one per sample, or 10, one per class$"
    with pytest.raises(ValueError, match=wanted):
        score(samples, str(file))


def test_the_inception_score_does_not_know_the_order_of_samples(real, samples):
    """Samples sorted by class, as in folders, would seem to have few classes."""
    metric = functools.partial(OF_SAMPLES["inception_score"], real, resamples=8)
    order = np.random.default_rng(0).permutation(len(samples.x))
    sorted_, mixed = metric(samples), metric(Samples(samples.x[order], samples.label[order]))
    assert sorted_["score"] == pytest.approx(mixed["score"], rel=0.02)
    assert sorted_["infinity"] == pytest.approx(mixed["infinity"], rel=0.05)
    assert sorted_["deviation"] < 0.2 * sorted_["score"]


def test_statistics_take_the_place_of_the_training_items(real, samples, tmp_path):
    """A distance from a file would differ from that from the items of the file."""
    path = tmp_path / "digits.npz"
    written = OF_SAMPLES["fid"](real, samples, write=str(path), resamples=0)
    for name in ("fid", "sfid"):
        own = OF_SAMPLES[name](real, samples, resamples=0)
        found = OF_SAMPLES[name](real, samples, reference=str(path), resamples=0)
        assert found["distance"] == pytest.approx(own["distance"], rel=1e-9)
        assert found["reference"]["protocol"] == own["reference"] == written["reference"]


def test_features_of_real_items_are_kept_for_the_same_weights_and_items(small, tmp_path):
    """Features would be recomputed for minutes, or be those of other weights."""
    counts = []

    def open_real(fingerprint, most):
        run = lambda x: counts.append(len(x)) or {"pool": features(x, "image")}
        seen = Extractor("network", fingerprint, "", run)
        return Real(digits, small.reading, most, tmp_path, lambda real: seen)

    first = open_real("a", 8).features
    np.testing.assert_array_equal(open_real("a", 8).features, first)
    assert counts == [8]
    for fingerprint, most in (("b", 8), ("a", 16), ("", 8), ("", 8)):
        assert len(open_real(fingerprint, most).features) == most
    assert sum(counts) == 8 + 8 + 16 + 8 + 8


def test_the_closest_pairs_are_drawn(real, samples):
    """The result would name a picture that does not exist, or a copy not be its first pair."""
    copies = Samples(np.concatenate([samples.x[:5], real.train.x[7:8]]), None)
    found = OF_SAMPLES["memorization"](real, copies, pairs=2, resamples=0)
    for part in (found, found["features"]):
        with Image.open(real.folder / part["picture"]) as opened:
            picture = np.asarray(opened)
        first = picture[2:116, 2:50]  # 8, 1, 8 and 2 lines, of 6 pixels each
        assert (first[20:48] == first[74:102]).all() and np.ptp(first[20:48]) > 100
