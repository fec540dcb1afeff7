"""Clients of embedpool's pools: `Client` for threads, `AsyncClient` for asyncio, with the same methods.

They need grpcio, protobuf and numpy alone. No type of gRPC or protobuf is seen outside; errors are those of
`indexer.errors`, and carry the status as `code`.
"""

from indexer.client.aio import AsyncClient
from indexer.client.answers import Document, Embeddings, Pool, Timing
from indexer.client.configuration import ClientConfig
from indexer.client.members import Target
from indexer.client.settings import (
    Access,
    Chunking,
    HedgeConfig,
    NameConfig,
    Options,
    RetryConfig,
    TlsConfig,
    VectorType,
)
from indexer.client.statistics import ClassStatistics, Distribution, ProcessStatistics, Statistics
from indexer.client.status import Status
from indexer.client.sync import Client, describe, unreachable

__all__ = [
    "Access",
    "AsyncClient",
    "Chunking",
    "ClassStatistics",
    "Client",
    "ClientConfig",
    "Distribution",
    "Document",
    "Embeddings",
    "HedgeConfig",
    "NameConfig",
    "Options",
    "Pool",
    "ProcessStatistics",
    "RetryConfig",
    "Statistics",
    "Status",
    "Target",
    "Timing",
    "TlsConfig",
    "VectorType",
    "describe",
    "unreachable",
]
