"""The wire of `tei.v1`: what clients of Text Embeddings Inference speak."""
