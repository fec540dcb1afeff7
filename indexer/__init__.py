"""Streams documents from Parquet to a pool and writes embeddings and a FAISS index, exactly once."""
