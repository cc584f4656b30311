"""One page that shows a run: what lies in its workdir, curves as SVG, HTML."""

from diffjax.report.page import document
from diffjax.report.record import Record, Series, read

__all__ = ["Record", "Series", "document", "read"]
