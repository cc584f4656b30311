"""Squares of the relief of the earth, land and sea floor, at 5 minutes of arc."""

from __future__ import annotations

import numpy as np

from diffjax import checks
from diffjax.data.netcdf import variables
from diffjax.data.source import Memory, check_split, part


def relief(
    split: str, path: str = "", side: int = 32, latitude: float = 60.0, holdout: float = 0.1
) -> Memory:
    """Read squares (side, side, 1) of heights from `etopo5.cdf`, normalised, for fields.

    The squares lie side by side between the latitudes -latitude and latitude, in degrees, where
    they are not too narrow; rows go from north to south. Heights are (metres - mean) / std, and the
    units `mean` and `std` are those of the training squares. path: the file. side: in values of
    1/12 degree, about 9 km at the equator. holdout: the share of held-out squares, chosen by
    number. Raises ValueError without the file, and for settings out of range.

    >>> relief("train", "nowhere.cdf")
    Traceback (most recent call last):
    ValueError: path='nowhere.cdf': no such file; the form is name=relief:PATH...
    """
    check_split(split, "relief")
    checks.within(1, 90, latitude=latitude)
    read = variables(path, ("ROSE", "ETOPO05_Y"), "relief")
    inside = np.abs(read["ETOPO05_Y"]) <= latitude + 1e-6
    x = np.asarray(read["ROSE"], np.float64)[inside][::-1]
    checks.within(2, min(x.shape), side=side)
    rows, columns = (n // side for n in x.shape)
    x = x[: rows * side, : columns * side].reshape(rows, side, columns, side)
    x = x.swapaxes(1, 2).reshape(-1, side, side, 1)
    names = [str(i) for i in range(len(x))]
    train = x[part(names, "train", holdout)]
    mean, std = float(train.mean()), float(train.std())
    x = x[part(names, split, holdout)]
    units = (("mean", mean), ("std", std))
    return Memory(((x - mean) / (std or 1)).astype(np.float32), kind="field", units=units)
