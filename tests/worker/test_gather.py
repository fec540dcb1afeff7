"""Outcomes of texts and of windows: one each, whatever the order."""

import random

import numpy as np
import pytest

from worker.errors import ModelError, PoisonError
from worker.scheduling.gather import Gather, WindowGather

DIM = 5


class Done:
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        """Counts one."""
        self.calls += 1


@pytest.mark.parametrize("seed", range(20))
def test_order_of_windows_does_not_matter(seed: int) -> None:
    """However the windows of a text come in, its vector is the same bit for bit, and comes once."""
    dice = random.Random(seed)
    windows = dice.randint(2, 40)
    vectors = np.random.default_rng(seed).standard_normal((windows, DIM)).astype(np.float32)
    weights = tuple(dice.randint(1, 500) for _ in range(windows))
    results = []
    for _ in range(2):
        done, pooled = Done(), Done()
        text = Gather(1, DIM, done)
        gather = WindowGather(text, 0, weights, normalize=True, on_complete=pooled)
        for place in dice.sample(range(windows), windows):
            assert done.calls == pooled.calls == 0
            gather.deliver(place, vectors[place], queue_ns=place, run_ns=10)
        assert done.calls == pooled.calls == 1
        assert (text.queue_ns, text.run_ns, text.errors) == (windows - 1, 10 * windows, {})
        results.append(text.vectors.tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_text_fails_with_its_first_window_that_failed(order: tuple[int, ...]) -> None:
    """A text of which a window failed has that error, and not before its last window has its outcome."""
    done = Done()
    text = Gather(2, DIM, done)
    gather = WindowGather(text, 1, (3, 3, 1), normalize=False, on_complete=Done())
    for place in order:
        assert not text.errors
        if place == 0:
            gather.deliver(0, np.ones(DIM, np.float32), 1, 1)
        else:
            gather.fail(place, PoisonError("it crashed") if place == 1 else ModelError("it failed"))
    assert isinstance(text.errors[1], PoisonError)
    assert str(text.errors[1]) == "window 1: it crashed"
    assert not text.vectors.any()
    assert done.calls == 0
    text.deliver(0, np.ones(DIM, np.float32), 1, 1)
    assert done.calls == 1
