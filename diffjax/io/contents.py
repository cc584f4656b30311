"""What a file of tensors holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Contents(NamedTuple):
    """Tensors by their published names; settings: what the file says of itself, {} where nothing.

    file: its name without the ending. config: the fields of `config.json` beside it. scheduler:
    those of the scheduler of a pipeline. Values of `tensors` may be read only when asked for.
    """

    tensors: Mapping[str, np.ndarray]
    settings: dict[str, Any]
    file: str = ""
    config: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None
