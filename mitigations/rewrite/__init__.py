"""Remedies written into the user's source; only `speedprof apply` imports what is in here."""
