"""Devices and processes: the mesh, where arrays are placed, several processes as one run."""
