"""Reading of NetCDF files (version 3), as the Debian package ferret-datasets has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax.data.walk import shown
from diffjax.files import reason

INSTALL = "apt-get download ferret-datasets && dpkg -x ferret-datasets_*.deb ."


def variables(path: str, names: Sequence[str], source: str) -> dict[str, np.ndarray]:
    """Read variables by name as arrays of their own types; NaN stands for missing floats.

    source: the name of the source that needs the file. Raises ValueError where there is no such
    file, with the command that installs it, and for a file without these variables.

    >>> variables("", ("UWND",), "winds")
    Traceback (most recent call last):
    ValueError: path='': no such file; the form is name=winds:PATH...
    """
    from scipy.io import netcdf_file

    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise ValueError(
            f"path={path!r}: no such file; the form is name={source}:PATH, of Debian's package "
            f"ferret-datasets: {INSTALL}"
        )
    try:
        with netcdf_file(file, "r", mmap=False) as stored:
            there = {name: stored.variables.get(name) for name in names}
            if lacking := [name for name, values in there.items() if values is None]:
                known = ", ".join(stored.variables) or "nothing"
                raise ValueError(f"holds {known}; needs {lacking[0]}")
            return {name: _values(v) for name, v in there.items()}
    except (OSError, TypeError, ValueError, IndexError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise ValueError(f"{shown(file)}: is no NetCDF file for {source} ({why})") from error


def _values(variable: object) -> np.ndarray:
    """Return the values of a variable in the byte order of the machine, NaN where missing."""
    x = np.array(variable.data)  # pyright: ignore[reportAttributeAccessIssue]
    x = x.astype(x.dtype.newbyteorder("="))
    missing = getattr(variable, "missing_value", None)
    if missing is None or not np.issubdtype(x.dtype, np.floating):
        return x
    return np.where(x == np.asarray(missing).ravel()[0], np.nan, x)
