"""Treat: the remedies, one file each, and which of them fit a run."""
