"""Quality and speed of a candidate: evaluation sets, exact search, the gate, and time on one core."""
