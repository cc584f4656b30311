"""The least time that a program can take at the peak rates of its devices.

The roofline model: S. Williams, A. Waterman, D. Patterson, CACM 52 (2009), 65-76.
"""

from __future__ import annotations

from typing import NamedTuple

from diffjax.devices.chips import Chip

BOUNDS = ("compute", "memory", "interconnect")


class Estimate(NamedTuple):
    """An estimate of the time of one run of a program, from peak rates; nothing was measured.

    compute: seconds for the products of the program. memory: seconds for the bytes that it moves.
    interconnect: seconds for the bytes that a device sends. items_per_s: throughput of all devices.
    mfu: model FLOPs utilisation, as a share of the peak in products of 16 bits.
    """

    compute: float
    memory: float
    interconnect: float
    items_per_s: float
    mfu: float

    @property
    def seconds(self) -> float:
        """The largest of the three times, as if each were hidden behind the others."""
        return max(self[:3])

    @property
    def bound(self) -> str:
        """What takes the largest of the three times."""
        return BOUNDS[self[:3].index(self.seconds)]


def estimate(
    chip: Chip | None,
    *,
    devices: int,
    host: int,
    flops: float,
    model_flops: float,
    moved: float,
    sent: float,
    items: int,
    sixteen: bool,
) -> Estimate | None:
    """Return the estimate for one run of a program, None where a rate of the chip is unknown.

    devices: their number. host: the number of devices in one host that share links; beyond it the
    network may be slower. flops, model_flops: of all devices together. moved, sent: bytes of one
    device. items: the number of items in a run. sixteen: whether products are of 16 bits.

    >>> from diffjax.devices.chips import Chip
    >>> chip = Chip(flops=1e12, tf32=5e11, bandwidth=1e11, link=1e10)
    >>> e = estimate(chip, devices=2, host=2, flops=4e12, model_flops=3e12, moved=1e11, sent=5e9,
    ...     items=8, sixteen=True)
    >>> e.bound, e.seconds, e.items_per_s, e.mfu
    ('compute', 2.0, 4.0, 0.75)
    """
    if chip is None or not (chip.tf32 and chip.bandwidth and chip.link):
        return None
    link = min(chip.link, chip.network or chip.link) if devices > host else chip.link
    compute = flops / devices / (chip.flops if sixteen else chip.tf32)
    times = compute, moved / chip.bandwidth, sent / link
    longest = max(times) or 1e-12
    return Estimate(*times, items / longest, model_flops / (longest * devices * chip.flops))
