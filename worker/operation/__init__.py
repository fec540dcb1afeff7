"""What an operator sees and sets: addresses, credentials, logs, metrics, traces, administration."""
