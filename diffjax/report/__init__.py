"""Single-file HTML pages: reports of runs from their workdirs, and blinded human evaluations."""

from diffjax.report.page import document
from diffjax.report.record import Record, Series, read

__all__ = ["Record", "Series", "document", "read"]
