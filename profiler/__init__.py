"""Measure: start the command, record facts, attribute the time of each step."""
