"""Searches of an index: texts or vectors in, documents out, as a library and as a service."""

from indexer.search.hits import Hit, Passage
from indexer.search.searcher import Searcher

__all__ = ["Hit", "Passage", "Searcher"]
