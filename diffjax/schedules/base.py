"""What a noise schedule is."""

from __future__ import annotations

import abc

from jaxtyping import Array, Float

Times = Float[Array, "*b"]
LogSNR = Float[Array, "*b"]


class Schedule(abc.ABC):
    """A decreasing, differentiable function t -> l with its inverse; equal settings are equal."""

    @abc.abstractmethod
    def __call__(self, t: Times) -> LogSNR:
        """Log-SNR at time t in [0, 1]."""

    @abc.abstractmethod
    def inverse(self, l: LogSNR) -> Times:
        """Time at log-SNR l; `inverse(self(t)) == t` on (0, 1)."""
