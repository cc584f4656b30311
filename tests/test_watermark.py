"""Watermarks leave the distribution of the noise, are found, and are rarely found elsewhere."""

import itertools
import json
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from diffjax.analytic import Mixture
from diffjax.generation.program import Generation
from diffjax.grids import uniform
from diffjax.guidance import Conditional
from diffjax.runs.detecting import inverted
from diffjax.samplers import ddim, initial
from diffjax.samplers.plan import Plan
from diffjax.schedules import Linear
from diffjax.sde import VP
from diffjax.watermark import (
    Key,
    Watermark,
    best_tail,
    bits_of,
    false_positives,
    new_key,
    read,
    read_key,
    tail,
    text_of,
    threshold,
    write_key,
)

SDE = VP(Linear())
KEY = Key(bytes(range(32)), bits=32)
SHAPE, NUM = (16, 16, 1), 64


def test_the_keystream_is_hmac_in_counter_mode():
    """Another implementation could not read the marks, or one key would give one stream."""
    import hashlib
    import hmac

    block = b"sign" + (7).to_bytes(8, "big") + (5).to_bytes(8, "big") + (300).to_bytes(8, "big")
    want = b"".join(
        hmac.new(KEY.secret, block + i.to_bytes(8, "big"), hashlib.sha256).digest() for i in (0, 1)
    )
    np.testing.assert_array_equal(
        KEY.keystream((7, 5), 300), np.unpackbits(np.frombuffer(want, np.uint8))[:300]
    )
    others = [Key(bytes(32)).keystream((7, 5), 300)]
    others += [KEY.keystream(nonce, 300) for nonce in ((7, 6), (8, 5))]
    others += [KEY.keystream((7, 5), 301)[:300]]
    for other in others:
        assert 100 < (other != KEY.keystream((7, 5), 300)).sum() < 200


def test_signs_by_the_stream_are_gaussian_shading_of_one_bit():
    """The watermark would be another one than that of arXiv:2404.04956."""
    n = np.random.default_rng(0).normal(size=10_000)
    u = 2 * special.ndtr(np.abs(n)) - 1  # uniform on [0, 1)
    for bit, uniform_of_bit in ((1, u), (0, 1 - u)):
        shaded = special.ndtri((uniform_of_bit + bit) / 2)
        np.testing.assert_allclose((2 * bit - 1) * np.abs(n), shaded, rtol=1e-9, atol=1e-12)
    assert stats.kstest(u, "uniform").pvalue > 0.01


def test_all_signs_together_are_the_orbit_of_the_noise():
    """Noise with uniform signs would not have the distribution of the noise: given |n|, each of
    the 2^d signs of n has the same probability, and so has each of s |n|."""
    n = np.random.default_rng(0).normal(size=5)
    signs = np.array([*itertools.product((-1, 1), repeat=5)])
    orbit = {tuple(s * n) for s in signs}
    assert {tuple(s * np.abs(n)) for s in signs} == orbit and len(orbit) == 32


def prior(mark, num=NUM, shape=SHAPE):
    keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(3), k))(jnp.arange(num))
    x, _ = initial(SDE, keys, shape)
    return np.asarray(x / SDE.sigma(jnp.asarray(SDE.t_max))), (
        None if mark is None else mark.signs([3] * num, range(num), shape)
    )


def test_marked_noise_is_normal_and_independent():
    """Samples would have another distribution; one message in all of them would show in signs."""
    n, signs = prior(Watermark(KEY, bits_of("abcd", 32)))
    z = signs * np.abs(n)
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01
    flat = z.reshape(NUM, -1)
    for other in (flat.T, flat):  # sums over values, and over samples, are normal with variance N
        sums = other.sum(0) / np.sqrt(len(other))
        assert stats.kstest(sums, "norm").pvalue > 0.01
    # Two samples, and two places, share as many signs as independent ones.
    same = (signs[:-1] == signs[1:]).sum()
    assert abs(same - signs[1:].size / 2) < 4 * np.sqrt(signs[1:].size) / 2


def test_each_bit_has_its_share_of_the_values():
    """Some bits would be lost sooner than others, or the order would be public."""
    places = KEY.places(100)
    assert sorted(np.bincount(places)) == [3] * 28 + [4] * 4
    assert (places != Key(bytes(32), 32).places(100)).sum() > 80
    with pytest.raises(ValueError, match="bits=32: an item has 16 values; needs bits <= 16"):
        KEY.places(16)


@pytest.mark.parametrize("of", [1, 2, 31, 32, 256, 3072])
def test_false_positive_rates_are_exact(of):
    """A stated rate would not be that of images without a mark."""
    total, exact = 0, []
    for k in reversed(range(of + 1)):
        total += math.comb(of, k)
        exact.append(Fraction(total, 2**of))
    for k, want in zip(reversed(range(of + 1)), exact, strict=True):
        if want > 1e-290:
            assert tail(k, of) == pytest.approx(float(want), rel=1e-11)
    assert tail(of + 1, of) == 0
    assert tail(0, of) == 1


def test_the_rate_of_the_best_message_is_exact():
    """A message that is read by majority would count as evidence for itself."""
    of, bits = 10, 4
    sizes = [len(range(bit, of, bits)) for bit in range(bits)]
    counts = np.zeros(of + 1, int)
    for values in itertools.product((0, 1), repeat=of):
        ones = [sum(values[bit::bits]) for bit in range(bits)]
        counts[sum(max(m, r - m) for m, r in zip(ones, sizes, strict=True))] += 1
    want = counts[::-1].cumsum()[::-1] / 2**of
    np.testing.assert_allclose([best_tail(k, of, bits) for k in range(of + 1)], want, rtol=1e-12)


def test_thresholds_are_the_least_ones():
    """Images would be refused that are marked at the stated rate, or the rate be exceeded."""
    assert threshold(32, 1e-6, bits=32, messages=1) == 30  # 1.3e-6 of 29
    assert threshold(256, 1e-6, bits=32, messages=1) == 167  # 1.2e-6 of 166
    assert threshold(8, 1e-6, bits=8, messages=1) == 9  # no number suffices
    for counts in ((8, 1, 0), (8, 1000, 0), (8, 1, 50), (8, 20, 50)):
        least = threshold(512, 1e-4, *counts)
        rates = [false_positives(k, 512, *counts) for k in (least, least - 1)]
        assert rates[0] <= 1e-4 < rates[1]


def test_images_without_a_mark_have_binomial_counts():
    """The rate would depend on the image: here all signs are equal, the worst case."""
    keys = [Key(k.to_bytes(32, "big"), bits=1) for k in range(2000)]
    noise, message = np.ones(64), [(1,)]
    counts = [read(key, noise, [(0, 0)], message).agreeing for key in keys]
    edges = [0, 28, 30, 31, 32, 33, 34, 36, 65]
    seen = np.histogram(counts, edges)[0]
    mass = stats.binom(64, 0.5).pmf(np.arange(65))
    want = [2000 * mass[a:b].sum() for a, b in itertools.pairwise(edges)]
    assert stats.chisquare(seen, want).pvalue > 0.01


def test_a_detector_without_metadata_tries_candidates():
    """The rate would be that of one candidate, a thousand times too small."""
    mark = Watermark(KEY, bits_of("me", 32))
    n, signs = prior(mark, 3)
    tried = [(3, k) for k in range(100)]
    found = read(KEY, signs[2] * np.abs(n[2]), tried)
    assert found.nonce == (3, 2) and text_of(found.message) == "me"
    assert (found.agreeing, found.of, found.nonces) == (256, 256, 100)
    one = read(KEY, n[2], [(3, 2)]).p
    assert read(KEY, n[2], tried).p > one / 2  # of all together
    registered = [bits_of(text, 32) for text in ("you", "me", "all")]
    assert read(KEY, signs[1] * np.abs(n[1]), [(3, 1)], registered).message == registered[1]
    with pytest.raises(ValueError, match="8 bits; the key has 32"):
        read(KEY, n[0], [(3, 0)], [(0,) * 8])
    with pytest.raises(ValueError, match="at least one"):
        read(KEY, n[0], [])


@pytest.mark.parametrize("steps", [10, 25])
def test_messages_are_read_through_the_exact_flow(steps):
    """A mark in the noise would not be found in samples: here of a mixture of 16 images."""
    data = np.random.default_rng(1).normal(size=(16, *SHAPE)).astype(np.float32)
    mean = jnp.asarray(data)
    mixture = Mixture(jnp.full(16, 1 / 16), mean, jnp.full_like(mean, 0.25))
    denoise, times = mixture.denoiser(SDE), uniform(SDE, steps)
    mark = Watermark(KEY, bits_of("A1b2", 32))
    plan = Plan(ddim(SDE, times), Conditional())
    run = Generation(denoise, plan, 3, NUM, SHAPE, signs=mark.signs)
    x = np.concatenate([*run])
    noise = np.asarray(inverted(denoise, x, uniform(SDE, steps + 1)[:-1]))
    found = [read(KEY, z, [(3, k)]) for k, z in enumerate(noise)]
    assert [text_of(one.message) for one in found] == ["A1b2"] * NUM
    assert max(one.p for one in found) < 1e-6
    # Unmarked samples of the same seed are not called marked.
    plain = np.concatenate([*Generation(denoise, plan, 3, NUM, SHAPE)])
    noise = np.asarray(inverted(denoise, plain, uniform(SDE, steps + 1)[:-1]))
    ps = [read(KEY, z, [(3, k)]).p for k, z in enumerate(noise)]
    assert min(ps) > 1e-4
    # Sample k depends on its seed, its number, key and message, not on its batch.
    again = Generation(
        denoise, plan, 3, 3, SHAPE, batch_size=2, signs=mark.signs, index=np.array([9, 2, 40])
    )
    np.testing.assert_allclose(np.concatenate([*again]), x[[9, 2, 40]], atol=1e-4)


def test_messages_are_texts_or_numbers():
    """A message would be read back as another one, or be cut in silence."""
    for bits in (1, 7, 8, 12, 32):
        for number in {0, 1, 2**bits - 1}:
            message = bits_of(hex(number), bits)
            assert len(message) == bits
            assert bits_of(text_of(message), bits) == message
    assert text_of(bits_of("héé", 40)) == "0x68c3a9c3a9"  # ASCII alone is shown
    for bad, bits, why in (
        ("abc", 16, "has 24 bits; the key allows 16"),
        ("0x4", 2, "needs a number below 2\\*\\*2"),
        ("0xg", 8, "needs hexadecimal digits"),
        ("0x-1", 8, "needs hexadecimal digits"),
    ):
        with pytest.raises(ValueError, match=why):
            bits_of(bad, bits)
    with pytest.raises(ValueError, match="message: 1 bits; the key has 32"):
        Watermark(KEY, (1,))


def test_a_key_is_secret(tmp_path):
    """A key would be readable by others, printed, or lost under a newer one."""
    key, path = new_key(12), tmp_path / "keys" / "a.key"
    write_key(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path) == key
    assert key.secret.hex() not in repr(key) + repr(Watermark(key, (0,) * 12))
    assert key.name not in key.secret.hex()
    assert json.loads(path.read_text())["bits"] == 12
    with pytest.raises(FileExistsError):
        write_key(path, key)
    for bad in ("", "{}", '{"key": "00", "bits": 8}', '{"key": 1, "bits": 8}', "[]"):
        path.write_text(bad)
        with pytest.raises(ValueError, match="is no key"):
            read_key(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_key(tmp_path / "none")
    for bits in (0, 4097):
        with pytest.raises(ValueError, match="bits="):
            Key(bytes(32), bits)
