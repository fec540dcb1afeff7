"""Token classification: taggers trained, exported, quantized and gated on strict F1, and run."""
