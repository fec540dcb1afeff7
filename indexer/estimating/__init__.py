"""What an index will cost: a minute of real work on a sample, and the rules of the index applied to it."""
