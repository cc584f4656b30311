"""Devices and processes: the mesh, the placement of arrays, and runs over several processes."""
