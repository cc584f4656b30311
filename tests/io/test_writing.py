"""The error for files that cannot be written."""

import pytest

from diffjax.config import ConfigError
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
