"""A file is written completely or not at all."""

import numpy as np
import pytest

from diffjax.files import whole, write_arrays, write_text


def test_a_file_appears_when_all_of_it_is_there(tmp_path):
    """A reader, or a resumed run, would accept half of a file."""
    path = tmp_path / "a.txt"
    with whole(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half" and list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    """A full disk would also cost the file of the previous step."""
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write():
        with whole(path) as part:
            part.write_text("ne")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_arrays_come_back_by_name(tmp_path):
    arrays = {"x": np.arange(3), "index": np.eye(2)}
    write_arrays(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz") as stored:
        assert {k: stored[k].tolist() for k in stored} == {k: v.tolist() for k, v in arrays.items()}


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="gone"):
        write_text(tmp_path / "gone" / "a.txt", "x")
