"""Readers and writers of published file formats of arrays; no content of a file is executed."""
