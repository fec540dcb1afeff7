"""Another bundle takes over while texts are computed: each keeps the model that it was accepted for."""

import asyncio
import dataclasses
import os
import queue
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from tests.conftest import MakeModel
from worker.bundle import read_bundle, write_manifest
from worker.errors import BundleError, ModelError, ReloadRunningError, UnavailableError, WorkerError
from worker.models import Model, load_model, served_manifest
from worker.processes.dispatch import Crew, Dispatch
from worker.processes.pool import Pool
from worker.scheduling.scheduler import Priority
from worker.scheduling.work import Work
from worker.session import Session
from worker.settings.config import ServeConfig
from worker.statistics import End, Statistics
from worker.tokenizer import Tokenizer

SECONDS = 60.0
TEXTS = [f"{'word ' * (number * 7 % 60)}text number {number}" for number in range(40)]
Ids = NDArray[np.int64]


@pytest.fixture(scope="module")
def other_bundle(make_model: MakeModel, eval_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose vectors have 16 values, not 32."""
    from build_models.config import BuildConfig
    from build_models.pipeline import build
    from build_models.quality.gate import Gate
    from build_models.recipes import parse_recipes

    folder = tmp_path_factory.mktemp("other")
    model = make_model(folder / "model", seed=5, hidden_size=16)
    build(
        BuildConfig(
            model=str(model),
            out=folder / "bundle",
            recipes=parse_recipes("int8-dynamic"),
            eval_data=(eval_data,),
            gate=Gate(min_retention=0.5, min_bound=0, min_overlap=0),
        )
    )
    return folder / "bundle"


class OneRunDispatch(Dispatch):
    """Fails when a slot computes two runs at a moment, whichever models' they are."""

    def __init__(self, slots: int, statistics: Statistics) -> None:
        super().__init__(slots, statistics)
        self.computing: set[int] = set()

    def _send(self, crew: Crew, number: int) -> None:
        assert number not in self.computing
        self.computing.add(number)
        super()._send(crew, number)

    def answered(self, crew: Crew, number: int, answer: Any) -> None:
        """Notes that the slot computes nothing."""
        self.computing.remove(number)
        super().answered(crew, number, answer)

    def ended(self, crew: Crew, number: int, end: End) -> None:
        """Notes that the slot computes nothing."""
        if number in self._busy and self._busy[number][0] is crew:
            self.computing.remove(number)
        super().ended(crew, number, end)


@asynccontextmanager
async def running(bundle: Path, processes: int = 2, **settings: Any) -> AsyncIterator[Pool]:
    """Starts a pool and stops it."""
    config = ServeConfig(bundle, "unused", processes, (None,) * processes, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.processes.pool.Dispatch", OneRunDispatch)
        pool = Pool(load_model(bundle, 1, 0), config, lambda live: None, Statistics())
    try:
        await pool.start()
        yield pool
    finally:
        await pool.stop()


class Books:
    """Takes the outcomes of one batch."""

    def __init__(self, count: int) -> None:
        self.vectors: dict[int, bytes] = {}
        self.errors: dict[int, WorkerError] = {}
        self.done = asyncio.Event()
        self._count = count

    def deliver(self, row: int, vector: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
        """Notes a vector."""
        assert row not in self.vectors
        self.vectors[row] = vector.tobytes()
        self._note()

    def fail(self, row: int, error: WorkerError) -> None:
        """Notes an error."""
        assert row not in self.errors
        self.errors[row] = error
        self._note()

    def _note(self) -> None:
        if len(self.vectors) + len(self.errors) == self._count:
            self.done.set()


def texts(count: int, seed: int) -> list[Ids]:
    """Makes texts of made-up tokens, of many lengths."""
    dice = np.random.default_rng(seed)
    return [dice.integers(5, 500, dice.integers(1, 90)).astype(np.int64) for _ in range(count)]


def submit(pool: Pool, model: Model, ids: list[Ids], stream: int, priority: Priority) -> Books:
    """Submits texts for a model."""
    books = Books(len(ids))
    pool.submit(
        [
            Work(stream, priority, len(one), ids=one, model=model, sink=books, row=row)
            for row, one in enumerate(ids)
        ]
    )
    return books


def alone(bundle: Path, ids: list[Ids]) -> dict[int, bytes]:
    """Returns the vector of each text, computed in this process, one at a time."""
    session = Session(read_bundle(bundle))
    return {row: session.embed([one]).tobytes() for row, one in enumerate(ids)}


def test_each_text_keeps_its_model(tiny_bundle: Path, other_bundle: Path) -> None:
    """Streams and queries run across takeovers to and fro: every vector is its own model's, bit for bit."""
    bundles = [tiny_bundle, other_bundle]
    batches: list[tuple[Model, list[Ids], Books]] = []

    async def embed(pool: Pool, number: int, priority: Priority, size: int) -> None:
        with pool.lease() as model:
            ids = texts(size, number)
            books = submit(pool, model, ids, number, priority)
            batches.append((model, ids, books))
            await asyncio.wait_for(books.done.wait(), SECONDS)

    async def call(pool: Pool, over: asyncio.Event, stream: int, priority: Priority, size: int) -> None:
        number = 10_000 * stream
        while not over.is_set():
            number += 1
            await embed(pool, number, priority, size)

    async def scenario() -> None:
        async with running(tiny_bundle) as pool:
            over = asyncio.Event()
            callers = [asyncio.create_task(call(pool, over, 1 + n, Priority.BULK, 60)) for n in range(2)]
            callers.append(asyncio.create_task(call(pool, over, 9, Priority.QUERY, 1)))
            for generation in range(2, 5):
                result = await pool.reload(bundles[1 - generation % 2])
                assert (result.model.generation, result.changed) == (generation, True)
                assert pool.current is result.model
                await embed(pool, generation, Priority.QUERY, 3)
            over.set()
            await asyncio.gather(*callers)
            assert len({view.pid for view in pool.processes() if view.generation == 4}) == 2

    asyncio.run(scenario())
    assert {model.generation for model, _, _ in batches} == {1, 2, 3, 4}
    for model, ids, books in batches:
        assert not books.errors
        assert books.vectors == alone(model.bundle.path, ids)


def test_old_processes_end_with_the_last_lease(tiny_bundle: Path, other_bundle: Path) -> None:
    """A model that was replaced computes for who leased it, also queued work, and ends after that."""

    async def scenario() -> None:
        async with running(tiny_bundle) as pool:
            ids = texts(100, 1)
            with pool.lease() as model:
                await pool.reload(other_bundle)
                assert len(pool.processes()) == 4
                books = submit(pool, model, ids, 1, Priority.BULK)
                await asyncio.wait_for(books.done.wait(), SECONDS)
                assert books.vectors == alone(tiny_bundle, ids)
                old = [os.pidfd_open(view.pid) for view in pool.processes() if view.generation == 1]
            await asyncio.wait_for(asyncio.gather(*map(readable, old)), SECONDS)
            while len(pool.processes()) > 2:
                await asyncio.sleep(0)
            assert {view.generation for view in pool.processes()} == {2}

    asyncio.run(scenario())


async def readable(descriptor: int) -> None:
    """Returns when a pidfd tells of the end of its process."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, event.set)
    await event.wait()
    loop.remove_reader(descriptor)
    os.close(descriptor)


def nonsense(bundle: Path, folder: Path) -> Path:
    """Returns a copy whose manifest promises unit length for vectors that have not."""
    shutil.copytree(bundle, folder)
    write_manifest(folder, dataclasses.replace(read_bundle(bundle).manifest, normalize=True))
    return folder


def test_failed_reload_leaves_the_old_model(tiny_bundle: Path, trap_bundle: Path, tmp_path: Path) -> None:
    """No bundle, a damaged one, one that fails its check: an error says so, and the old one serves on."""
    damaged = shutil.copytree(tiny_bundle, tmp_path / "damaged")
    with (damaged / "model.onnx").open("ab") as file:
        file.write(b" ")

    async def scenario() -> None:
        async with running(tiny_bundle) as pool:
            with pytest.raises(BundleError, match="is no bundle"):
                await pool.reload(tmp_path)
            with pytest.raises(BundleError, match="sha256"):
                await pool.reload(damaged)
            with pytest.raises(ModelError, match="the manifest says 1"):
                await pool.reload(nonsense(trap_bundle, tmp_path / "nonsense"))
            assert pool.current.generation == 1
            assert len(pool.processes()) == 2
            ids = texts(5, 1)
            books = submit(pool, pool.current, ids, 1, Priority.QUERY)
            await asyncio.wait_for(books.done.wait(), SECONDS)
            assert books.vectors == alone(tiny_bundle, ids)

    asyncio.run(scenario())


def test_the_same_bundle_is_no_reload(tiny_bundle: Path, other_bundle: Path) -> None:
    """A folder that did not change is left alone; a second reload is refused while one is under way."""

    async def scenario() -> None:
        async with running(tiny_bundle) as pool:
            result = await pool.reload(None)
            assert (result.changed, result.model, result.previous) == (False, pool.current, pool.current)
            first = asyncio.create_task(pool.reload(other_bundle))
            await asyncio.sleep(0)
            with pytest.raises(ReloadRunningError):
                await pool.reload(other_bundle)
            assert (await first).changed
        with pytest.raises(UnavailableError):
            await pool.reload(other_bundle)

    asyncio.run(scenario())


def test_old_model_that_cannot_come_back(tiny_bundle: Path, other_bundle: Path, tmp_path: Path) -> None:
    """When its processes die and its files are another bundle's by now, its texts are told to come again."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "served")

    async def scenario() -> None:
        async with running(folder) as pool:
            with pool.lease() as model:
                for file in other_bundle.iterdir():
                    shutil.copy(file, folder)
                assert (await pool.reload(None)).changed
                old = [view.pid for view in pool.processes() if view.generation == 1]
                for pid in old:
                    os.kill(pid, signal.SIGSTOP)
                books = submit(pool, model, texts(20, 3), 1, Priority.BULK)
                for pid in [*zygotes_of(old), *old]:
                    os.kill(pid, signal.SIGKILL)
                await asyncio.wait_for(books.done.wait(), SECONDS)
                assert len(books.errors) == 20
                assert all(isinstance(error, UnavailableError) for error in books.errors.values())
                late = submit(pool, model, texts(1, 4), 2, Priority.QUERY)
                assert isinstance(late.errors[0], UnavailableError)
            ids = texts(9, 5)
            books = submit(pool, pool.current, ids, 3, Priority.BULK)
            await asyncio.wait_for(books.done.wait(), SECONDS)
            assert books.vectors == alone(other_bundle, ids)

    asyncio.run(scenario())


def zygotes_of(pids: list[int]) -> set[int]:
    """Returns the parents of processes."""
    return {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}


def test_shorter_longest_input_is_another_model(tiny_bundle: Path) -> None:
    """max_tokens cuts texts, and so has a fingerprint of its own; at the model's own length it has not."""
    manifest = read_bundle(tiny_bundle).manifest
    cut = load_model(tiny_bundle, 1, 10)
    assert cut.manifest.max_tokens == 10
    assert cut.manifest.fingerprint not in {manifest.fingerprint, served_manifest(manifest, 9).fingerprint}
    assert cut.bundle.manifest == manifest
    (tokens,) = cut.tokenizer.encode(["word " * 50])
    assert (len(tokens.ids), tokens.truncated) == (10, True)
    for same in (0, manifest.max_tokens, manifest.max_tokens + 1):
        assert served_manifest(manifest, same) == manifest


def by_text(bundle: Path) -> dict[str, bytes]:
    """Returns each text's packed vector, computed in this process, alone."""
    read = read_bundle(bundle)
    tokens = Tokenizer(read.tokenizer, read.manifest.max_tokens).encode(TEXTS)
    session = Session(read)
    return {text: session.embed([one.ids]).tobytes() for text, one in zip(TEXTS, tokens, strict=True)}


def turn(link: Path, bundle: Path) -> None:
    """Makes a link lead to a bundle, at once."""
    fresh = link.with_suffix(".new")
    fresh.symlink_to(bundle)
    fresh.replace(link)


def test_hangup_turns_a_server_over(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    other_bundle: Path,
    tmp_path: Path,
) -> None:
    """SIGHUP to and fro amid a bulk stream: each answer is, bit for bit, of the model that it names."""
    bundles = [tiny_bundle, other_bundle]
    names = [read_bundle(bundle).manifest.fingerprint for bundle in bundles]
    expected = {name: by_text(bundle) for name, bundle in zip(names, bundles, strict=True)}
    turn(tmp_path / "served", tiny_bundle)
    server = start_worker(tmp_path / "served")
    stub = stub_for(server)
    orders: queue.Queue[pb.EmbedDocumentsRequest | None] = queue.Queue()
    answers = stub.EmbedDocuments(iter(orders.get, None), timeout=SECONDS)
    sent = answered = 0

    def order() -> None:
        nonlocal sent
        texts = [TEXTS[(sent + place) % len(TEXTS)].encode() for place in range(9)]
        orders.put(pb.EmbedDocumentsRequest(batch_id=sent, texts=texts))
        sent += 1

    def check() -> str:
        nonlocal answered
        answer = next(answers)
        answered += 1
        texts = [TEXTS[(answer.batch_id + place) % len(TEXTS)] for place in range(9)]
        assert [item.code for item in answer.items] == [0] * 9
        assert answer.vectors.data == b"".join(expected[answer.model_fingerprint][text] for text in texts)
        return str(answer.model_fingerprint)

    for _ in range(30):
        order()
    for wanted in (1, 0, 1):
        turn(tmp_path / "served", bundles[wanted])
        server.process.send_signal(signal.SIGHUP)
        name = ""
        while name != names[wanted]:
            order()
            check()
            query = stub.EmbedQuery(pb.EmbedQueryRequest(texts=[TEXTS[sent % 40]]), timeout=SECONDS)
            name = query.model_fingerprint
            assert query.vectors.data == expected[name][TEXTS[sent % 40]]
    orders.put(None)
    while answered < sent:
        assert check() in names
    assert list(answers) == []
    assert stub.GetModel(pb.GetModelRequest(), timeout=SECONDS).fingerprint == names[1]
    assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()
