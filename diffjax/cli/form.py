"""Flags that describe the items of a data set, for commands that work without the data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from diffjax import cli

if TYPE_CHECKING:
    from diffjax.data.form import Form


def form_flags(flags: argparse.ArgumentParser) -> None:
    """Add --shape, --classes and --kind."""
    flags.add_argument(
        "--shape",
        type=cli.listed(cli.positive),
        help="of an item, as 32,32,3 (default: by the data)",
    )
    flags.add_argument(
        "--classes", type=cli.whole(0, cli.MOST), default=0, help="number of classes, with --shape"
    )
    flags.add_argument("--kind", help="kind of data, with --shape (default: by the shape)")


def asked_form(asked: argparse.Namespace) -> Form | None:
    """Return the form that the flags describe, None where the data are to be asked."""
    if not asked.shape:
        return None

    from diffjax import builder
    from diffjax.data.form import labelled
    from diffjax.data.kinds import default

    shape = tuple(asked.shape)
    kind = asked.kind or default(shape, "float32")
    return builder.refuse("--shape")(labelled)(kind, shape, asked.classes)
