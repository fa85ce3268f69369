"""What this machine can do at best, measured by `speedprof roofs` and kept for its runs."""
