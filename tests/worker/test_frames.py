"""Frames survive every way of arriving."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from worker.processes.frames import (
    Answer,
    Failure,
    FrameReader,
    Kind,
    frame,
    pack_answer,
    pack_json,
    pack_run,
    unpack_answer,
    unpack_json,
    unpack_run,
)

texts = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40), min_size=1, max_size=9)


@given(texts)
def test_runs_come_out_as_they_went_in(ids: list[list[int]]) -> None:
    """Texts keep order, lengths and ids."""
    run = unpack_run(pack_run([np.array(text, dtype=np.int64) for text in ids]))
    assert [text.tolist() for text in run] == ids
    assert all(text.dtype == np.int64 for text in run)


@given(st.integers(1, 5), st.integers(1, 9), st.booleans(), st.integers(0, 2**63))
def test_answers_come_out_as_they_went_in(rows: int, dim: int, failed: bool, run_ns: int) -> None:
    """Vectors are bit-identical; a failure keeps its type, its text and what was being done."""
    vectors = np.random.default_rng(rows).standard_normal((rows, dim)).astype(np.float32)
    failures = {rows - 1: Failure("ModelError", "no – é", "embedding a text")} if failed else {}
    answer = unpack_answer(pack_answer(Answer(vectors, failures, run_ns)))
    assert answer.vectors.tobytes() == vectors.tobytes()
    assert (answer.failures, answer.run_ns) == (failures, run_ns)


@given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=50)), max_size=6), st.integers(1, 30))
def test_frames_are_found_however_the_bytes_arrive(frames: list[tuple[Kind, bytes]], piece: int) -> None:
    """Cut into pieces of any size, the same frames come out in the same order."""
    data = b"".join(frame(kind, body) for kind, body in frames)
    reader = FrameReader()
    found = [one for start in range(0, len(data), piece) for one in reader.feed(data[start : start + piece])]
    assert found == frames


def test_json_bodies() -> None:
    """What a process says of itself comes out as it went in."""
    assert unpack_json(pack_json({"fingerprint": "ab", "dim": 3})) == {"fingerprint": "ab", "dim": 3}
