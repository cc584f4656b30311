"""Monthly winds at the surface of the earth, 1982 to 1992, and the winds of the month before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffjax import checks
from diffjax.data.netcdf import variables
from diffjax.data.pairs import Pairs
from diffjax.data.source import Memory, check_split
from diffjax.data.walk import shown

TURNS = 1 << 57
"""Stream of the random turns of the globe, to which the seed is added."""
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)


@dataclass(frozen=True)
class Winds(Pairs):
    """Pairs of successive months (N, H, W, 2), with the month of the later one as its label.

    turned: whether each epoch turns every pair by another random number of columns, as if the winds
    were alike at all longitudes; few months then teach a network what neighbouring places share.

    >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    >>> pairs = Memory(x, kind="field", cond={"map": x + 10})
    >>> turned = Winds(pairs, True).draw(np.array([0]), np.array([3]), seed=0)
    >>> (turned["map"] - turned["x"]).ravel().tolist()
    [10.0, 10.0, 10.0, 10.0]
    """

    turned: bool = False

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,), turned by functions of the seed and of the numbers."""
        items = dict(self.pairs[index])
        if not self.turned:
            return items
        width = self.form.shape[1]
        for row, k in enumerate(np.asarray(number).tolist()):
            rng = np.random.Generator(np.random.Philox(key=[TURNS + seed, k]))
            turn = int(rng.integers(width))
            for name in ("x", "map"):
                items[name][row] = np.roll(items[name][row], turn, 1)
        return items

    def kept(self) -> Winds:
        """Return the source itself, which is in memory."""
        return self


def winds(
    split: str, path: str = "", factor: int = 3, months: int = 24, turned: bool = False
) -> Winds:
    """Read pairs of months of `monthly_navy_winds.cdf`, as anomalies, for forecasts.

    x is a month, the condition `map` the month before, and the label the month of the year of x.
    The channels are the eastward and the northward wind, as (wind - mean) / std: the mean is that
    of the place in this month of the year, and std the standard deviation about it of the place in
    all months, both of the training months, and in m/s in the units `mean` (12, H, W, 2) and `std`
    (H, W, 2). A training month, of which there are n, is n / (n - 1) times that, its anomaly from
    the mean of the other years: otherwise held-out months would be farther from the mean. Rows go
    from north to south, columns to the east from 20 E. The condition `latitude` is sqrt(2) times
    the sine of the latitude of each place, since the rows of the file are evenly spaced from pole
    to pole.

    path: the file. factor: the side, in places 2.5 degrees apart, of the squares that are averaged;
    it divides the 144 columns, and the southernmost rows beyond a multiple of it are left out.
    months: the last months are held out. turned: see `Winds`. Raises ValueError without the file,
    and where fewer than two years are left for training.

    >>> winds("train", "nowhere.cdf")
    Traceback (most recent call last):
    ValueError: path='nowhere.cdf': no such file; the form is name=winds:PATH...
    """
    check_split(split, "winds")
    read = variables(path, ("UWND", "VWND", "TIME"), "winds")
    x = np.stack([read["UWND"], read["VWND"]], -1).astype(np.float64)[:, ::-1]
    height, width = x.shape[1] // factor * factor if factor > 0 else 0, x.shape[2]
    checks.within(1, min(x.shape[1:3]), factor=factor)
    if width % factor:
        raise ValueError(f"factor={factor}: must divide the {width} columns of the file")
    if not np.isfinite(x).all():
        raise ValueError(f"{shown(path)}: has missing winds; needs values everywhere")
    x, month = _squares(x[:, :height], factor), _months(read["TIME"])
    checks.within(1, max(len(x) - 24, 1), months=months)
    if (first := len(x) - months) < 24:
        raise ValueError(f"months={months}: leaves {first} months; needs two years for training")
    mean = np.stack([x[:first][month[:first] == k].mean(0) for k in range(12)])
    apart = (x - mean[month])[:first]
    std = np.sqrt((apart**2).sum(0) / (first - 12))
    x = ((x - mean[month]) / np.where(std > 0, std, 1)).astype(np.float32)
    years = np.bincount(month[:first])[month[:first], None, None, None]
    x[:first] *= years / (years - 1)
    index = np.arange(1, first) if split == "train" else np.arange(first, len(x))
    rows = _sines(len(read["UWND"][0]), factor)[:, None, None]
    latitude = np.broadcast_to(rows, (len(index), *x.shape[1:3], 1)).astype(np.float32)
    units = (("mean", mean.round(4).tolist()), ("std", std.round(4).tolist()))
    return Winds(
        Memory(
            x[index],
            month[index].astype(np.int32),
            12,
            kind="field",
            cond={"map": x[index - 1], "latitude": latitude},
            units=units,
            class_names=MONTHS,
        ),
        turned,
    )


def _squares(x: np.ndarray, factor: int) -> np.ndarray:
    """Return the means (T, H / factor, W / factor, C) over squares of fields (T, H, W, C)."""
    t, h, w, c = x.shape
    return x.reshape(t, h // factor, factor, w // factor, factor, c).mean((2, 4))


def _sines(rows: int, factor: int) -> np.ndarray:
    """Return sqrt(2) sin(latitude) of `rows` from north to south, in means of `factor` rows."""
    sine = np.sin(np.linspace(np.pi / 2, -np.pi / 2, rows))
    return np.sqrt(2) * sine[: rows // factor * factor].reshape(-1, factor).mean(1)


def _months(hours: np.ndarray) -> np.ndarray:
    """Return the months of the year, from 0, of hours since 1980-01-14 14:00."""
    time = np.datetime64("1980-01-14T14") + np.asarray(hours).astype(int).astype("timedelta64[h]")
    return time.astype("datetime64[M]").astype(int) % 12
