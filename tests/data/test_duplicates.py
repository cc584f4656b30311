"""Duplicates against brute force: removed items, kept items, and the pairs of both."""

import io

import numpy as np
import pytest
from PIL import Image

from diffjax.data import duplicates


def smooth(n: int, side: int = 32) -> list[np.ndarray]:
    """Images that differ, with the low frequencies that pictures have."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)) for _ in range(n)]
    return [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in coarse]


def jpeg(x: np.ndarray) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(x).save(out, "JPEG", quality=60)
    return np.asarray(Image.open(out))


def apart(a, b) -> np.ndarray:
    """Return the number of bits in which the hashes of images differ, pair by pair."""
    a, b = (duplicates.look(x)[0] for x in (a, b))
    return np.array([bin(int(p) ^ int(q)).count("1") for p, q in zip(a, b, strict=True)])


CHANGES = {
    "JPEG": jpeg,
    "brighter": lambda x: (x * 0.9 + 20).astype(np.uint8),
    "twice the size": lambda x: x.repeat(2, 0).repeat(2, 1),
    "half the size": lambda x: np.asarray(Image.fromarray(x).resize((16, 16))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_stays_nearly_the_same_under_small_changes(change):
    """Near duplicates would not be found. Hashes of different images differ in half of 63 bits."""
    x = smooth(40)
    assert np.median(apart(x, [CHANGES[change](a) for a in x])) <= 4
    others = apart(x, x[1:] + x[:1])
    assert others.min() > 8 and 28 < others.mean() < 35


def test_flat_images_have_one_hash_and_differ_by_their_colour():
    """Rounding errors of flat images would be compared."""
    flat = [np.full((20, 20, 1), grey, np.uint8) for grey in (3, 120, 122)]
    bits, small = duplicates.look(flat)
    assert len(set(bits.tolist())) == 1
    removed = duplicates.near(bits, small, np.arange(3), 4)
    assert (removed.item.tolist(), removed.kept.tolist()) == ([2], [1])


@pytest.mark.parametrize(
    "order", [np.arange(9), np.arange(9)[::-1], np.array([4, 8, 0, 2, 1, 3, 5, 6, 7])]
)
def test_of_equal_items_the_first_in_order_stays(order):  # fmt: skip
    digest = np.array([[7, k] for k in (0, 1, 0, 2, 3, 0, 1, 4, 3)], np.uint8)
    removed = duplicates.exact(digest, order)
    place = {int(item): k for k, item in enumerate(order)}
    firsts = {k: min((i for i in range(9) if digest[i, 1] == k), key=place.get) for k in range(5)}
    wanted = {i: firsts[digest[i, 1]] for i in range(9) if i not in firsts.values()}
    assert dict(zip(removed.item.tolist(), removed.kept.tolist(), strict=True)) == wanted
    assert not removed.bits.any()


def test_near_duplicates_are_those_of_a_plain_loop():
    """Pairs at the border of two blocks of rows would be missed, or counted twice."""
    n, most = 300, 3
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**63, n, np.uint64)
    small = np.zeros((n, 8, 8, 3), np.uint8)
    for i in range(1, n, 2):  # a copy of an earlier item with up to five other bits
        flips = rng.choice(63, rng.integers(0, 6), replace=False)
        bits[i] = bits[rng.integers(0, i)] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
        small[i] = 255 * (rng.random() < 0.2)  # another colour: no duplicate
    order, wanted = rng.permutation(n), {}
    for k, i in enumerate(order):
        for j in order[:k]:
            close = bin(int(bits[i]) ^ int(bits[j])).count("1") <= most
            if j not in wanted and close and (small[i] == small[j]).all():
                wanted[i] = j
                break
    removed = duplicates.near(bits, small, order, most)
    assert 30 < len(wanted) == len(removed.item)
    assert {i: j for i, j, _ in zip(*removed, strict=True)} == wanted
    assert (np.bitwise_count(bits[removed.item] ^ bits[removed.kept]) == removed.bits).all()
