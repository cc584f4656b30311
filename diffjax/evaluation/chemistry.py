"""What is right about sampled molecules, how new they are, and their lengths and angles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffjax.data.bonds import bonds
from diffjax.data.kinds.storing import ended
from diffjax.data.molecule import unpacked
from diffjax.evaluation import molecular as judge
from diffjax.evaluation.beforehand import Counts, counting, needs, taking
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.samples import Real, Samples

SHARES = ("atoms", "whole", "unique", "novel")


class Judged(NamedTuple):
    """What the judge of one molecule finds, with bonds by distance.

    right: whether each atom (N,) has a possible number of neighbours. whole: whether all are right
    and connected. graph: the fingerprint of elements and bonds. around: how often each surrounding
    of an atom occurs. lengths, angles: of all bonds, in angstrom and degrees.
    """

    right: np.ndarray
    whole: bool
    graph: str
    around: Counter[str]
    lengths: np.ndarray
    angles: np.ndarray


def judged(x: np.ndarray, elements: np.ndarray) -> Judged:
    """Judge a molecule of coordinates x (N, 3) in angstrom and elements (N,).

    >>> judged(np.array([[0, 0, 0], [0.92, 0, 0]]), np.array(["H", "F"])).whole
    True
    """
    bonded = bonds(x, elements)
    return Judged(
        judge.right(bonded, elements),
        judge.whole(bonded, elements),
        judge.graph(bonded, elements),
        judge.surroundings(bonded, elements),
        judge.lengths(x, bonded),
        judge.angles(x, bonded),
    )


def compared(samples: Sequence[Judged], known: Sequence[Judged]) -> dict[str, float]:
    """Compare judged molecules with known ones.

    `atoms` is the share of atoms that are right, `whole` that of whole molecules, `unique` the
    share of whole molecules with different graphs, and `novel` the share of those graphs that no
    known molecule has. `lengths`, `angles` and `sizes` are Wasserstein distances W1 of all bonds in
    angstrom, of all angles in degrees, and of the numbers of atoms. Molecules without any bond, or
    any angle, count as if they had one of 0.

    >>> one = judged(np.array([[0, 0, 0], [0.92, 0, 0]]), np.array(["H", "F"]))
    >>> found = compared([one, one], [one])
    >>> found["whole"], found["unique"], found["novel"], found["lengths"]
    (1.0, 0.5, 0.0, 0.0)
    """
    valid = [m for m in samples if m.whole]
    graphs = {m.graph for m in valid}
    return {
        "atoms": float(np.concatenate([m.right for m in samples]).mean()),
        "whole": len(valid) / len(samples),
        "unique": len(graphs) / max(len(valid), 1),
        "novel": len(graphs - {m.graph for m in known}) / max(len(graphs), 1),
        "lengths": _apart([m.lengths for m in samples], [m.lengths for m in known]),
        "angles": _apart([m.angles for m in samples], [m.angles for m in known]),
        "sizes": _apart([[len(m.right)] for m in samples], [[len(m.right)] for m in known]),
    }


def _apart(ours: Sequence[Any], others: Sequence[Any]) -> float:
    from scipy.stats import wasserstein_distance

    joined = (np.concatenate(parts) for parts in (ours, others))
    return float(wasserstein_distance(*(a if len(a) else np.zeros(1) for a in joined)))


def nearest(samples: Sequence[Judged], known: Sequence[Judged]) -> np.ndarray:
    """Return the distance of each molecule (N,) to the nearest known one, in [0, 1].

    It is 1 - sum min(a, b) / sum max(a, b), where a and b count how often each surrounding occurs
    (`molecular.surroundings`): the Tanimoto distance of counted circular fingerprints. It is 0 for
    equal graphs, and does not depend on coordinates.

    >>> one = judged(np.array([[0, 0, 0], [0.92, 0, 0]]), np.array(["H", "F"]))
    >>> nearest([one], [one]).tolist()
    [0.0]
    """
    names = {name: k for k, name in enumerate({name for m in known for name in m.around})}
    counts = np.zeros((len(known), len(names)), np.int32)
    for row, m in zip(counts, known, strict=True):
        row[[names[name] for name in m.around]] = [*m.around.values()]
    totals, found = counts.sum(1), []
    for m in samples:
        shared = [(names[name], count) for name, count in m.around.items() if name in names]
        columns, ours = np.array(shared, int).reshape(-1, 2).T
        common = np.minimum(counts[:, columns], ours[None]).sum(1)
        found.append(1 - (common / (totals + m.around.total() - common)).max())
    return np.array(found)


def _molecules(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no molecules, and for nothing held out."""
    needs(counts, "molecule", "molecules")


@taking("ends")
@counting(_molecules)
def molecules(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Judge sampled molecules beside those of training, with bonds by distance.

    The values are those of `compared` with the training items, and `nearest`, the mean distance of
    whole samples to the nearest training item (1 where none is whole). `floor_` is each of these
    for held-out items, as many as there are samples where there are so many. Samples that
    repeat training items have novel = nearest = 0, and the floor shows how new other real molecules
    are. Raises ValueError for items that are no molecules, and without held-out items.

    >>> from pathlib import Path
    >>> from diffjax.data import Memory, Reading
    >>> from diffjax.data.molecule import packed
    >>> methanal = np.array([[0, 0, 0], [1.2, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0]])
    >>> x = packed([methanal] * 2, [["C", "O", "H", "H"]] * 2, most=6)
    >>> real = Real(lambda split: Memory(x, kind="molecule"), Reading(), 2, Path())
    >>> found = molecules(real, Samples(x, None), resamples=0)
    >>> found["whole"], found["novel"], found["nearest"]
    (1.0, 0.0, 0.0)
    """
    known, ours, floor = (_of(x) for x in (real.train.x, samples.x, real.test.x[: len(samples.x)]))
    apart, beside = nearest(ours, known), nearest(floor, known)

    def values(those: list[Judged], distances: np.ndarray) -> dict[str, float]:
        whole = np.array([m.whole for m in those])
        mean = float(distances[whole].mean()) if whole.any() else 1.0
        return compared(those, known) | {"nearest": mean}

    taken = lambda rows: values([ours[i] for i in np.arange(len(ours))[rows]], apart[rows])
    found = with_intervals(taken, len(ours), resamples, shares=SHARES)
    return found | {f"floor_{k}": v for k, v in values(floor, beside).items()}


def _of(items: np.ndarray) -> list[Judged]:
    return [judged(*unpacked(ended(item))) for item in items]
