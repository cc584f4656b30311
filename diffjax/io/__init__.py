"""Readers and writers of file formats of arrays; no content of a file is executed."""
