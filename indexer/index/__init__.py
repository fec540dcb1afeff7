"""The FAISS index, a product of the units: which kind, how it is built, searched, measured and tuned."""
