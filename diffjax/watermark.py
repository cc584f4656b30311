"""Watermarks in the signs of the initial noise: Gaussian Shading with one bit per value.

The noise of a sample is z_i = s_i |n_i| with n the noise of its random stream, and signs s_i from
the message, encrypted by the keystream of a secret key and a nonce. A sign that is uniform and
independent of |n_i| makes z_i exactly normal, so the distribution of samples does not change, to
anyone who cannot tell the keystream from uniform bits. With u = 2 Phi(|n_i|) - 1 this is z_i =
Phi^-1((u + 1) / 2) for the bit 1 and Phi^-1((1 - u) / 2) for the bit 0, which is Gaussian Shading
(arXiv:2404.04956) with l = 1.

The keystream is HMAC-SHA256 in counter mode, of the standard library, a pseudo-random function of
(key, nonce). The nonce is (seed, number of the sample, number of values), which no two samples of a
run share. Gaussian Shading leaves open how a detector learns the nonce of an image (arXiv:
2503.11404): it is in the metadata of a picture, and without these a detector tries candidates,
which `Reading.p` accounts for. One seed with two messages under one key is one nonce used twice.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import math
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt8
from scipy import special

from diffjax import checks
from diffjax.files import reason

BITS = 32
"""Default number of bits of a message."""
MOST = 4096
"""Largest number of bits of a message."""
Nonce = tuple[int, int]
"""Seed and number of a sample."""


@dataclass(frozen=True)
class Key:
    """A secret key, and the number of bits of the messages that it signs.

    secret: 32 bytes. bits: from 1 to 4096. Raises ValueError for another length or number.

    >>> key = Key(bytes(32), bits=8)
    >>> key.name, key.keystream((0, 5), 12).tolist()
    ('6ff25278', [1, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0])
    """

    secret: bytes = field(repr=False)
    bits: int = BITS

    def __post_init__(self):
        if len(self.secret) != hashlib.sha256().digest_size:
            raise ValueError(f"key: {len(self.secret)} bytes; needs 32")
        checks.whole(1, bits=self.bits)
        if self.bits > MOST:
            raise ValueError(f"bits={self.bits}: needs bits <= {MOST}")

    @property
    def name(self) -> str:
        """A public name of the key, from which the key cannot be found."""
        return hmac.digest(self.secret, b"name", "sha256")[:4].hex()

    def keystream(self, nonce: Nonce, count: int) -> UInt8[np.ndarray, " count"]:
        """Return `count` pseudo-random bits for the sample `nonce`."""
        return self._bits(struct.pack(">4sQQQ", b"sign", *nonce, count), count)

    def places(self, count: int) -> Int[np.ndarray, " count"]:
        """Return the bit of the message that each of `count` values carries.

        Each bit has count / bits values, rounded up or down, in a secret order. Raises ValueError
        for fewer values than bits.
        """
        if count < self.bits:
            raise ValueError(f"bits={self.bits}: an item has {count} values; needs bits <= {count}")
        words = np.packbits(self._bits(struct.pack(">4sQ", b"perm", count), 64 * count))
        order = np.argsort(words.view(">u8"), kind="stable")
        return (np.arange(count) % self.bits)[np.argsort(order)]

    def _bits(self, prefix: bytes, count: int) -> UInt8[np.ndarray, " count"]:
        blocks = -(-count // 256)
        digest = lambda i: hmac.digest(self.secret, prefix + struct.pack(">Q", i), "sha256")
        stream = b"".join(digest(i) for i in range(blocks))
        return np.unpackbits(np.frombuffer(stream, np.uint8), count=count)


def new_key(bits: int = BITS) -> Key:
    """Return a fresh key from the random numbers of the operating system.

    >>> new_key(8).bits
    8
    """
    return Key(secrets.token_bytes(32), bits)


def write_key(path: Path, key: Key) -> None:
    """Write a key to a new file that its owner alone can read.

    Raises FileExistsError for a file that exists: a lost key cannot be found again.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_key(Path(place) / "my.key", new_key(8))
    ...     read_key(Path(place) / "my.key")
    Key(bits=8)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"key": key.secret.hex(), "bits": key.bits})
    path.touch(0o600, exist_ok=False)
    path.write_text(text + "\n")


def read_key(path: Path) -> Key:
    """Read the key in a file of `write_key`; raise ValueError for any other file.

    >>> read_key(Path("nowhere"))
    Traceback (most recent call last):
    ValueError: nowhere: cannot be read (No such file or directory)
    """
    try:
        content = json.loads(path.read_text())
        return Key(bytes.fromhex(content["key"]), content["bits"])
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({reason(error)})") from error
    except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: is no key; `python -m diffjax.tools.watermark key` writes one"
        ) from error


def bits_of(message: str, bits: int) -> tuple[int, ...]:
    """Return the bits of a message: a text in UTF-8, or 0x and hexadecimal digits.

    Zeros fill up a shorter text. Raises ValueError for a message that does not fit into `bits`.

    >>> bits_of("A", 10), bits_of("0x2", 2), bits_of("", 2)
    ((0, 1, 0, 0, 0, 0, 0, 1, 0, 0), (1, 0), (0, 0))
    """
    if message.startswith("0x"):
        try:
            number = int(message, 16)
        except ValueError as error:
            raise ValueError(f"message={message}: needs hexadecimal digits after 0x") from error
        if number >= 2**bits:
            raise ValueError(f"message={message}: needs a number below 2**{bits}")
        return tuple(int(b) for b in f"{number:0{bits}b}")
    encoded = message.encode()
    if 8 * len(encoded) > bits:
        raise ValueError(f"message={message!r}: has {8 * len(encoded)} bits; the key allows {bits}")
    unpacked = np.unpackbits(np.frombuffer(encoded, np.uint8)).tolist()
    return (*unpacked, *(0 for _ in range(bits - len(unpacked))))


def text_of(bits: Sequence[int]) -> str:
    """Return bits as the text of `bits_of` where they are printable ASCII, else as a number.

    >>> text_of(bits_of("abc", 32)), text_of((1, 0)), text_of(bits_of("", 16))
    ('abc', '0x2', '')
    """
    packed = np.packbits(np.array(bits, np.uint8)).tobytes().rstrip(b"\0")
    text = packed.decode(errors="replace")
    if text.isascii() and text.isprintable() and 8 * len(packed) <= len(bits):
        return text
    return f"0x{int(''.join(map(str, bits)), 2):0{-(-len(bits) // 4)}x}"


@dataclass(frozen=True)
class Watermark:
    """A message under a key, which determines the signs of the noise of each sample.

    message: bits, as many as those of the key. noisy: whether samplers are allowed that draw more
    noise than the initial one, which weakens the watermark. Raises ValueError for another number
    of bits.

    >>> mark = Watermark(Key(bytes(32), bits=2), (1, 0))
    >>> mark.signs([0], [5], (2, 2)).tolist()
    [[[-1, -1], [1, -1]]]
    """

    key: Key
    message: tuple[int, ...]
    noisy: bool = False

    def __post_init__(self):
        if len(self.message) != self.key.bits:
            raise ValueError(f"message: {len(self.message)} bits; the key has {self.key.bits}")

    @property
    def facts(self) -> dict[str, object]:
        """Entries of the protocol: the name of the key, which reveals neither key nor message."""
        return {"watermark": {"key": self.key.name, "bits": self.key.bits}}

    def signs(
        self, seed: Iterable[int], index: Iterable[int], shape: tuple[int, ...]
    ) -> Int8[np.ndarray, "n *d"]:
        """Return the signs, 1 or -1, of the noise (N, *shape) of samples."""
        count = math.prod(shape)
        carried = np.array(self.message, np.uint8)[self.key.places(count)]
        nonces = zip(map(int, seed), map(int, index), strict=True)
        bits = np.stack([carried ^ self.key.keystream(nonce, count) for nonce in nonces])
        return (2 * bits.astype(np.int8) - 1).reshape(-1, *shape)


class Reading(NamedTuple):
    """What the signs of a noise say, read with one key.

    nonce: the candidate whose bits agree best, of `nonces`. message: its bits, by majority vote, or
    the best of `messages` registered ones. agreeing, of: how many values agree with the message, of
    how many. p: the probability that an image made without the key agrees as well.
    """

    nonce: Nonce
    message: tuple[int, ...]
    agreeing: int
    of: int
    p: float
    nonces: int
    messages: int


def read(
    key: Key,
    noise: Float[np.ndarray, "*d"],
    nonces: Sequence[Nonce],
    messages: Sequence[Sequence[int]] = (),
) -> Reading:
    """Read the watermark in a noise (*shape), such as the inversion of an image.

    nonces: the candidates. messages: those that are registered; the best one is tested. Without
    any, the message is that of the majority of its values, and the test allows for every message.
    An image made without the key agrees with the keystream in each value with probability 1/2,
    independently, whatever its own distribution is, since the keystream is uniform and independent
    of it. So `p` follows from binomial distributions (`false_positives`), up to the
    pseudo-randomness of the keystream. Raises ValueError for no candidates, and for messages of
    another length.

    >>> key, noise = Key(bytes(32), bits=2), np.random.default_rng(0).normal(size=64)
    >>> marked = abs(noise) * Watermark(key, (1, 0)).signs([3], [7], (64,))[0]
    >>> reading = read(key, marked, [(3, 6), (3, 7)])
    >>> reading.nonce, reading.message, reading.agreeing
    ((3, 7), (1, 0), 64)
    """
    if not nonces:
        raise ValueError("nonces: needs at least one seed and number of a sample")
    if bad := [m for m in messages if len(m) != key.bits]:
        raise ValueError(f"message: {len(bad[0])} bits; the key has {key.bits}")
    signs = np.ravel(noise) > 0
    count, places = signs.size, key.places(signs.size)
    sizes = np.bincount(places, minlength=key.bits)
    votes = np.stack([_ones(key, signs, places, nonce) for nonce in nonces])  # (N, bits)
    if messages:
        wanted = np.array(messages)  # of each bit the votes for it: (N, M)
        agree = votes @ (2 * wanted.T - 1) + ((1 - wanted) @ sizes)
    else:
        agree = np.maximum(votes, sizes - votes).sum(1, keepdims=True)
    best, which = divmod(int(agree.argmax()), agree.shape[1])
    most = int(agree[best, which])
    message = messages[which] if messages else (2 * votes[best] > sizes).astype(int).tolist()
    p = false_positives(most, count, key.bits, len(nonces), len(messages))
    return Reading(nonces[best], tuple(message), most, count, p, len(nonces), len(messages))


def _ones(
    key: Key, signs: Bool[np.ndarray, " d"], places: np.ndarray, nonce: Nonce
) -> Int[np.ndarray, " bits"]:
    """Return the number of values of each bit of the message that say 1."""
    bits = signs ^ key.keystream(nonce, signs.size).astype(bool)
    return np.bincount(places, bits, key.bits).astype(int)


def tail(agreeing: int, of: int) -> float:
    """Return P(Bin(of, 1/2) >= agreeing), the false-positive rate of a threshold.

    >>> f"{tail(30, 32):.2g}", f"{tail(167, 256):.2g}"
    ('1.2e-07', '6.2e-07')
    """
    if agreeing <= 0:
        return 1.0
    return float(special.betainc(agreeing, of - agreeing + 1, 0.5)) if agreeing <= of else 0.0


def best_tail(agreeing: int, of: int, bits: int) -> float:
    """Return the false-positive rate where the message is that of the majority.

    The number of values that agree is the sum over bits of max(M, r - M), M ~ Bin(r, 1/2) for a bit
    of r values. Its distribution is the exact convolution of those of the bits.

    >>> best_tail(2, 2, 1), best_tail(2, 2, 2)  # both values equal; any two values
    (0.5, 1.0)
    """
    if agreeing <= 0:
        return 1.0
    if agreeing > of:
        return 0.0
    return float(min(_folded(of, bits)[agreeing:].sum(), 1.0))


@functools.lru_cache
def _folded(of: int, bits: int) -> np.ndarray:
    """Return the probabilities of 0, ..., of values that agree with the message of the majority."""
    total = np.ones(1)
    for bit in range(bits):
        size = len(range(bit, of, bits))
        log = special.gammaln(size + 1) - special.gammaln(np.arange(size + 1) + 1)
        one = np.exp(log - special.gammaln(size + 1 - np.arange(size + 1)) - size * math.log(2))
        folded = np.zeros(size + 1)
        np.add.at(folded, np.maximum(np.arange(size + 1), size - np.arange(size + 1)), one)
        total = np.convolve(total, folded)
    return total


def false_positives(agreeing: int, of: int, bits: int, nonces: int = 1, messages: int = 0) -> float:
    """Return the probability that an image made without the key reaches `agreeing` values.

    bits: those of a message. nonces: the number of candidates, whose keystreams are independent, so
    that the result is 1 - (1 - p)^nonces. messages: the number of registered messages, of which p
    is at most the sum of `tail`; for 0 the message is that of the majority, and p is `best_tail`.

    >>> f"{false_positives(30, 32, bits=32, messages=1):.2g}"
    '1.2e-07'
    """
    one = messages * tail(agreeing, of) if messages else best_tail(agreeing, of, bits)
    return -math.expm1(nonces * math.log1p(-one)) if one < 1 else 1.0


def threshold(of: int, rate: float, bits: int, nonces: int = 1, messages: int = 0) -> int:
    """Return the least number of agreeing values whose false-positive rate is at most `rate`.

    The other arguments are those of `false_positives`. The result is of + 1 where no number
    suffices.

    >>> [threshold(of, 1e-6, bits=32, messages=1) for of in (32, 256)]
    [30, 167]
    """
    checks.within(0, 1, "()", rate=rate)
    low, high = 0, of + 1
    while low < high:
        middle = (low + high) // 2
        few = false_positives(middle, of, bits, nonces, messages) <= rate
        low, high = (low, middle) if few else (middle + 1, high)
    return low
