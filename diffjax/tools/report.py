"""Write a report of a run as one HTML page.

    python -m diffjax.tools.report --workdir=runs/digits

The page shows config, data, curves, samples over training and evaluation, in one self-contained
file. A run that is still training, or was killed, is shown up to its latest step.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from diffjax.report import Record

IMAGES, POINTS = 64, 1000


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.report", __doc__)
    flags.add_argument("--workdir", type=cli.path, required=True, help="folder of a run")
    flags.add_argument("--out", type=cli.path, help="HTML file (default: WORKDIR/report.html)")
    return flags


def run() -> int:
    asked = cli.read(flags())
    out = asked.out or asked.workdir / "report.html"

    from diffjax import report
    from diffjax.files import check_place, write_text
    from diffjax.io.writing import writing

    if not (asked.workdir / "config.json").is_file():
        raise ConfigError(f"--workdir={asked.workdir}: no run here (config.json is missing)")
    with writing(f"--out={out}"):
        check_place(out)
    record = report.read(asked.workdir)
    picture, note = real(record)
    with writing(f"--out={out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, report.document(record, picture, note))
    for line in record.notes:
        print(f"note: {line}")
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def real(record: Record) -> tuple[np.ndarray | None, str]:
    """Return a picture of real items and "", or None and the reason why there is none."""
    from diffjax import builder
    from diffjax.builder.construct import fields
    from diffjax.data import select

    try:
        spec = record.setting("data")
        fields(spec, "config.data")
        source, reading = builder.construct_data(spec, "config.data")
        train = source("train")
        together = train.form.items.together is not None
        items = select(train, reading, POINTS if together else IMAGES)
        form = reading.form(train)
        decoding = builder.construct_decoding(reading.codec, form, "config.data.codec")
        x = decoding(items.x) if decoding.codec else form.completed(items.x, items.cond)
        shown = decoding.stored.items.joined(x, items.cond)
        return decoding.stored.picture(shown, items.label if together else None), ""
    except (ConfigError, OSError, ImportError) as error:
        return None, f"No picture of the data: {error}"


if __name__ == "__main__":
    cli.main(run)
