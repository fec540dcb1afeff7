"""Turns a transformer into a checked bundle that the worker can serve."""
