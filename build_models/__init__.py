"""Turns a transformer into a checked INT8 bundle that the worker serves."""
