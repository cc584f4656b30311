"""Damaged weights: a flipped bit is refused by the name of the file, and never loaded."""

import random
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_checkpoints import HEADS, dit

import diffjax
from diffjax.config import ConfigError
from diffjax.io.trees import flat
from diffjax.training import checksums
from diffjax.training.snapshots import Snapshots, save

TENSORS = {"a/kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)}
ABOUT = {"step": "12", "ema": "std_0.100"}


def flips(path, places):
    """Yield the file with each of these bits flipped, one after the other."""
    whole = path.read_bytes()
    for place in places:
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        yield place
    path.write_bytes(whole)


def unnoticed(path, places, load):
    """Return the places of damage with which the file still loads, with other contents."""
    right, found = load(path), []
    for place in flips(path, places):
        try:
            made = load(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)  # noqa: PT017
        else:
            if repr(made) != repr(right):
                found.append(place)
    return found


def values(path):
    tensors, about = checksums.load(path)
    return {k: a.tolist() for k, a in sorted(tensors.items())}, [about.get(k) for k in ABOUT]


def bits(path, count=None):
    """Return all bits, or some: those of the numbers at the end, and as many elsewhere."""
    size = 8 * path.stat().st_size
    if count is None:
        return range(size)
    return [*range(size - count, size), *random.Random(0).sample(range(size), count)]


def test_a_flipped_bit_is_refused_by_the_name_of_the_file(tmp_path):
    """The weights would silently differ from those that were saved."""
    path = tmp_path / "weights.safetensors"
    checksums.save(path, TENSORS, ABOUT)
    assert values(path)[1] == ["12", "std_0.100"]
    assert not unnoticed(path, bits(path, 150), values)


@pytest.mark.thorough
def test_no_bit_of_a_file_goes_unnoticed(tmp_path):
    """A flipped bit of a name, shape, type, offset or checksum would load other contents."""
    path = tmp_path / "weights.safetensors"
    checksums.save(path, TENSORS, ABOUT)
    assert not unnoticed(path, bits(path), values)


def test_files_of_other_programs_have_no_checksums(tmp_path):
    """A file that was written by hand could not be loaded."""
    save_file(TENSORS, tmp_path / "weights.safetensors", {"step": "3"})
    tensors, about = checksums.load(tmp_path / "weights.safetensors")
    assert about == {"step": "3"} and set(tensors) == set(TENSORS)


def test_converted_folders_and_snapshots_are_checked(tmp_path):
    """Files of `Trained.save` and `tools.convert` would lack the checks of checkpoints."""
    save_file(dit(), tmp_path / "dit.safetensors")
    made = diffjax.load(tmp_path / "dit.safetensors", family="dit", settings=HEADS)
    made.save(tmp_path / "out")
    path = tmp_path / "out" / "weights.safetensors"
    place = 8 * (path.stat().st_size - 5)
    for _ in flips(path, [place]):
        with pytest.raises(ConfigError, match=r"weights\.safetensors: the checksum of network/"):
            diffjax.load(tmp_path / "out")
    ema = {"short": {"a": np.arange(6.0, dtype=np.float32)}}
    save(tmp_path, 10, ema, {"short": 0.05})
    path = tmp_path / "snapshots" / "step_00000010.safetensors"
    combine = lambda: Snapshots(tmp_path).combine("a", np.ones((1, 1)))
    np.testing.assert_array_equal(combine()[0], flat(ema["short"])["a"])
    for _ in flips(path, [8 * (path.stat().st_size - 3)]):
        with pytest.raises(ConfigError, match=r"00000010\.safetensors: the checksum of short/a"):
            combine()


def changed(whole, draw):
    """Return a file with some bytes changed, cut off or inserted, mostly in its head."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(data) if draw.random() < 0.3 else min(len(data), 3000))
        data[place] = draw.choice(b'{}[]":,0129az\x00\xff')
    if draw.random() < 0.2:
        del data[draw.randrange(len(data)) :]
    return bytes(data)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(4))
def test_damaged_checkpoints_of_others_end_in_one_line(seed, tmp_path):
    """A damaged file would raise one of many tracebacks."""
    save_file(dit(w=16), tmp_path / "dit.safetensors")
    whole, path = (tmp_path / "dit.safetensors").read_bytes(), tmp_path / "damaged.safetensors"
    assert struct.unpack("<Q", whole[:8])[0] < 3000  # the head, which names and places tensors
    draw, lines = random.Random(seed), []
    for _ in range(300):
        path.write_bytes(changed(whole, draw))
        try:
            diffjax.load(path, family="dit", settings=HEADS)
        except ConfigError as error:
            lines.append(str(error))
    assert len(lines) > 150 and not any("\n" in line for line in lines)
