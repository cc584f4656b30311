"""Pages of one file: a run (what lies in its workdir, curves as SVG), and tests by people."""

from diffjax.report.page import document
from diffjax.report.record import Record, Series, read

__all__ = ["Record", "Series", "document", "read"]
