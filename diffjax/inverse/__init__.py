"""Inverse problems and editing: samples under a measurement, a reward, or parts of an image."""
