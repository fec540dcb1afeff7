"""Adapters with the real libraries and a real pool: values, classes, prompts, errors, copies, TLS."""

import asyncio
import gc
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.adapters.link import Link
from indexer.adapters.sentence_transformers import EmbedpoolEncoder
from indexer.client import TlsConfig
from indexer.errors import AwayError, ConfigError, PoolError
from tests.integration.certificates import Authority
from tests.integration.conftest import TRAP_DIM
from tests.integration.indexer.adapted import PROMPTS, TEXTS, Prompted, check

LIBRARIES = {"langchain": "langchain_core", "llama_index": "llama_index", "haystack": "haystack"}
TOKEN = "a-token-of-some-length-for-a-test"  # noqa: S105  of a test's server
MODULE = "indexer.adapters.haystack"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Haystack would tell its makers of every pipeline."""
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")


def test_langchain_retrieves_with_the_prompt_of_each_class(prompted: Prompted) -> None:
    """A store of the real library finds what the reference finds, by threads and by asyncio, in two loops."""
    from langchain_core.vectorstores import InMemoryVectorStore

    from indexer.adapters.langchain import EmbedpoolEmbeddings

    query = "order the numbers of a list"
    cosines = (prompted.queries([query]) @ prompted.documents(TEXTS).T)[0]
    best = TEXTS[int(cosines.argmax())]
    with EmbedpoolEmbeddings(prompted.address) as embeddings:
        with prompted.counted(queries=2, documents=len(TEXTS)):
            store = InMemoryVectorStore(embeddings)
            store.add_texts(TEXTS)
            ((found, score),) = store.similarity_search_with_score(query, k=1)
            assert found.page_content == best
            assert score == pytest.approx(float(cosines.max()), abs=1e-4)
            check(embeddings.embed_query(query), prompted.queries([query])[0])

        async def ask() -> None:
            store = InMemoryVectorStore(embeddings)
            await store.aadd_texts(TEXTS)
            vectors = await asyncio.gather(*(embeddings.aembed_query(query) for _ in range(20)))
            assert {tuple(vector) for vector in vectors} == {tuple(embeddings.embed_query(query))}
            assert (await store.asimilarity_search(query, k=1))[0].page_content == best

        asyncio.run(ask())
        asyncio.run(ask())
        assert embeddings.embed_documents([]) == asyncio.run(embeddings.aembed_documents([])) == []


def test_a_bad_text_is_named_and_no_vector_is_guessed(prompted: Prompted) -> None:
    """The error tells which texts were refused and why; the next call works."""
    from indexer.adapters.langchain import EmbedpoolEmbeddings

    with EmbedpoolEmbeddings(prompted.address) as embeddings:
        with pytest.raises(PoolError, match=r"^2 texts have no vector.*text 1: .*empty; text 3: .*empty$"):
            embeddings.embed_documents(["a", "", "b", ""])
        with pytest.raises(PoolError, match=r"a text has no vector.*text 0") as refusal:
            asyncio.run(embeddings.aembed_documents([""]))
        assert refusal.value.code == "INVALID_ARGUMENT"
        with pytest.raises(PoolError, match="empty"):
            embeddings.embed_query("")
        with pytest.raises(PoolError, match="nope"):
            EmbedpoolEmbeddings(prompted.address, query_prompt="nope").embed_query("a")
        check(embeddings.embed_documents(["a"]), prompted.documents(["a"]))
    with pytest.raises(AwayError):
        EmbedpoolEmbeddings("127.0.0.1:1", timeout=1).embed_query("a")
    with pytest.raises(ConfigError, match="dimensions"):
        EmbedpoolEmbeddings(prompted.address, dimensions=-1)


def test_settings_reach_the_pool_and_survive_a_copy(prompted: Prompted) -> None:
    """Dimensions and named prompts, also of an embedder that was pickled after use, and after close."""
    from indexer.adapters.langchain import EmbedpoolEmbeddings

    embeddings = EmbedpoolEmbeddings(
        prompted.address, dimensions=8, query_prompt="other", document_prompt="", token=TOKEN
    )
    query = embeddings.embed_query("a list")
    assert len(query) == 8
    copied = pickle.loads(pickle.dumps(embeddings))  # noqa: S301  our own bytes
    embeddings.close()
    assert embeddings.embed_query("a list") == copied.embed_query("a list") == query
    plain = Link(prompted.address, dimensions=8, document_prompt="")
    with plain, copied:
        other = next(plain.documents([PROMPTS["other"] + "a list"])).vector
        assert other is not None
        check(query, other)
        np.testing.assert_array_equal(copied.embed_documents([PROMPTS["other"] + "a list"])[0], other)
    assert TOKEN not in repr(embeddings)


def test_a_link_that_nobody_closed_ends_without_being_waited_for(prompted: Prompted) -> None:
    """Garbage is collected anywhere, in a client's own thread too: it never waits there, and all goes."""
    dropped, other = Link(prompted.address), Link(prompted.address)
    for link in (dropped, other):
        link.query(["a list"])
    clients = [link._client for link in (dropped, other) if link._client is not None]
    left, mine = (client._thread for client in clients)
    in_the_loop = clients[1]._loop
    done = threading.Event()

    def collect() -> None:
        gc.collect()
        done.set()

    del dropped, link, clients
    in_the_loop.call_soon_threadsafe(collect)
    assert done.wait(30)
    left.join(30)
    assert not left.is_alive()
    with other:
        assert other.query(["a list"]).shape[0] == 1
    mine.join(30)
    assert not mine.is_alive()


def test_a_cancelled_call_is_cancelled_at_the_pool(prompted: Prompted) -> None:
    """Who is cancelled while documents flow gets CancelledError at once, and the link goes on."""

    async def ask(link: Link) -> None:
        began = asyncio.Event()
        loop = asyncio.get_running_loop()
        texts = [f"text number {number}" for number in range(50_000)]
        task = asyncio.create_task(link.adocuments(texts, lambda: loop.call_soon_threadsafe(began.set)))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await link.aquery(["a"])).shape == (1, 32)

    with Link(prompted.address) as link:
        asyncio.run(ask(link))


def test_llama_index_retrieves_and_tells_its_events(prompted: Prompted) -> None:
    """A vector index of the real library: nodes in bulk, queries as queries, events, JSON, asyncio."""
    from llama_index.core import VectorStoreIndex
    from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
    from llama_index.core.schema import TextNode

    from indexer.adapters.llama_index import EmbedpoolEmbedding

    query = "order the numbers of a list"
    best = TEXTS[int((prompted.queries([query]) @ prompted.documents(TEXTS).T).argmax())]
    events = LlamaDebugHandler(print_trace_on_end=False)
    embedding = EmbedpoolEmbedding(
        targets=prompted.address, callback_manager=CallbackManager([events]), token=TOKEN
    )
    with embedding, prompted.counted(queries=2, documents=2 * len(TEXTS)):
        nodes = [TextNode(text=text) for text in TEXTS]
        index = VectorStoreIndex(nodes, embed_model=embedding, callback_manager=embedding.callback_manager)
        retriever = index.as_retriever(similarity_top_k=1)
        assert retriever.retrieve(query)[0].text == best
        assert asyncio.run(retriever.aretrieve(query))[0].text == best
        check(asyncio.run(embedding.aget_text_embedding_batch(TEXTS)), prompted.documents(TEXTS))
    assert len(events.get_event_pairs(CBEventType.EMBEDDING)) == 4
    written = embedding.to_json()
    assert TOKEN not in written + repr(embedding)
    with EmbedpoolEmbedding.from_json(written) as copied:
        check(copied.get_query_embedding(query), prompted.queries([query])[0])
        with pytest.raises(PoolError, match="text 1"):
            copied.get_text_embedding_batch(["a", ""])
    with pickle.loads(pickle.dumps(embedding)) as copied:  # noqa: S301  our own bytes
        check(copied.get_text_embedding("a"), prompted.documents(["a"])[0])


@pytest.mark.parametrize("adapter", sorted(LIBRARIES))
def test_a_missing_library_is_one_line_that_names_the_extra(adapter: str) -> None:
    """Importing an adapter where its library is not installed says what to install."""
    code = f"import sys; sys.modules[{LIBRARIES[adapter]!r}] = None; import indexer.adapters.{adapter}"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    extra = adapter.replace("_", "-")
    assert result.stderr.splitlines()[-1].endswith(f"install it with pip install 'embedpool[{extra}]'")


def test_haystack_indexes_and_retrieves_in_pipelines(prompted: Prompted) -> None:
    """Real pipelines, one of them written as YAML and read back: metadata, prompts, classes, asyncio."""
    from haystack import Document, Pipeline
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.components.writers import DocumentWriter
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    from indexer.adapters.haystack import EmbedpoolDocumentEmbedder, EmbedpoolTextEmbedder

    query = "order the numbers of a list"
    store = InMemoryDocumentStore()
    indexing, asking = Pipeline(), Pipeline()
    indexing.add_component(
        "embedder",
        EmbedpoolDocumentEmbedder(
            prompted.address,
            meta_fields_to_embed=["title", "none"],
            embedding_separator=" ",
            progress_bar=False,
        ),
    )
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder.documents", "writer.documents")
    indexing = Pipeline.loads(indexing.dumps(), allowed_modules=[MODULE])
    store = indexing.get_component("writer").document_store
    asking.add_component("embedder", EmbedpoolTextEmbedder(prompted.address))
    asking.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    asking.connect("embedder.embedding", "retriever.query_embedding")
    documents = [Document(content=text, meta={"title": "method", "none": None}) for text in TEXTS]
    wanted = prompted.documents([f"method {text}" for text in TEXTS])
    with prompted.counted(queries=1, documents=len(TEXTS)):
        indexing.run({"embedder": {"documents": documents}})
        (found,) = asking.run({"embedder": {"text": query}})["retriever"]["documents"]
    assert found.content == TEXTS[int((prompted.queries([query]) @ wanted.T).argmax())]
    embedder = indexing.get_component("embedder")
    check([one.embedding for one in asyncio.run(embedder.run_async(documents))["documents"]], wanted)
    assert all(one.embedding is None for one in documents)
    for pipeline in (indexing, asking):
        pipeline.get_component("embedder").close()


def test_haystack_names_bad_documents_or_leaves_them_out(prompted: Prompted) -> None:
    """By default a refused document is an error; else it comes back without embedding, the others with."""
    from haystack import Document

    from indexer.adapters.haystack import EmbedpoolDocumentEmbedder, EmbedpoolTextEmbedder

    documents = [Document(content="a"), Document(content=""), Document(content="b")]
    strict = EmbedpoolDocumentEmbedder(prompted.address, progress_bar=False)
    lenient = EmbedpoolDocumentEmbedder(prompted.address, progress_bar=False, raise_on_failure=False)
    with pytest.raises(PoolError, match=r"text 1: .*empty"):
        strict.run(documents)
    found = lenient.run(documents)["documents"]
    assert [one.embedding is None for one in found] == [False, True, False]
    assert strict.run([]) == asyncio.run(strict.run_async([])) == {"documents": []}
    with pytest.raises(TypeError, match="EmbedpoolTextEmbedder"):
        strict.run("a")
    with pytest.raises(TypeError, match="EmbedpoolDocumentEmbedder"):
        EmbedpoolTextEmbedder(prompted.address).run(documents)
    strict.close()
    lenient.close()


def test_haystack_opens_a_pool_that_asks_for_tls_and_a_token(
    trap_bundle: Path, start_worker: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The component that was written down holds paths and the name of a variable, and opens the pool."""
    from haystack.utils import Secret

    from indexer.adapters.haystack import EmbedpoolTextEmbedder

    authority = Authority(tmp_path / "pki")
    server = authority.sign("server")
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    tokens.chmod(0o600)
    address = start_worker(
        trap_bundle,
        *("--processes", "1", "--tls-cert", str(server.cert), "--tls-key", str(server.key)),
        *("--token-file", str(tokens)),
    ).address
    monkeypatch.setenv("POOL_TOKEN", TOKEN)
    embedder = EmbedpoolTextEmbedder(
        address, tls=TlsConfig(authority.pair.cert), token=Secret.from_env_var("POOL_TOKEN")
    )
    written = embedder.to_dict()
    assert TOKEN not in repr(written)
    again = EmbedpoolTextEmbedder.from_dict(written)
    again.warm_up()
    assert len(again.run("w5")["embedding"]) == TRAP_DIM
    again.close()
    monkeypatch.setenv("POOL_TOKEN", "another-token-that-nobody-knows")
    with pytest.raises(PoolError, match="UNAUTHENTICATED"):
        EmbedpoolTextEmbedder.from_dict(written).warm_up()


def test_encoder_gives_what_the_real_one_gives(prompted: Prompted) -> None:
    """Every way to encode agrees with a SentenceTransformer of the same folder, in values, shape and type."""
    import torch
    from sentence_transformers import SentenceTransformer

    real = SentenceTransformer(str(prompted.model), device="cpu")
    with EmbedpoolEncoder(prompted.address) as ours:
        with prompted.counted(queries=1 + len(TEXTS), documents=2 * len(TEXTS)):
            check(ours.encode(TEXTS), real.encode(TEXTS))
            check(ours.encode(TEXTS[0]), real.encode(TEXTS[0]))
            check(ours.encode_query(TEXTS), real.encode_query(TEXTS))
            check(ours.encode_document(TEXTS), real.encode_document(TEXTS))
        for words in (
            {"prompt_name": "other"},
            {"prompt": "an example of "},
            {"truncate_dim": 8, "normalize_embeddings": True},
            {"convert_to_tensor": True},
            {"convert_to_numpy": False},
            {"batch_size": 1, "show_progress_bar": True},
        ):
            mine, theirs = ours.encode(TEXTS, **words), real.encode(TEXTS, **words)
            assert type(mine) is type(theirs), words
            check(np.stack([np.asarray(row) for row in mine]), np.stack([np.asarray(row) for row in theirs]))
        for precision in ("binary", "ubinary"):
            mine, theirs = ours.encode(TEXTS, precision=precision), real.encode(TEXTS, precision=precision)
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        assert ours.encode([]).shape == real.encode([]).shape
        assert ours.max_seq_length == real.max_seq_length
        assert ours.get_embedding_dimension() == real.get_embedding_dimension()
        assert ours.prompts == PROMPTS
        vectors = real.encode(TEXTS)
        np.testing.assert_allclose(
            ours.similarity(vectors, vectors), real.similarity(vectors, vectors), atol=1e-6
        )
        tensors = torch.from_numpy(vectors)
        assert torch.allclose(ours.similarity(tensors, vectors[0]), real.similarity(tensors, vectors[0]))
        assert torch.allclose(ours.similarity_pairwise(tensors, tensors), torch.ones(len(TEXTS)))
        with ours.truncate_embeddings(8):
            assert pickle.loads(pickle.dumps(ours)).get_embedding_dimension() == 8  # noqa: S301  our own bytes


def test_an_evaluator_takes_the_encoder_for_a_model(prompted: Prompted) -> None:
    """The real library's retrieval evaluator measures the same with the pool as with the model itself."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    queries = {str(number): f"what {text.lower()}" for number, text in enumerate(TEXTS)}
    corpus = {str(number): text for number, text in enumerate([*TEXTS, *PROMPTS.values()])}
    evaluator = InformationRetrievalEvaluator(
        queries, corpus, {one: {one} for one in queries}, write_csv=False
    )
    real = evaluator(SentenceTransformer(str(prompted.model), device="cpu"))
    with EmbedpoolEncoder(prompted.address) as ours:
        assert evaluator(ours) == pytest.approx(real, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"precision": "int8"}, "quantize_embeddings"),
        ({"output_value": "token_embeddings"}, "none of tokens"),
        ({"pool": {}}, "has its own"),
        ({"task": "query"}, "does not know task"),
    ],
)
def test_what_a_pool_cannot_do_is_refused(words: dict[str, Any], message: str) -> None:
    """Nothing is left out in silence: the message says what to do instead, before any pool is asked."""
    with pytest.raises(ConfigError, match=message):
        EmbedpoolEncoder("127.0.0.1:1", timeout=0.1).encode_query("a", **words)
    with pytest.raises(ConfigError, match="type int, wanted texts"):
        EmbedpoolEncoder("127.0.0.1:1").encode_query([1])  # type: ignore[list-item]
