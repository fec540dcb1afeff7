"""Crashes, retries, several workers and additions in any order, over the plan and the ledger as they are.

A model of a run, step by step: what a process may do between two steps of another is a rule of its own.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from indexer.config import PlanConfig
from indexer.plan import InputFile, Model, Unit, make_addition, make_plan
from indexer.store.durable import make_folder, write_durable
from indexer.store.layout import Layout
from indexer.store.ledger import (
    Receipt,
    commit_unit,
    committed,
    freeze_addition,
    freeze_plan,
    load_plan,
    sha256,
)

MODEL = Model("f" * 64, "four", 4, normalized=True)
WORKERS = 3
MEMORY = Path("/dev/shm")  # noqa: S108 - where fsync costs nothing
NAMES = ("/a", "/b", "/c")
rows_of_groups = st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple)


class Runs(RuleBasedStateMachine):
    """Files on a disk, an index of them, and workers that plan, claim, commit and die.

    Attributes:
        files: As they are now.
        claims: What each worker embeds.
        commits: How often each row id was committed.
        was: What each row id meant when it was planned: file, time of its change, row.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.layout = Layout(self.root)
        self.files: dict[str, InputFile] = {}
        self.claims: dict[int, Unit] = {}
        self.commits: dict[int, int] = {}
        self.was: dict[int, tuple[str, int, int]] = {}
        self.clock = 0

    def teardown(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.root)

    @initialize(groups=rows_of_groups, unit_rows=st.integers(1, 5))
    def first_run(self, groups: tuple[int, ...], unit_rows: int) -> None:
        """Plans an index of one file."""
        self.files["/a"] = InputFile("/a", 1, 0, groups)
        for folder in (self.layout.units, self.layout.rejects):
            make_folder(folder)
        freeze_plan(self.layout, make_plan(list(self.files.values()), PlanConfig(unit_rows=unit_rows), MODEL))
        self.note_rows()

    @rule(name=st.sampled_from(NAMES), groups=rows_of_groups)
    def somebody_writes_a_file(self, name: str, groups: tuple[int, ...]) -> None:
        """A file comes or changes; nothing of the index notices yet."""
        self.clock += 1
        self.files[name] = InputFile(name, 1, self.clock, groups)

    @precondition(lambda self: not self.claims)
    @rule(crash=st.booleans())
    def a_run_plans(self, crash: bool) -> None:
        """Whoever plans holds the index alone; one that dies on the way leaves a half file at most."""
        plan = load_plan(self.layout)
        done = committed(self.layout, plan)
        addition = make_addition(plan, list(self.files.values()), done)
        if addition is None:
            return
        if crash:
            make_folder(self.layout.additions)
            (self.layout.additions / "000001.json.tmp").write_text("{")
            return
        grown = freeze_addition(self.layout, plan, addition)
        assert load_plan(self.layout) == grown
        kept = {unit.number for unit in grown.units}
        assert done.keys() <= kept
        assert make_addition(grown, list(self.files.values()), done) is None
        self.note_rows()

    @rule(worker=st.integers(0, WORKERS - 1), which=st.integers(0, 5))
    def a_worker_claims(self, worker: int, which: int) -> None:
        """It takes a unit that is missing and that no other has, whose file is as it was planned."""
        plan = load_plan(self.layout)
        taken = {unit.number for unit in self.claims.values()} | committed(self.layout, plan).keys()
        free = [
            unit
            for unit in plan.units
            if unit.number not in taken
            and self.files.get(plan.inputs[unit.file].path) == plan.inputs[unit.file]
        ]
        if worker not in self.claims and free:
            self.claims[worker] = free[which % len(free)]

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), crash=st.sampled_from(["", "before", "unit", "rejects"]))
    def a_worker_commits(self, data: st.DataObject, crash: str) -> None:
        """It writes unit, rejects and receipt in this order, or dies between two of them."""
        self.commit(data.draw(st.sampled_from(sorted(self.claims))), crash)

    def commit(self, worker: int, crash: str) -> None:
        """Commits the unit that a worker has, or a part of it."""
        unit = self.claims.pop(worker)
        content, rejects = f"unit {unit}".encode(), f"rejects {unit}".encode()
        receipt = Receipt(
            unit, MODEL.fingerprint, unit.rows - 1, unit.rows - 1, {"no text": 1}, 1, 0,
            sha256(content), len(content), sha256(rejects), len(rejects),
        )  # fmt: skip
        if crash in ("unit", "rejects"):
            write_durable(self.layout.unit(unit.number), content)
        if crash == "rejects":
            write_durable(self.layout.unit_rejects(unit.number), rejects)
        if not crash:
            commit_unit(self.layout, receipt, content, rejects)
            for row in range(unit.base, unit.base + unit.rows):
                self.commits[row] = self.commits.get(row, 0) + 1

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def a_worker_dies(self, data: st.DataObject) -> None:
        """Its claim is freed; the unit is anybody's."""
        del self.claims[data.draw(st.sampled_from(sorted(self.claims)))]

    @precondition(lambda self: not self.claims)
    @rule()
    def a_run_goes_to_its_end(self) -> None:
        """Undisturbed it plans, embeds what is missing, and then every row of every file has one commit."""
        self.a_run_plans(crash=False)
        while True:
            self.a_worker_claims(0, 0)
            if not self.claims:
                break
            self.commit(0, "")
        plan = load_plan(self.layout)
        assert committed(self.layout, plan).keys() == {unit.number for unit in plan.units}
        gone = plan.superseded()
        alive = sorted(
            self.was[row]
            for unit in plan.units
            if unit.file not in gone
            for row in range(unit.base, unit.base + unit.rows)
        )
        assert alive == sorted(
            (file.path, file.mtime_ns, row) for file in self.files.values() for row in range(file.rows)
        )

    @invariant()
    def no_row_is_committed_twice(self) -> None:
        """Whatever happened."""
        assert set(self.commits.values()) <= {1}

    @invariant()
    def the_ledger_knows_what_was_committed(self) -> None:
        """No commit is forgotten, and none is seen that was not made."""
        if self.layout.plan.exists():
            rows = [
                row
                for receipt in committed(self.layout, load_plan(self.layout)).values()
                for row in range(receipt.unit.base, receipt.unit.base + receipt.unit.rows)
            ]
            assert sorted(rows) == sorted(self.commits)

    def note_rows(self) -> None:
        """Notes what new row ids mean; an id never gets another meaning."""
        plan = load_plan(self.layout)
        for unit in plan.units:
            file = plan.inputs[unit.file]
            for row in range(unit.rows):
                meaning = (file.path, file.mtime_ns, unit.start + row)
                assert self.was.setdefault(unit.base + row, meaning) == meaning
                assert unit.base + row < plan.end


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
