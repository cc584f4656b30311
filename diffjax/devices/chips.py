"""Peak rates of accelerators, from the data sheets of their manufacturers."""

from __future__ import annotations

import re
from typing import NamedTuple


class Chip(NamedTuple):
    """The peak rates of one device.

    flops: FLOP/s in dense products of 16 bits. tf32: FLOP/s in products of float32, which GPUs
    round to TF32 and TPUs to bfloat16, unless a program asks for more. bandwidth: bytes/s of its
    memory. link: bytes/s that it sends to its neighbours, in one direction, over all links.
    network: bytes/s that it sends to devices of other hosts where those are not its neighbours:
    the network cards of a host together, since each carries its share of a ring. None is unknown.
    """

    flops: float
    tf32: float | None = None
    bandwidth: float | None = None
    link: float | None = None
    network: float | None = None


CHIPS = {
    r"V100": Chip(125e12),
    r"A100": Chip(312e12, 156e12, 2039e9, 300e9, 200e9),
    r"L4$": Chip(121e12),
    r"H100 PCIe": Chip(756e12),
    r"H(100|200) NVL": Chip(835e12),
    r"H100": Chip(989e12, 494.5e12, 3352e9, 450e9, 400e9),
    r"H200": Chip(989e12, 494.5e12, 4800e9, 450e9, 400e9),
    r"GB200": Chip(2500e12),
    r"B200": Chip(2250e12, 1125e12, 7700e9, 900e9, 400e9),
    r"TPU v2": Chip(22.5e12),
    r"TPU v3": Chip(61.5e12),
    r"TPU v4$": Chip(275e12, 275e12, 1200e9, 300e9),
    r"TPU v5 lite|TPU v5e": Chip(197e12, 197e12, 819e9, 200e9),
    r"TPU v5": Chip(459e12, 459e12, 2765e9, 600e9),
    r"TPU v6": Chip(918e12, 918e12, 1638e9, 400e9),
}
"""Chips by patterns of the name of a device, of which the first match counts.

On TPU v2 and v3 a core is a device. The links of NVIDIA GPUs are NVLink, at half the bidirectional
bandwidth of the data sheets of A100 (80 GB), H100 SXM, H200 SXM and B200; the network is that of a
DGX: 8 cards of 200 Gbit/s (A100) or 400 Gbit/s. The rates of TPUs are those of the pages `v4`,
`v5e`, `v5p` and `v6e` of the Cloud TPU documentation, with half the bidirectional bandwidth; the
links of TPU v4 are 6 of 50 GB/s (arXiv:2304.01433, tab. 4).
"""


def chip(kind: str) -> Chip | None:
    """Return the peak rates of a device by its name, None if they are unknown.

    >>> chip("TPU v5 lite").flops, chip("cpu")
    (197000000000000.0, None)
    """
    return next((rates for name, rates in CHIPS.items() if re.search(name, kind)), None)
