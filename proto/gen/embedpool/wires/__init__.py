"""Wires that clients of other servers already speak: `tei.v1` and `inference`."""
