"""What a file of tensors holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Contents(NamedTuple):
    """Tensors by their published names; settings: what the file says of itself, {} where nothing.

    Values of `tensors` may be read only when asked for.
    """

    tensors: Mapping[str, np.ndarray]
    settings: dict[str, Any]
