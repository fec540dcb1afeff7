"""Who gets the next call, how long to wait and how often to try: the pure parts of the client."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.client.answers import NO_LIMIT
from indexer.client.balance import Balancer, State
from indexer.client.cutting import CutRule, Cutter
from indexer.client.retry import RetryBudget, full_jitter
from indexer.client.settings import Access, Chunking, Options, RetryConfig, TlsConfig
from indexer.client.status import CALL, STREAM, Meaning, Status, meaning
from indexer.errors import ConfigError

RETRY = RetryConfig()
TARGETS = ["a", "b", "c"]
DRAW = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
STEP = st.tuples(
    st.sampled_from(["choose", "end", "fail", "busy", "probe", "up", "down"]),
    st.sampled_from(TARGETS),
    DRAW,
    st.floats(0, 3, allow_subnormal=False),
)


@given(st.lists(STEP, max_size=80))
def test_whatever_happens_only_pools_that_are_up_get_calls(
    steps: list[tuple[str, str, float, float]],
) -> None:
    """After any history: calls go to pools that are up and due; one that is set aside is probed in time."""
    balancer, now = Balancer(TARGETS, RETRY), 0.0
    sent: Counter[str] = Counter()
    for act, target, draw, seconds in steps:
        now += seconds
        one = balancer.standings[target]
        if act == "choose" and (chosen := balancer.choose(now, draw, 1 - draw if draw else 0.5)):
            assert balancer.standings[chosen].state is State.UP
            assert balancer.standings[chosen].due <= now
            balancer.began(chosen)
            sent[chosen] += 1
        elif act == "end" and sent[target]:
            balancer.ended(target)
            sent[target] -= 1
        elif act == "fail" and one.state is State.UP:
            balancer.aside(target, now, 0.0, draw)
            assert one.due <= now + RETRY.last_delay
        elif act == "busy":
            balancer.busy(target, now, seconds)
        elif act == "probe":
            for asked in balancer.to_probe(now):
                assert balancer.standings[asked].due <= now
        elif one.state is State.PROBING:
            if act == "up":
                balancer.up(target)
            elif act == "down":
                balancer.aside(target, now, 0.0, draw)
    assert {target: one.in_flight for target, one in balancer.standings.items()} == {
        target: sent[target] for target in TARGETS
    }
    # Nobody is forgotten: much later each pool is up, is being asked, or is asked now.
    last = set(balancer.to_probe(now + RETRY.last_delay))
    assert all(one.state is State.UP or one.state is State.PROBING for one in balancer.standings.values())
    assert last <= set(TARGETS)


@given(DRAW, DRAW, st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_the_less_busy_of_two_is_taken(first: float, second: float, loads: list[int]) -> None:
    """Never the busiest alone: of any two that are drawn the one with fewer calls gets the next."""
    balancer = Balancer(TARGETS, RETRY)
    balancer.to_probe(0)
    for target, load in zip(TARGETS, loads, strict=True):
        balancer.up(target)
        for _ in range(load):
            balancer.began(target)
    chosen = balancer.choose(0, first, second)
    assert chosen is not None
    assert balancer.standings[chosen].in_flight < max(loads) or loads.count(max(loads)) > 1
    other = balancer.choose(0, first, second, avoid=[chosen])
    assert other not in (None, chosen)
    assert balancer.choose(0, first, second, avoid=TARGETS) == chosen


@given(st.integers(1, 10**6), DRAW)
def test_delays_stay_below_their_bound(failures: int, draw: float) -> None:
    """A wait is anything up to a bound that doubles and then stands."""
    bound = min(RETRY.last_delay, RETRY.first_delay * 2.0 ** min(failures - 1, 60))
    assert 0 <= full_jitter(RETRY, failures, draw) <= bound


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1, allow_subnormal=False)), max_size=300))
def test_retries_are_a_share_of_the_calls(events: list[tuple[bool, float]]) -> None:
    """However many calls fail, retries stay below reserve + share of the calls + what time allows."""
    budget, now, calls, retries = RetryBudget(RETRY, 0.0), 0.0, 0, 0
    for is_call, seconds in events:
        now += seconds
        if is_call:
            budget.earn(now)
            calls += 1
        else:
            retries += budget.take(now)
    assert retries <= RETRY.budget_reserve + calls * RETRY.budget_ratio + now * RETRY.budget_per_second + 1e-6


def test_the_table_retries_what_waiting_may_mend() -> None:
    """A wrong request and a poisonous text are never sent again; gRPC's own limit is no overload."""
    assert CALL[Status.RESOURCE_EXHAUSTED] is Meaning.BUSY
    for final in (Status.INVALID_ARGUMENT, Status.UNAUTHENTICATED, Status.INTERNAL, Status.PERMISSION_DENIED):
        assert final not in CALL
    assert STREAM[Status.INTERNAL] is Meaning.AWAY
    too_large = "SERVER: Received message larger than max (9 vs. 4)"
    assert meaning(Status.RESOURCE_EXHAUSTED, too_large, CALL) is None
    assert meaning(Status.RESOURCE_EXHAUSTED, "queries wait", CALL) is Meaning.BUSY


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=20), st.just("\ud800")), max_size=60),
    st.integers(1, 8),
    st.integers(1, 60),
    st.integers(1, 30),
)
def test_each_text_is_in_one_batch(texts: list[str | bytes], items: int, size: int, largest: int) -> None:
    """Batches hold all texts once and in order, within their limits; a text no pool takes is named."""
    cutter = Cutter(CutRule(items, size, largest, 10))
    batches = [batch for text in texts if (batch := cutter.add(text)) is not None]
    batches += [batch for batch in [cutter.rest()] if batch is not None]
    assert [batch.number for batch in batches] == list(range(len(batches)))
    seen: list[bytes | None] = []
    for batch in batches:
        assert batch.first == len(seen)
        assert 1 <= batch.count <= items
        assert len(batch.texts) == 1 or sum(map(len, batch.texts)) <= size
        assert batch.bytes == sum(map(len, batch.texts)) + 10 * batch.count
        row = dict(zip(batch.places, batch.texts, strict=True))
        assert not row.keys() & dict(batch.refused).keys()
        seen += [row.get(place) for place in range(batch.count)]
    for text, found in zip(texts, seen, strict=True):
        raw = text if isinstance(text, bytes) else text.encode(errors="replace")
        assert found == (None if text == "\ud800" or len(raw) > largest else raw)


def test_a_text_that_is_none_is_a_mistake_of_the_caller() -> None:
    """Another type than text is a TypeError that names its place."""
    cutter = Cutter(CutRule(8, 100, 100, 10))
    cutter.add("fine")
    with pytest.raises(TypeError, match="text 1 is a int"):
        cutter.add(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("unix:/a", True),
        ("[::1]:1", True),
        ("10.0.0.1:1", False),
    ],
)
def test_a_token_does_not_travel_in_the_open(target: str, local: bool) -> None:
    """Without TLS a token stays on this machine, unless the caller says otherwise."""
    Access(TlsConfig(), "secret").check(target)
    Access(None, "secret", plaintext_token=True).check(target)
    Access().check(target)
    if local:
        Access(None, "secret").check(target)
    else:
        with pytest.raises(ConfigError, match="unencrypted"):
            Access(None, "secret").check(target)


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """Half a certificate, negative numbers, an empty token file: told at once, and no token is ever shown."""
    for wrong in (
        lambda: TlsConfig(cert=Path("a")),
        lambda: Options(dimensions=-1),
        lambda: Chunking(overlap_tokens=-1),
        lambda: RetryConfig(first_delay=9, last_delay=1),
        lambda: RetryConfig(budget_ratio=-1),
    ):
        with pytest.raises(ConfigError):
            wrong()
    empty = tmp_path / "token"
    for words in ("", "\n", "two words", "one\ntwo", "t\u00f6ken"):
        empty.write_text(words)
        with pytest.raises(ConfigError, match="holds no token"):
            Access(None, empty).read_token()
    empty.write_text("secret\n")
    assert Access(None, empty).read_token() == "secret"
    with pytest.raises(ConfigError, match="cannot read the token file"):
        Access(None, tmp_path / "none").read_token()
    assert "secret" not in repr(Access(None, "secret"))
    assert NO_LIMIT > 2**60


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("unix:/run/pool.sock", True),
        ("127.example.org:50051", False),
        ("ipv4:127.0.0.1:50051,10.0.0.7:50051", False),
        ("dns:///localhost.example.org:50051", False),
        ("10.0.0.7:50051", False),
    ],
)
def test_a_token_leaves_this_machine_encrypted_only(target: str, local: bool) -> None:
    """Only addresses of this machine get a token without TLS; a name that looks like one is none."""
    access = Access(token="a" * 32)
    if local:
        access.check(target)
    else:
        with pytest.raises(ConfigError, match="unencrypted"):
            access.check(target)
