"""Who is a member, by names that change: the pure parts, as a machine of states and as tables."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from indexer.client.agreement import Agreement
from indexer.client.answers import Pool
from indexer.client.balance import Balancer, State
from indexer.client.cutting import check_limits
from indexer.client.hedging import Latencies
from indexer.client.membership import Membership, changes
from indexer.client.naming import Name, joined, name_of, split
from indexer.client.settings import HedgeConfig, NameConfig, RetryConfig, is_local
from indexer.client.survey import narrowest
from indexer.errors import ConfigError, ModelMismatchError, PoolError
from indexer.plan import Model

POD = st.sampled_from([f"10.0.0.{number}:1" for number in range(5)])
DRAW = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
MOST = 3
TARGETS = ["10.0.0.0:1", "dns:///x:1", "dns:///y:1"]


class Pods(RuleBasedStateMachine):
    """Names change, pools fail, calls begin and end, in any order."""

    @initialize()
    def begin(self) -> None:
        """One pool by its address, two names that nobody asked for yet."""
        self.membership = Membership(TARGETS, MOST)
        self.x, self.y = self.membership.names
        self.balancer = Balancer(list(self.membership.endpoints), RetryConfig())
        self.sent: Counter[str] = Counter()
        self.had: dict[Name, list[str]] = {self.x: [], self.y: []}
        self.now = 0.0

    @rule(first=st.booleans(), found=st.lists(POD, max_size=5))
    def resolve(self, first: bool, found: list[str]) -> None:
        """A name is looked up; an empty answer keeps what it had."""
        name = self.x if first else self.y
        told = self.membership.resolved(name, found)
        unique = list(dict.fromkeys(found))
        if unique:
            mine = [one for one, point in self.membership.endpoints.items() if point.origin == name.target]
            assert set(mine) <= set(unique)
            stayed = [one for one in self.had[name] if one in unique]
            assert set(stayed) <= set(self.membership.endpoints), "whoever is a member goes on"
            self.had[name] = mine
        assert bool(told) == (not unique or len(unique) > MOST)
        self._follow()

    def _follow(self) -> None:
        found = changes(self.balancer.members, self.membership.endpoints)
        for target in found.joins:
            self.balancer.join(target)
            assert self.balancer.standings[target].state is not State.UP, "not probed yet"
        for target in found.leaves:
            self.balancer.leave(target)
        assert set(self.balancer.members) == set(self.membership.endpoints)

    @rule(first=DRAW, second=DRAW, seconds=st.floats(0, 3, allow_subnormal=False))
    def call(self, first: float, second: float, seconds: float) -> None:
        """A call begins, on a member that is up."""
        self.now += seconds
        chosen = self.balancer.choose(self.now, first, second)
        if chosen is not None:
            assert chosen in self.membership.endpoints
            assert self.balancer.standings[chosen].state is State.UP
            self.balancer.began(chosen)
            self.sent[chosen] += 1

    @precondition(lambda self: +self.sent)
    @rule(data=st.data(), failed=st.booleans())
    def end(self, data: st.DataObject, failed: bool) -> None:
        """A call ends, on a pool that may have left long ago."""
        target = data.draw(st.sampled_from(sorted(+self.sent)))
        self.sent[target] -= 1
        if failed:
            self.balancer.aside(target, self.now, 0.0, 0.5)
        else:
            self.balancer.answered(target)
        self.balancer.ended(target)

    @rule()
    def probe(self) -> None:
        """Probes begin, of members only."""
        assert set(self.balancer.to_probe(self.now)) <= set(self.membership.endpoints)

    @rule(pod=POD, serves=st.booleans())
    def probed(self, pod: str, serves: bool) -> None:
        """A probe ends, maybe of a pool that left or was forgotten meanwhile."""
        before = self.balancer.standings.get(pod)
        state = before.state if before is not None else None
        if serves:
            self.balancer.up(pod)
        elif state is State.PROBING:
            self.balancer.aside(pod, self.now, 0.0, 0.5)
        if before is not None and state in (State.LEFT, State.NEW, State.ASIDE):
            assert before.state is state

    @invariant()
    def calls_are_counted_until_they_end(self) -> None:
        """Whoever has a call is known with it; whoever left and has none is forgotten."""
        if not hasattr(self, "balancer"):
            return
        standings = self.balancer.standings
        assert {one: standing.in_flight for one, standing in standings.items() if standing.in_flight} == dict(
            +self.sent
        )
        assert set(standings) == set(self.membership.endpoints) | set(+self.sent)

    @invariant()
    def the_address_alone_stays(self) -> None:
        """What the caller named by its address is a member whatever names say."""
        if hasattr(self, "membership"):
            assert self.membership.endpoints["10.0.0.0:1"].host == ""
            assert len(self.membership.endpoints) <= 1 + 2 * MOST


TestPods = Pods.TestCase


@given(st.lists(POD, unique=True), st.lists(POD, unique=True))
def test_changes_part_two_sets(standing: list[str], wanted: list[str]) -> None:
    """Joins, leaves and keeps are apart, and make one of the other."""
    found = changes(standing, wanted)
    assert set(standing) - set(found.leaves) | set(found.joins) == set(wanted)
    assert set(found.keeps) == set(standing) & set(wanted)
    assert list(found.joins + found.keeps) == sorted(
        found.joins + found.keeps, key=lambda one: (one in standing, wanted.index(one))
    )


def test_members_of_a_name_with_many_addresses_stay() -> None:
    """Beyond the bound whoever is a member goes on, in whatever order the resolver tells them."""
    membership = Membership(["dns:///x:1"], MOST)
    (name,) = membership.names
    pods = [f"10.0.0.{number}:1" for number in range(9)]
    assert membership.resolved(name, pods) == "it has 9 addresses, 3 of them are used"
    before = set(membership.endpoints)
    membership.resolved(name, pods[::-1])
    assert set(membership.endpoints) == before
    assert membership.resolved(name, []) == "it has no address; its 3 pools are kept"
    assert set(membership.endpoints) == before


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("dns:///embedpool:50051", "embedpool", 50051),
        ("dns:embedpool.prod.svc:1", "embedpool.prod.svc", 1),
        ("dns:///[::1]:7", "::1", 7),
        ("dns:127.0.0.1:65535", "127.0.0.1", 65535),
    ],
)
def test_names_are_read(target: str, host: str, port: int) -> None:
    """The words of gRPC for a name and its port; everything else is an address, dialled as it is."""
    assert name_of(target) == Name(target, host, port)
    for address in ("127.0.0.1:1", "[::1]:1", "unix:/a", "host:1", "ipv4:10.0.0.1:1"):
        assert name_of(address) is None
    assert joined("::1", 7) == "[::1]:7"
    assert split(f" {target},a:1 ,,{target}") == [target, "a:1"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("dns://embedpool:50051", "write dns:///embedpool:50051, with three slashes"),
        ("dns://8.8.8.8/embedpool:1", "'8.8.8.8' where a DNS server would stand"),
        ("dns:///embedpool", "no name and port"),
        ("dns:///:50051", "no name and port"),
        ("dns:///x:0", "no name and port"),
        ("dns:///x:http", "no name and port"),
        ("dns:///::1:50051", r"write an IPv6 address as dns:///\[::1\]:PORT"),
    ],
)
def test_a_name_that_is_none_is_told(target: str, words: str) -> None:
    """A slip in a target is an error at once that shows how it is written."""
    with pytest.raises(ConfigError, match=words):
        split(["127.0.0.1:1", target])


def test_a_name_is_on_this_machine_only_as_localhost() -> None:
    """A token without TLS goes to localhost and to no other name."""
    assert is_local("dns:///localhost:1")
    assert is_local("dns:127.0.0.1:1")
    assert is_local("dns:///[::1]:1")
    assert not is_local("dns:///localhost.example.org:1")
    with pytest.raises(ConfigError, match="wanted all above 0"):
        NameConfig(refresh_seconds=0)
    with pytest.raises(ConfigError, match="wanted all above 0"):
        NameConfig(most_addresses=0)
    with pytest.raises(ConfigError, match="hedging has"):
        HedgeConfig(least_delay=2.0)


@given(
    st.lists(st.floats(0.001, 10, allow_subnormal=False), min_size=20, max_size=300), st.integers(1, 10**6)
)
def test_a_query_is_late_after_twice_what_most_take(seconds: list[float], size: int) -> None:
    """The delay is twice the 95th percentile of the last hundred of that size; another size knows nothing."""
    config = HedgeConfig()
    latencies = Latencies(config)
    for one in seconds:
        latencies.note(size, one)
    last = sorted(seconds[-100:])
    assert latencies.delay(size) == max(config.least_delay, 2 * last[int(0.95 * len(last))])
    assert sum(2 * one > latencies.delay(size) for one in last) <= 0.05 * len(last)
    assert latencies.delay(size * 100) == config.first_delay


def test_two_models_never_agree() -> None:
    """The first pool's model is that of all, unless the caller names one or allows several."""
    agreement = Agreement("", mixed=False)
    agreement.check("a:1", "f" * 64)
    agreement.check("b:1", "f" * 64)
    with pytest.raises(ModelMismatchError, match="worker b:1 serves model 000000000000, worker a:1 serves"):
        agreement.check("b:1", "0" * 64)
    with pytest.raises(ModelMismatchError, match="the caller wants model ffffffffffff"):
        Agreement("f" * 64, mixed=False).check("b:1", "0" * 64)
    Agreement("f" * 64, mixed=True).check("b:1", "0" * 64)


def test_a_late_joiner_takes_what_the_others_take() -> None:
    """Batches are cut for the narrowest of all pools; one that takes less is refused with the limit."""
    model = Model("f" * 64, "two", 2, normalized=False)
    wide, narrow = Pool(model, 1, max_batch_items=64, max_windows=8), Pool(model, 4, max_batch_items=32)
    both = narrowest([wide, narrow])
    assert (both.max_batch_items, both.max_windows) == (32, 8)
    check_limits("a:1", wide, 64, 1000, 1000)
    with pytest.raises(PoolError, match=r"worker a:1 takes at most 32 texts in a batch, .* up to 64"):
        check_limits("a:1", narrow, 64, 1000, 1000)
