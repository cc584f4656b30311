"""How near sampled conformers are to those of held-out molecules, whose graphs they had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffjax.checks import positive
from diffjax.data.conformer import Conformer, joined, separate
from diffjax.evaluation import molecular as judge
from diffjax.evaluation.alignment import heavy, rmsd
from diffjax.evaluation.beforehand import Counts, checked, counting, needs, taking
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.retrieval import check_asked
from diffjax.evaluation.samples import Real, Samples

THRESHOLD = 0.5
"""The deviation in angstrom below which a conformer counts as found (arXiv:2203.02923)."""
SHARES = ("coverage", "precision")


class Apart(NamedTuple):
    """Deviations of n conformers of one graph from m references, in angstrom.

    rows: which samples they are, (n,). proper: (n, m), after rotations. mirrored: (n, m), after
    rotations and reflections. lengths, angles: (n,), the mean deviation of the bonds in angstrom
    and of the angles between them in degrees, from those of a reference.
    """

    rows: np.ndarray
    proper: np.ndarray
    mirrored: np.ndarray
    lengths: np.ndarray
    angles: np.ndarray


def apart(
    rows: Sequence[int],
    ours: Sequence[Conformer],
    known: Sequence[Conformer],
    asked: Sequence[Conformer],
) -> Apart:
    """Compare conformers of one graph with references, over all symmetries of its heavy atoms.

    rows: the numbers (n,) of the conformers. known: m references. asked: that of each conformer
    (n,) with which lengths and angles are compared.

    >>> line = Conformer(np.array([[0, 0, 0], [1.2, 0, 0]]), np.array(["O", "O"]), np.eye(2)[::-1])
    >>> found = apart([0], [line], [line], [line])
    >>> found.proper.round(6).tolist(), found.lengths.tolist()
    ([[0.0]], [0.0])
    """
    bonded = known[0].order > 0
    atoms, orders = heavy(known[0].elements, bonded)
    places = np.stack([m.x[atoms][orders] for m in known])
    near = lambda x, mirror: rmsd(x[atoms], places, mirror).min(1)
    geometry = lambda x: (judge.lengths(x, bonded), judge.angles(x, bonded))
    off = [
        [float(np.abs(a - b).mean()) if len(a) else 0.0 for a, b in zip(*both, strict=True)]
        for both in ((geometry(m.x), geometry(r.x)) for m, r in zip(ours, asked, strict=True))
    ]
    proper, mirrored = (np.stack([near(m.x, mirror) for m in ours]) for mirror in (False, True))
    return Apart(np.asarray(rows), proper, mirrored, *np.array(off).T)


def summary(groups: Sequence[Apart], chosen: np.ndarray, threshold: float) -> dict[str, float]:
    """Return the values of the samples that a mask (N,) chooses; see `conformers`.

    >>> one, two = np.array([[0.1, 0.9]]), np.zeros(1)
    >>> found = summary([Apart(np.array([0]), one, one, two, two)], np.array([True]), 0.5)
    >>> found["coverage"], found["precision"], found["matching"]
    (0.5, 1.0, 0.5)
    """
    kept = [(g, chosen[g.rows]) for g in groups]
    kept = [Apart(*(a[rows] for a in g)) for g, rows in kept if rows.any()]
    nearest = np.concatenate([g.proper.min(1) for g in kept])
    mean = lambda values: float(np.mean([*values]))
    return {
        "median": float(np.median(nearest)),
        "mirrored": float(np.median(np.concatenate([g.mirrored.min(1) for g in kept]))),
        "coverage": mean((g.proper.min(0) <= threshold).mean() for g in kept),
        "matching": mean(g.proper.min(0).mean() for g in kept),
        "precision": mean((g.proper.min(1) <= threshold).mean() for g in kept),
        "lengths": float(np.concatenate([g.lengths for g in kept]).mean()),
        "angles": float(np.concatenate([g.angles for g in kept]).mean()),
    }


def graphs(real: Real) -> list[list[int]]:
    """Return the held-out items of each graph, whose atoms have one order."""
    members: dict[bytes, list[int]] = {}
    cond = real.test.cond
    for i in range(len(real.test)):
        key = cond["elements"][i].tobytes() + cond["bonds"][i].tobytes()
        members.setdefault(key, []).append(i)
    return [*members.values()]


def _check(threshold: float = THRESHOLD, **_: Any) -> None:
    positive(threshold=threshold)


def _asked(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no conformers, and as `check_asked` does."""
    needs(counts, "conformer", "conformers", held_out=0)
    check_asked(counts)


@taking("ends")
@checked(_check)
@counting(_asked)
def conformers(
    real: Real, samples: Samples, threshold: float = THRESHOLD, resamples: int = 20
) -> dict[str, Any]:
    """Compare conformers with all held-out ones of the graphs that they had as conditions.

    Deviations (RMSD) are those of atoms besides hydrogen, in angstrom, after the best rotation, and
    the least over all symmetries of the graph. `median` is the median over samples of the deviation
    from the nearest conformer of their graph, and `mirrored` that after reflections as well, which
    a network that commutes with them cannot tell apart. `coverage` (COV) is the share of the
    held-out conformers of a graph from which some sample deviates by at most `threshold`,
    `matching` (MAT) their mean deviation from the nearest sample, and `precision` the share of
    samples that deviate from some held-out conformer by at most `threshold`, each as the mean over
    graphs (arXiv:2203.02923). `lengths` and `angles` are the mean deviations of all bonds, in
    angstrom, and of the angles between them, in degrees, from those of the held-out conformer that
    was asked for; hydrogens are included.

    `floor_` is each of these where the other conformers of a graph take the place of samples of its
    first one, for the graphs that have several; none where no graph does. threshold: in angstrom.
    Raises ValueError for items that are no conformers, and for samples that were not made for
    held-out items.

    >>> from pathlib import Path
    >>> from diffjax.data import Memory, Reading
    >>> from diffjax.data.conformer import centred, features, one_hot
    >>> x = np.stack([centred(np.array([[0, 0, 0], [k, 0, 0]]), 2) for k in (1.2, 1.2, 1.4)])
    >>> bonds = np.stack([features(np.eye(2)[::-1], 2)] * 3)
    >>> cond = {"elements": np.stack([one_hot(np.array(["C", "O"]), 2)] * 3), "bonds": bonds}
    >>> real = Real(lambda s: Memory(x, kind="conformer", cond=cond), Reading(), 3, Path())
    >>> found = conformers(real, Samples(x[:1], None, asked=np.array([0])), resamples=0)
    >>> found["coverage"], round(found["median"], 6), round(found["floor_matching"], 3)
    (1.0, 0.0, 0.0)
    """
    if real.test.form.kind != "conformer":
        raise ValueError(f"conformers: needs conformers; the items are {real.test.form.kind}")
    if samples.asked is None:
        raise ValueError("conformers: the samples were not made for held-out conformers")
    cond, asked = real.test.cond, samples.asked
    held = [separate(item) for item in joined(real.test.x, cond)]
    ours = [separate(x) for x in joined(samples.x, {k: v[asked] for k, v in cond.items()})]
    groups, floors = [], []
    for members in graphs(real):
        known = [held[i] for i in members]
        if len(rows := np.flatnonzero(np.isin(asked, members))):
            of = [held[i] for i in asked[rows]]
            groups.append(apart(rows.tolist(), [ours[i] for i in rows], known, of))
        if len(members) > 1:
            floors.append(apart(members[1:], known[1:], known[:1], known[:1] * (len(known) - 1)))
    values = lambda rows: summary(groups, _mask(len(ours), rows), threshold)
    result = with_intervals(values, len(ours), resamples, shares=SHARES)
    if not floors:
        return result
    floor = summary(floors, np.ones(len(held), bool), threshold)
    return result | {f"floor_{k}": v for k, v in floor.items()}


def _mask(count: int, rows: Any) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask
