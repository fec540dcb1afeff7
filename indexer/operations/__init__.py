"""What is done to a whole index: made, updated, compacted, checked, mended."""
