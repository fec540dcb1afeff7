"""Long texts in windows: the vectors of a real server against windows embedded and pooled by hand."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tokenizers import Tokenizer as RustTokenizer

from embedpool.v1 import embedding_service_pb2 as pb
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

SECONDS = 60.0
MAX_WINDOWS = 6

SHORT = "a red house"
LONG = "the list of names that a function returns when nothing is asked for " * 12
ENDLESS = "the parts of a message are read one after the other " * 2000
TEXTS = [SHORT, LONG, ENDLESS, LONG + " and one more"]


@pytest.fixture(scope="module")
def server(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server that makes few windows of a text."""
    return start_shared_worker(tiny_bundle, "--max-windows", str(MAX_WINDOWS))


@pytest.fixture
def stub(server: Any, stub_for: Callable[..., Any]) -> Any:
    """A client of it."""
    return stub_for(server)


def options(
    window: int = 0, overlap: int = 0, *, separate: bool = False, **values: Any
) -> pb.EmbeddingOptions:
    """Makes options with chunking."""
    chunking = pb.Chunking(window_tokens=window, overlap_tokens=overlap, separate=separate)
    return pb.EmbeddingOptions(chunking=chunking, **values)


def windows_of(bundle: Path, text: str, window: int, overlap: int) -> list[list[int]]:
    """Returns the windows that the library's own truncation with a stride makes."""
    tokenizer = RustTokenizer.from_file(str(read_bundle(bundle).tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(window, stride=overlap)
    encoding = tokenizer.encode(text)
    return [encoding.ids, *(rest.ids for rest in encoding.overflowing)]


def by_hand(session: Session, windows: list[list[int]]) -> list[float]:
    """Returns the mean of the windows' vectors, weighted by their tokens without the two special ones."""
    vectors = [session.embed([np.array(ids)])[0].tolist() for ids in windows]
    weights = [len(ids) - 2 for ids in windows]
    mean = [
        math.fsum(weight * vector[column] for weight, vector in zip(weights, vectors, strict=True))
        for column in range(len(vectors[0]))
    ]
    length = math.hypot(*mean)
    return [value / length for value in mean]


@pytest.mark.parametrize(("window", "overlap"), [(0, 0), (32, 0), (32, 8), (17, 7), (3, 0)])
def test_vector_of_a_long_text_is_the_mean_of_its_windows(
    stub: Any, tiny_bundle: Path, window: int, overlap: int
) -> None:
    """Vectors, counts, cuts and numbers of windows are those of windows made and pooled by hand."""
    session = Session(read_bundle(tiny_bundle))
    response = stub.EmbedQuery(
        pb.EmbedQueryRequest(texts=TEXTS, options=options(window, overlap)), timeout=SECONDS
    )
    vectors = np.frombuffer(response.vectors.data, "<f4").reshape(len(TEXTS), -1)
    for row, text in enumerate(TEXTS):
        every = windows_of(tiny_bundle, text, window or 128, overlap)
        made = every[:MAX_WINDOWS]
        assert response.windows[row] == len(made)
        assert response.truncated[row] == (len(every) > MAX_WINDOWS)
        content = sum(len(ids) - 2 for ids in made) - overlap * (len(made) - 1)
        assert response.token_counts[row] == content + 2
        np.testing.assert_allclose(vectors[row], by_hand(session, made), atol=2e-6)
    assert response.truncated[2]
    assert response.timing.run_ns > 0


def test_text_that_fits_keeps_its_vector(stub: Any, tiny_bundle: Path) -> None:
    """What fits into one window has the bits that it has without windows, for queries and for documents."""
    texts = [SHORT, "rain", "word " * 100]
    plain = stub.EmbedQuery(pb.EmbedQueryRequest(texts=texts), timeout=SECONDS)
    cut = stub.EmbedQuery(pb.EmbedQueryRequest(texts=texts, options=options(0, 20)), timeout=SECONDS)
    batch = pb.EmbedDocumentsRequest(texts=[text.encode() for text in texts], options=options(0, 20))
    (documents,) = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
    assert plain.vectors.data == cut.vectors.data == documents.vectors.data
    assert list(plain.windows) == list(cut.windows) == [item.windows for item in documents.items] == [1, 1, 1]
    bundle = read_bundle(tiny_bundle)
    ids = [one.ids for one in Tokenizer(bundle.tokenizer, 128).encode(texts)]
    assert plain.vectors.data == Session(bundle).embed(ids).astype("<f4").tobytes()


def test_documents_and_queries_agree(stub: Any) -> None:
    """A document in windows has the vector that it has as a query, bit for bit, among refused neighbours."""
    asked = options(24, 6)
    query = stub.EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS, options=asked), timeout=SECONDS)
    texts = [b"", *(text.encode() for text in TEXTS), b"\xff"]
    (answer,) = stub.EmbedDocuments(
        iter([pb.EmbedDocumentsRequest(texts=texts, options=asked)]), timeout=SECONDS
    )
    assert answer.vectors.data == query.vectors.data
    assert [item.windows for item in answer.items] == [0, *query.windows, 0]
    assert [item.token_count for item in answer.items] == [0, *query.token_counts, 0]
    assert [item.truncated for item in answer.items] == [False, *query.truncated, False]


def test_windows_keep_their_vectors_when_cut_and_packed(stub: Any) -> None:
    """Dimensions and types are taken from the pooled vector."""
    full = stub.EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS, options=options(32, 8)), timeout=SECONDS)
    vectors = np.frombuffer(full.vectors.data, "<f4").reshape(len(TEXTS), -1)[:, :8]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = options(32, 8, dimensions=8, vector_type=pb.VECTOR_TYPE_INT8)
    packed = stub.EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS, options=asked), timeout=SECONDS).vectors
    scales = np.frombuffer(packed.scales, "<f4")[:, None]
    values = np.frombuffer(packed.data, np.int8).reshape(expected.shape) * scales
    np.testing.assert_allclose(values, expected, atol=scales.max() * 0.51)


def test_windows_may_keep_vectors_of_their_own(stub: Any, tiny_bundle: Path) -> None:
    """Each window has the vector of its ids run by itself, bit for bit, and tells where it lies."""
    session = Session(read_bundle(tiny_bundle))
    texts = [b"", *(text.encode() for text in TEXTS), b"\xff"]
    asked = options(24, 6, separate=True)
    (answer,) = stub.EmbedDocuments(
        iter([pb.EmbedDocumentsRequest(texts=texts, options=asked)]), timeout=SECONDS
    )
    (mean,) = stub.EmbedDocuments(
        iter([pb.EmbedDocumentsRequest(texts=texts, options=options(24, 6))]), timeout=SECONDS
    )
    made = [windows_of(tiny_bundle, text, 24, 6)[:MAX_WINDOWS] for text in TEXTS]
    every = [np.array(ids) for windows in made for ids in windows]
    assert answer.vectors.data == b"".join(session.embed([ids]).astype("<f4").tobytes() for ids in every)
    assert (answer.vectors.rows, answer.vectors.dim) == (len(every), 32)
    assert [item.windows for item in answer.items] == [0, *map(len, made), 0]
    for item, windows, pooled in zip(answer.items[1:-1], made, mean.items[1:-1], strict=True):
        assert list(item.window_token_counts) == [len(ids) for ids in windows]
        assert len(item.window_starts) == len(item.window_stops) == len(windows)
        assert (item.token_count, item.truncated) == (pooled.token_count, pooled.truncated)
        assert not pooled.window_starts
    first, second = answer.items[2].window_starts[1], answer.items[2].window_stops[0]
    assert LONG[first:second].split() == LONG[:second].split()[-6:]
    for item in (answer.items[0], answer.items[-1]):
        assert item.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert not item.window_starts


def test_a_text_of_one_window_keeps_its_vector_when_windows_are_separate(stub: Any) -> None:
    """What fits has the bits that it has without windows, cut and packed as asked for."""
    texts = [SHORT.encode(), b"rain", "wörd ".encode() * 100]
    values: dict[str, Any] = {"dimensions": 8, "vector_type": pb.VECTOR_TYPE_FLOAT16}
    plain = pb.EmbedDocumentsRequest(texts=texts, options=pb.EmbeddingOptions(**values))
    separate = pb.EmbedDocumentsRequest(texts=texts, options=options(0, 20, separate=True, **values))
    (whole,) = stub.EmbedDocuments(iter([plain]), timeout=SECONDS)
    (cut,) = stub.EmbedDocuments(iter([separate]), timeout=SECONDS)
    assert whole.vectors.data == cut.vectors.data
    for text, item in zip(texts, cut.items, strict=True):
        assert (item.windows, list(item.window_starts)) == (1, [0])
        assert list(item.window_stops) == [len(text.decode().rstrip())]
        assert list(item.window_token_counts) == [item.token_count]


def test_a_query_has_one_vector(stub: Any) -> None:
    """Windows that stay apart are for documents; a query that asks for them is told so."""
    asked = options(24, separate=True)
    with pytest.raises(grpc.RpcError, match=r"chunking\.separate is for EmbedDocuments") as caught:
        stub.EmbedQuery(pb.EmbedQueryRequest(texts=["a"], options=asked), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_reject_refuses_what_no_window_holds(stub: Any) -> None:
    """A caller that wants no cut gets a reason for the text that its windows do not hold."""
    asked = options(64, 0, truncation=pb.TRUNCATION_REJECT)
    with pytest.raises(
        grpc.RpcError, match=r"texts\[1\]: .* does not fit into 6 windows of 64 tokens"
    ) as caught:
        stub.EmbedQuery(pb.EmbedQueryRequest(texts=[LONG, ENDLESS], options=asked), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    batch = pb.EmbedDocumentsRequest(texts=[LONG.encode(), ENDLESS.encode()], options=asked)
    (answer,) = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
    assert [item.code for item in answer.items] == [0, grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    assert answer.vectors.rows == 1


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        (129, 0, "options.chunking.window_tokens is 129, the model reads at most 128"),
        (2, 0, "options.chunking.window_tokens is 2, the least is 3"),
        (20, 10, "options.chunking.overlap_tokens is 10, it must be less than half"),
        (2**32 - 1, 2**32 - 1, "options.chunking.window_tokens is 4294967295"),
    ],
)
def test_bad_chunking(stub: Any, window: int, overlap: int, message: str) -> None:
    """Options that cannot be are INVALID_ARGUMENT and name the field, for queries and for streams."""
    asked = options(window, overlap)
    calls: list[Callable[[], object]] = [
        lambda: stub.EmbedQuery(pb.EmbedQueryRequest(texts=["a"], options=asked), timeout=SECONDS),
        lambda: list(
            stub.EmbedDocuments(
                iter([pb.EmbedDocumentsRequest(texts=[b"a"], options=asked)]), timeout=SECONDS
            )
        ),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError, match=message) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_limit_is_told(stub: Any) -> None:
    """GetModel tells how many windows a text may have, and the number of the model."""
    model = stub.GetModel(pb.GetModelRequest(), timeout=SECONDS)
    assert (model.limits.max_windows, model.generation) == (MAX_WINDOWS, 1)


@pytest.mark.parametrize(("separate", "most"), [(False, 8 << 20), (True, 24 << 20)])
def test_windows_count_towards_the_stream_s_bytes(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    separate: bool,
    most: int,
) -> None:
    """Texts that become a hundred times their bytes in windows stay within bounded memory."""
    server = start_worker(
        tiny_bundle, "--max-batch-bytes", "1048576", "--max-stream-bytes-in-flight", "2097152"
    )

    def resident() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    stub = stub_for(server)
    stub.EmbedQuery(pb.EmbedQueryRequest(texts=[LONG], options=options(3)), timeout=SECONDS)
    before = resident()
    # Each batch makes 16,384 windows of one new token, which would hold some 10 MB if all were here.
    text = b"a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3

    def batches() -> Iterator[pb.EmbedDocumentsRequest]:
        for number in range(2):
            asked = options(3, separate=separate)
            yield pb.EmbedDocumentsRequest(batch_id=number, texts=[text] * 256, options=asked)

    for answer in stub.EmbedDocuments(batches(), timeout=2 * SECONDS):
        assert {(item.code, item.windows, item.truncated) for item in answer.items} == {(0, 64, True)}
        size = 128 * (64 if separate else 1)
        assert len({answer.vectors.data[row * size : row * size + size] for row in range(256)}) == 1
    assert resident() - before < most
