"""Turns a transformer into a checked bundle that the worker can serve."""

import os

# As in the worker, and here too because which of both is imported first is chance.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
