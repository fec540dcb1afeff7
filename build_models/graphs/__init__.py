"""Graphs: optimized, quantized and repaired, and counted operator by operator."""
