"""What a compiled program needs of its target: memory, communication, and an estimate of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from diffjax.aot import hlo
from diffjax.aot.collectives import Collective, Total, collectives, totals
from diffjax.aot.programs import Compiled
from diffjax.aot.roofline import Estimate, estimate
from diffjax.aot.targets import HOST, Target
from diffjax.aot.traffic import traffic
from diffjax.devices.chips import chip
from diffjax.progress import many

PLACES = 8
"""Number of places of collectives that are shown, those with most bytes."""


@dataclass(frozen=True)
class Analysis:
    """A compiled program on its target, with numbers for one train step or one batch of samples.

    sizes: bytes of one device by name, and their sum `peak`. left: bytes of a device that remain,
    None without a known memory. moved, sent: bytes that a device moves in its memory, and sends to
    others. estimate: None where the peak rates of the devices are unknown.
    """

    target: Target
    items: int
    model_flops: float
    flops: float
    sizes: dict[str, int]
    left: int | None
    moved: float
    collectives: list[Collective]
    estimate: Estimate | None
    seconds: float

    @property
    def sent(self) -> float:
        """Bytes that one device sends."""
        return sum(item.sent for item in self.collectives)

    @property
    def kinds(self) -> dict[str, Total]:
        """The collectives by kind."""
        return totals(self.collectives, lambda item: item.kind)

    @property
    def places(self) -> dict[str, Total]:
        """The collectives by kind and by place in the step."""
        return totals(self.collectives, lambda item: f"{item.kind:<18} {item.place}")

    def as_json(self) -> dict[str, Any]:
        """Return all numbers as JSON data."""
        facts = {k: v for k, v in asdict(self).items() if k not in ("target", "collectives")}
        shown = lambda sums: {" ".join(k.split()): v._asdict() for k, v in sums.items()}
        if e := self.estimate:
            facts["estimate"] = e._asdict() | {"seconds": e.seconds, "bound": e.bound}
        facts |= {"sent": self.sent, "by_kind": shown(self.kinds), "by_place": shown(self.places)}
        return {"target": str(self.target), "devices": self.target.size, **facts}

    def __str__(self) -> str:
        sizes = ", ".join(f"{amount(value)} {name}" for name, value in self.sizes.items())
        left = "" if self.left is None else f"; {fits(self.left)}"
        lines = [
            f"  target       {self.target}: {many(self.target.size, 'device')}, compiled in "
            f"{self.seconds:.0f} s",
            f"  memory       {sizes}, per device{left}",
            f"  products     {self.model_flops / 1e9:.4g} GFLOPs of the model, "
            f"{self.flops / 1e9:.4g} computed, on all devices",
            f"  moved        {amount(self.moved)} of memory per device",
            f"  sent         {amount(self.sent)} per device",
        ]
        for title, sums in (("by kind", self.kinds), ("by place", self.places)):
            for name, sum_ in list(sums.items())[:PLACES]:
                lines.append(f"    {title:<10} {name}: {shown(sum_)}")
        return "\n".join([*lines, f"  estimate     {self._estimated()}"])

    def _estimated(self) -> str:
        if not (e := self.estimate):
            return "none: no data sheet of this device is in diffjax/devices/chips.py"
        return (
            f"at least {e.seconds * 1e3:.4g} ms at peak rates, bound by {e.bound} (compute "
            f"{e.compute * 1e3:.4g}, memory {e.memory * 1e3:.4g}, interconnect "
            f"{e.interconnect * 1e3:.4g} ms); at most {e.items_per_s:,.0f} items/s, MFU {e.mfu:.2f}"
        )


def amount(size: float) -> str:
    """Describe a number of bytes.

    >>> amount(1234567), amount(0)
    ('1.235 MB', '0 B')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = max((k for k in range(len(units)) if size >= 1000**k), default=0)
    return f"{size / 1000**power:.4g} {units[power]}"


def fits(left: int) -> str:
    """Describe what is left of the memory of a device.

    >>> fits(3 * 10**9), fits(-10**9)
    ('3 GB left', 'does not fit: 1 GB too much')
    """
    return f"{amount(left)} left" if left >= 0 else f"does not fit: {amount(-left)} too much"


def shown(total: Total) -> str:
    """Describe collectives in a few words.

    >>> shown(Total(count=2, times=56, sent=3e8))
    '2 in the program, 56 per step, 300 MB sent'
    """
    return f"{total.count} in the program, {total.times:g} per step, {amount(total.sent)} sent"


def analyse(compiled: Compiled, target: Target, sixteen: bool) -> Analysis:
    """Analyse a compiled program; sixteen: whether its products are of 16 bits."""
    text = hlo.parse(compiled.text, compiled.unstated)
    items = collectives(text, target.size)
    steps = compiled.steps
    per_step: Callable[[Collective], Collective] = lambda item: item._replace(
        times=item.times / steps, sent=item.sent / steps
    )
    sent = [per_step(item) for item in items]
    moved = traffic(text) / steps
    names = ("state", "batch", "temporary", "output", "code", "peak")
    return Analysis(
        target=target,
        items=compiled.items // steps,
        model_flops=compiled.model_flops / steps,
        flops=compiled.flops / steps,
        sizes={name: getattr(compiled, name) for name in names},
        left=target.memory and target.memory - compiled.peak,
        moved=moved,
        collectives=sent,
        estimate=estimate(
            chip(target.name),
            devices=target.size,
            host=HOST if target.platform == "gpu" else target.size,
            flops=compiled.flops / steps,
            model_flops=compiled.model_flops / steps,
            moved=moved,
            sent=sum(item.sent for item in sent),
            items=compiled.items // steps,
            sixteen=sixteen,
        ),
        seconds=compiled.seconds,
    )
