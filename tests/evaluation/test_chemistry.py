"""The metric of molecules: copies, other graphs, noise, and items whose padding is no data."""

import functools
from pathlib import Path

import numpy as np
import pytest

from diffjax import data
from diffjax.data.molecule import packed
from diffjax.evaluation import OF_SAMPLES, Real, Samples
from diffjax.evaluation.beforehand import Counts, enough
from diffjax.evaluation.chemistry import compared, judged, molecules, nearest

MOST = 6


def chain(*elements, length=1.2):
    """Atoms on a line, and hydrogen at its ends, at distances at which neighbours are bonded."""
    names = ["H", *elements, "H"]
    return np.arange(len(names))[:, None] * np.array([[length, 0, 0]]), names


KNOWN = [chain(*a) for a in ("C", "O", "CC", "CO", "OC", "NO", "COC", "CCO", "NN")]


def items(found):
    return packed([x for x, _ in found], [e for _, e in found], MOST)


@functools.cache
def real():
    """Each known molecule twelve times, held out once."""
    sets = {"train": items(KNOWN * 12), "test": items([*KNOWN[:5], chain(*"CNN")] * 2)}
    count = lambda x: (~np.isnan(x[..., 0])).sum(1).astype(np.uint32)
    source = lambda s: data.Memory(sets[s], kind="molecule", cond={"length": count(sets[s])})
    return Real(source, data.Reading(), 1000, Path())


def test_copies_are_whole_and_neither_novel_nor_far():
    """A network that repeats its training data would look as if it invented molecules."""
    found = molecules(real(), Samples(real().train.x, None), resamples=3)
    assert found["atoms"] == found["whole"] == 1.0 and found["novel"] == found["nearest"] == 0.0
    assert found["unique"] == pytest.approx(8 / (9 * 12))  # C-O and O-C are one molecule
    assert found["lengths"] == found["angles"] == found["sizes"] == 0.0
    assert found["floor_novel"] == pytest.approx(1 / 5) and found["floor_nearest"] > 0
    assert found["floor_whole"] == 1.0
    low, high = found["intervals"]["whole"]
    assert low < 1.0 == high


def test_noise_is_seen_in_lengths_before_it_breaks_molecules():
    rng = np.random.default_rng(0)
    value = lambda scale: molecules(
        real(),
        Samples(real().train.x + scale * rng.normal(size=real().train.x.shape), None),
        resamples=0,
    )
    little, much = value(0.02), value(0.5)
    assert little["whole"] > 0.9 and little["lengths"] > 0.01 and little["angles"] > 1
    assert much["whole"] < 0.5 and much["atoms"] < 0.9


def test_the_distance_to_the_nearest_is_that_of_tanimoto():
    """By hand: two atoms count three times each, and H-F and H-H share one hydrogen alone."""
    place = np.array([[0, 0, 0], [0.9, 0, 0]])
    one, two = (judged(place, np.array(names)) for names in (["H", "F"], ["H", "H"]))
    np.testing.assert_allclose(nearest([one], [two]), [1 - 1 / (6 + 6 - 1)])
    np.testing.assert_allclose(nearest([one, two], [two, one]), [0, 0])
    other = judged(place, np.array(["O", "O"]))
    np.testing.assert_allclose(nearest([other], [one, two]), [1])


def test_samples_without_a_bond_have_no_lengths_and_no_graph():
    far = judged(np.arange(6.0).reshape(2, 3) * 9, np.array(["C", "H"]))
    found = compared([far], [judged(*map(np.array, KNOWN[0]))])
    assert found["whole"] == found["unique"] == found["novel"] == 0.0
    assert found["lengths"] == pytest.approx(1.2) and found["angles"] == pytest.approx(180)
    none = molecules(real(), Samples(9 * real().test.x, None), resamples=0)
    assert none["whole"] == 0.0 and none["nearest"] == 1.0


def test_metrics_that_count_padding_are_refused():
    """Distances would compare padding."""
    counts = Counts(40, 40, 40, kind="molecule", ends=True)
    for name, metric in OF_SAMPLES.items():
        if name == "molecules":
            enough(metric, counts)
        else:
            padding = "would include the padding of molecule items"
            said = "needs conformers" if name == "conformers" else padding
            with pytest.raises(ValueError, match=said):
                enough(metric, counts)
    with pytest.raises(ValueError, match="needs molecules; the items are image"):
        enough(molecules, counts._replace(kind="image"))
    with pytest.raises(ValueError, match="no held-out items"):
        enough(molecules, counts._replace(held_out=0))
