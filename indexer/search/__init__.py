"""Searches of an index: texts or vectors in, documents out, as a library and as a service."""

from indexer.search.searcher import Hit, Searcher

__all__ = ["Hit", "Searcher"]
