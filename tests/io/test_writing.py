"""Files that are written: their mode, and the error where they cannot be."""

import numpy as np
import pytest

from diffjax.config import ConfigError
from diffjax.io.reading import write
from diffjax.io.writing import writing


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied", "a.png"), "Permission denied"),
        (OSError("encoder error -2\nwhen writing"), "encoder error -2 when writing"),  # of Pillow
    ],
)
def test_the_line_names_the_place_and_the_reason(error, reason):
    """A user would read `None` as the reason, or a traceback."""
    with pytest.raises(ConfigError) as caught, writing("--out=a.png"):
        raise error
    assert str(caught.value) == f"--out=a.png: cannot be written ({reason})"


def test_weights_have_the_mode_of_other_new_files(tmp_path):
    """Weights on a shared disk could be read by their owner alone."""
    other, weights = tmp_path / "other", tmp_path / "weights.safetensors"
    other.touch()
    write(weights, {"w": np.ones(2)}, {})
    assert weights.stat().st_mode == other.stat().st_mode
