"""What open units may hold: the arithmetic, and who waits."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.config import FlowConfig, PlanConfig, VectorType
from indexer.embedding.memory import check_growth, check_unit_memory, open_limit
from indexer.embedding.room import Room
from indexer.embedding.unit import open_bytes
from indexer.errors import ConfigError

MIB = 1 << 20


def test_a_unit_that_cannot_fit_is_refused_with_two_ways_out() -> None:
    """The message says what a unit takes, what it may, and which of two settings to change to what."""
    flow = FlowConfig()
    with pytest.raises(
        ConfigError, match=r"1,000,000 rows takes 1,708 MiB .*--unit-rows \d+ or.*--mib-units"
    ):
        check_unit_memory(flow, PlanConfig(unit_rows=10**6), rows=10**6, dim=384)
    check_unit_memory(flow, PlanConfig(unit_rows=10**6), rows=20_000, dim=384)
    check_unit_memory(flow, PlanConfig(), rows=10**9, dim=4096)


@given(st.integers(1, 10**7), st.integers(1, 8192), st.sampled_from(list(VectorType)), st.integers(1, 4096))
def test_what_the_message_advises_works(rows: int, dim: int, kind: VectorType, mib: int) -> None:
    """The rows and the memory that are advised are accepted."""
    flow, config = FlowConfig(unit_memory_bytes=mib * MIB), PlanConfig(unit_rows=rows, vector_type=kind)
    try:
        check_unit_memory(flow, config, rows, dim)
    except ConfigError as error:
        words = str(error).split()
        advised, memory = words[words.index("--unit-rows") + 1], words[words.index("--mib-units") + 1]
        if int(advised):
            check_unit_memory(flow, PlanConfig(unit_rows=int(advised), vector_type=kind), rows, dim)
        check_unit_memory(FlowConfig(unit_memory_bytes=int(memory) * MIB), config, rows, dim)
    else:
        assert open_bytes(rows, dim, kind) <= flow.unit_memory_bytes // 4 <= open_limit(flow)


def test_a_unit_that_grows_too_large_is_told() -> None:
    """Chunks may make a unit larger than planned: the error says that a larger budget goes on from here."""
    flow = FlowConfig(unit_memory_bytes=40 * MIB)
    check_growth(flow, 3, 10 * MIB)
    with pytest.raises(ConfigError, match=r"unit 3 takes 11 MiB .*run again with a larger --mib-units"):
        check_growth(flow, 3, 11 * MIB)


def test_room_lets_one_in_always_and_others_while_they_fit() -> None:
    """A unit larger than the room enters alone; one that grew keeps others out, and never itself."""

    async def main() -> None:
        room = Room(units=3, limit=100)
        await room.open(0, 1000)
        waiting = asyncio.create_task(room.open(1, 10))
        await asyncio.wait({waiting}, timeout=0.05)
        assert not waiting.done()
        await room.ease()
        await room.close(0)
        await waiting
        await room.open(2, 80)
        room.hold(1, 30)
        easing = asyncio.create_task(room.ease())
        await asyncio.wait({easing}, timeout=0.05)
        assert not easing.done()
        await room.close(2)
        await easing
        for number in (3, 4):
            await room.open(number, 1)
        fourth = asyncio.create_task(room.open(5, 1))
        await asyncio.wait({fourth}, timeout=0.05)
        assert not fourth.done()
        fourth.cancel()

    asyncio.run(asyncio.wait_for(main(), 10))
