"""The wire of `embedpool.v1`."""
