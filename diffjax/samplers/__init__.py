"""Samplers: each writes a table (`table.py`); one file per family; the catalogue is here."""

from diffjax.arrays import catalogue
from diffjax.samplers.first_order import ancestral, ddim
from diffjax.samplers.runge_kutta import heun
from diffjax.samplers.table import (
    Row,
    Sampler,
    Table,
    initial,
    moments,
    sample,
    sampler,
    table,
    unroll,
)

SAMPLERS = catalogue(ddim, ancestral, heun)

__all__ = [
    "SAMPLERS",
    "Row",
    "Sampler",
    "Table",
    "ancestral",
    "ddim",
    "heun",
    "initial",
    "moments",
    "sample",
    "sampler",
    "table",
    "unroll",
]
