"""What is kept on disk, and in which order it is written: plans, units with receipts, deletions, locks."""
