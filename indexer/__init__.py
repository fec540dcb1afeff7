"""Streams documents from Parquet to a pool and writes embeddings and a FAISS index, exactly once.

The road through this folder: `plan` cuts inputs into units, `parquet` reads rows, `documents` makes
batches, `dispatch` brings them to pools through `client`, `unit` gathers answers, `ledger` commits,
`faiss_index` builds and `search` asks. `pipeline` joins them; `verify` trusts none of them.
"""
