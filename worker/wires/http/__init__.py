"""OpenAI's HTTP interface for embeddings."""
