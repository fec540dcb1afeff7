"""A server started as a user would: it serves, says what it serves, and ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embedpool.v1 import embedding_service_pb2 as pb
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer


def test_query_gets_the_session_s_vector(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """A query's vectors are bit-identical to those of the bundle run in process."""
    bundle = read_bundle(tiny_bundle)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode(["a red house", "rain"])
    session = Session(bundle)
    expected = np.concatenate([session.embed([one.ids]) for one in tokens])
    stub = stub_for(start_worker(tiny_bundle))
    response = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["a red house", "rain"]), timeout=30)
    assert response.vectors.data == expected.astype("<f4").tobytes()
    assert list(response.token_counts) == [len(one.ids) for one in tokens]
    assert response.model_fingerprint == bundle.manifest.fingerprint
