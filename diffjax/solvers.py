"""Embedded Runge-Kutta pairs of diffrax, for sampling and for likelihoods alike."""

import diffrax

from diffjax.arrays import catalogue

SOLVERS = catalogue(diffrax.Heun, diffrax.Bosh3, diffrax.Dopri5, diffrax.Tsit5, diffrax.Dopri8)
"""Embedded Runge-Kutta pairs for the ODE."""
FIRST, GROWTH = 0.01, 4.0
"""The first step tried, as a share of the way, and how much longer the next one may be."""
