"""`python -m tests.soak --minutes 10`: all kinds of load at a real server, then: errors, vectors, memory.

Exit code 1 when an outcome was unexpected, a vector differs from the oracle's, or memory or open descriptors
grow. Everything is on this machine and ends with the time given.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import click

from tests.bench.systems import Pool
from tests.integration.conftest import write_trap_bundle
from tests.soak.load import CLIENTS, Soak, Tally
from tests.soak.oracle import make_oracle
from tests.soak.slope import Slope, slope_of
from tests.soak.watch import Watch

_WARM_UP = 0.3  # of the time: arenas and caches reach their size
_MIB = 1 << 20
_END_SECONDS = 60.0  # in which every client must have ended
# What may be: a leak of 64 MiB an hour ends a server of some GiB within a day or two. Growth smaller than
# a few arenas of malloc (8 MiB), or a few descriptors, is not yet told from chance in a short run.
_LIMITS = {"RSS": (64 * _MIB, 8 * _MIB), "PSS": (64 * _MIB, 8 * _MIB), "descriptors": (60, 8)}


def main() -> int:
    """Runs the soak and prints its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--bundle", type=Path, help="bundle to serve (default: a tiny one)")
    parser.add_argument("--kills-per-minute", type=float, default=0.0, help="SIGKILLs to compute processes")
    parser.add_argument("--processes", default="2", help="compute processes (default: 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embedpool-soak-") as folder:
        bundle = options.bundle or write_trap_bundle(Path(folder))
        return _soak(bundle, options.minutes, options.kills_per_minute, options.processes)


def _soak(bundle: Path, minutes: float, kills_per_minute: float, processes: str) -> int:
    oracle, tally, stop = make_oracle(bundle), Tally(), threading.Event()
    pool = Pool(bundle, "--processes", processes)
    try:
        watch = Watch(pool.process.pid, pool.address, kills_per_minute)
        soak = Soak(pool.address, oracle, tally, stop)
        threads = [threading.Thread(target=watch.run, args=(stop,), daemon=True)]
        threads += [threading.Thread(target=_guarded, args=(one, soak), daemon=True) for one in CLIENTS]
        for thread in threads:
            thread.start()
        _wait(pool, minutes, tally)
        stop.set()
        deadline = time.monotonic() + _END_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hung = [thread.name for thread in threads if thread.is_alive()]
        ended = pool.process.poll()
    finally:
        pool.close()
    failures = [f"{len(hung)} clients did not end"] if hung else []
    failures += [f"the server ended by itself, exit code {ended}"] if ended is not None else []
    failures += _report_outcomes(tally, watch.kills)
    failures += _report_growth(watch, minutes, with_slots=not kills_per_minute)
    click.echo("\n".join(f"FAIL {failure}" for failure in failures) or "ok: nothing unexpected")
    return 1 if failures else 0


def _guarded(work: object, soak: Soak) -> None:
    """Runs a client; what it does not expect itself is an unexpected outcome."""
    try:
        work(soak)  # type: ignore[operator]
    except Exception as error:  # it is told
        soak.tally.add(
            getattr(work, "__name__", "client"), type(error).__name__, expected=False, words=str(error)
        )


def _wait(pool: Pool, minutes: float, tally: Tally) -> None:
    """Waits for the time to pass or the server to end; tells once a minute how it stands."""
    end = time.monotonic() + 60 * minutes
    while (left := end - time.monotonic()) > 0 and pool.process.poll() is None:
        time.sleep(min(1.0, left))
        if int(left) % 60 == 0 and left > 1:
            done, wrong = sum(tally.counts.values()), tally.unexpected
            click.echo(f"  {left / 60:.0f} min left: {done:,} outcomes, {wrong} unexpected")


def _report_outcomes(tally: Tally, kills: int) -> list[str]:
    click.echo("| client | status | expected | count |\n|---|---|---|---|")
    for (kind, status, expected), count in sorted(tally.counts.items()):
        click.echo(f"| {kind} | {status} | {'yes' if expected else '**no**'} | {count:,} |")
    click.echo(
        f"\nvectors compared with the oracle: {tally.compared:,}, different: {tally.wrong}; kills: {kills}\n"
    )
    failures = [f"unexpected: {words}" for words in tally.first]
    if tally.wrong or not tally.compared:
        failures.append(f"{tally.wrong} of {tally.compared} vectors differ")
    return failures


def _report_growth(watch: Watch, minutes: float, *, with_slots: bool) -> list[str]:
    click.echo("| process | quantity | last | slope an hour | ± | growth |\n|---|---|---|---|---|---|")
    failures = []
    for (name, quantity), series in sorted(watch.series.items()):
        warm = [n for n, seconds in enumerate(series.seconds) if seconds >= 60 * minutes * _WARM_UP]
        slope = slope_of([series.seconds[n] for n in warm], [series.values[n] for n in warm])
        click.echo(f"| {name} | {quantity} | {_row(slope, quantity)} |")
        # A process that was killed and replaced begins anew.
        judged = with_slots or not name.startswith("slot")
        if judged and slope.grows(*_LIMITS[quantity]):
            failures.append(f"{quantity} of {name} grows: {_row(slope, quantity)}")
    click.echo()
    if not watch.series:
        failures.append("no process was sampled")
    return failures


def _row(slope: Slope, quantity: str) -> str:
    unit, name = (1, "") if quantity == "descriptors" else (_MIB, " MiB")
    parts = (slope.last, slope.per_hour, slope.error, slope.growth)
    return " | ".join(f"{part / unit:.1f}{name}" for part in parts)


if __name__ == "__main__":
    sys.exit(main())
