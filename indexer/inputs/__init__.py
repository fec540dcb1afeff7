"""What is read: Parquet files wherever they lie, their rows, ids and columns. Writes nothing."""
