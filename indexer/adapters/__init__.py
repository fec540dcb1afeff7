"""Embedders of other libraries, that ask a pool; each file needs its own library alone, and its extra."""
