"""ODE solvers of adaptive sampling and of likelihoods: embedded Runge-Kutta pairs of diffrax."""

import diffrax

from diffjax.arrays import catalogue

SOLVERS = catalogue(diffrax.Heun, diffrax.Bosh3, diffrax.Dopri5, diffrax.Tsit5, diffrax.Dopri8)
"""Embedded Runge-Kutta pairs by name, of order 2, 3, 5, 5 and 8."""
FIRST, GROWTH = 0.01, 4.0
"""The first step as a share of the interval, and the largest growth from one step to the next."""
