"""Remedies as they are put into a running training: standard library and torch only."""

MODULE = "speedprof.mitigations.applied.process"  # what the training process imports
