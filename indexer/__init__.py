"""Streams documents from Parquet to a pool and writes embeddings and a FAISS index, exactly once.

The road through this folder: `plan` cuts inputs into units, `inputs` reads their rows, `documents` makes
batches, `embedding` brings them to pools through `client`, `store` commits, `index` builds and measures,
`search` asks. `operations` joins them, and `commands` shows them to people.
"""
