"""Contents of a file of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Contents(NamedTuple):
    """Tensors of a file, with its settings.

    tensors: by their published names; values may be read only when they are accessed. settings:
    what the file states beside the tensors, {} for nothing. file: its name without the ending.
    config: the fields of `config.json` beside it. scheduler: the fields of the scheduler of a
    pipeline.
    """

    tensors: Mapping[str, np.ndarray]
    settings: dict[str, Any]
    file: str = ""
    config: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None
