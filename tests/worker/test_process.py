"""What a compute process answers, with a model that can be told to fail."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.errors import ModelError
from worker.processes.process import compute

GUILTY, INFINITE = 13, 14


class Model:
    """Gives each text its first id, twice; fails on runs with a guilty one."""

    def embed(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Returns float32 `[texts, 2]`."""
        if any(GUILTY in ids for ids in texts):
            raise ModelError("no")
        values = [[np.inf if INFINITE in ids else ids[0]] * 2 for ids in texts]
        return np.array(values, dtype=np.float32)


def run(*texts: list[int]) -> tuple[list[list[float]], dict[int, str]]:
    """Computes a run; returns vectors and messages."""
    answer = compute(Model(), [np.array(text, dtype=np.int64) for text in texts], dim=2)
    return answer.vectors.tolist(), {row: failure.message for row, failure in answer.failures.items()}


def test_run_without_failure() -> None:
    """Each text has its row."""
    assert run([1, 2], [3]) == ([[1, 1], [3, 3]], {})


def test_guilty_texts_fail_alone() -> None:
    """When a run fails, only the texts that fail by themselves are failures."""
    assert run([1], [GUILTY, 5], [2]) == ([[1, 1], [0, 0], [2, 2]], {1: "no"})
    assert run([GUILTY]) == ([[0, 0]], {0: "no"})


def test_values_that_are_not_finite_are_a_failure() -> None:
    """Infinity never leaves the process as a vector."""
    vectors, failures = run([1], [INFINITE], [2])
    assert vectors == [[1, 1], [0, 0], [2, 2]]
    assert "not finite" in failures[1]
