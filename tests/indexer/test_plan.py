"""Planning: pure, so that hundreds of made-up inputs can try it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.config import PlanConfig, VectorType
from indexer.errors import StoreError
from indexer.plan import (
    InputFile,
    Model,
    Plan,
    changes,
    cut_units,
    differences,
    make_addition,
    make_plan,
    touched_row_groups,
)
from indexer.store.plan_file import addition_text, plan_text, read_addition, read_plan

MODEL = Model("a" * 64, "first", 8, normalized=True)
row_groups = st.lists(st.integers(0, 40), max_size=6).map(tuple)
files = st.lists(row_groups, max_size=5).map(
    lambda groups: [InputFile(f"/data/{n}.parquet", 100 + n, 5, rows) for n, rows in enumerate(groups)]
)
limits = st.none() | st.integers(1, 300)


@given(st.lists(st.integers(0, 100), max_size=8), st.integers(1, 60), limits)
def test_units_cover_each_wanted_row_once(file_rows: list[int], unit_rows: int, limit: int | None) -> None:
    """Every row up to the limit is in exactly one unit, in order, and bases count rows without gaps."""
    units = list(cut_units(file_rows, unit_rows, limit))
    rows = [(file, row) for file, count in enumerate(file_rows) for row in range(count)][:limit]
    assert [(unit.file, row) for unit in units for row in range(unit.start, unit.stop)] == rows
    assert [unit.base for unit in units] == [sum(u.rows for u in units[:n]) for n in range(len(units))]
    assert [unit.number for unit in units] == list(range(len(units)))
    assert all(1 <= unit.rows <= unit_rows for unit in units)


@given(files, st.integers(1, 50), limits)
def test_a_row_id_leads_back_to_its_row(inputs: list[InputFile], unit_rows: int, limit: int | None) -> None:
    """A FAISS id names one row, found without a hash or database; ids outside are refused."""
    plan = make_plan(inputs, PlanConfig(unit_rows=unit_rows, limit=limit), MODEL)
    for unit in plan.units:
        for row in (0, unit.rows - 1):
            assert plan.unit_of(unit.base + row) == unit
    for outside in (-1, plan.rows):
        with pytest.raises(StoreError, match="outside"):
            plan.unit_of(outside)


@given(files, st.integers(1, 50), limits)
def test_a_plan_survives_its_file(inputs: list[InputFile], unit_rows: int, limit: int | None) -> None:
    """plan.json reads back as it was written, and writing it again gives the same bytes."""
    plan = make_plan(inputs, PlanConfig(unit_rows=unit_rows, limit=limit), MODEL)
    assert read_plan(plan_text(plan)) == plan
    assert plan_text(read_plan(plan_text(plan))) == plan_text(plan)
    assert differences(plan, plan.config, plan.model) == []


@given(row_groups, st.data())
def test_only_row_groups_with_wanted_rows_are_touched(groups: tuple[int, ...], data: st.DataObject) -> None:
    """Row groups of committed units are skipped, and none that is needed is."""
    every = list(cut_units([sum(groups)], data.draw(st.integers(1, 30)), None))
    units = [unit for unit in every if data.draw(st.booleans())]
    wanted = {row for unit in units for row in range(unit.start, unit.stop)}
    expected, first = [], 0
    for number, rows in enumerate(groups):
        if wanted & set(range(first, first + rows)):
            expected.append((number, first))
        first += rows
    assert touched_row_groups(groups, units) == expected


def _plan(model: Model = MODEL) -> Plan:
    inputs = (InputFile("/a.parquet", 10, 1, (4, 4)), InputFile("/b.parquet", 20, 2, (3,)))
    return make_plan(inputs, PlanConfig(unit_rows=4), model)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PlanConfig(unit_rows=5), "unit rows was 4, now 5"),
        (PlanConfig(unit_rows=4, limit=3), "limit was None, now 3"),
        (PlanConfig(unit_rows=4, id_column="key"), "id column was doc_id, now key"),
        (PlanConfig(unit_rows=4, text_columns=("text",)), "text columns was title,text, now text"),
        (PlanConfig(unit_rows=4, vector_type=VectorType.FLOAT16), "vector type was float32, now float16"),
    ],
)
def test_another_setting_is_named(config: PlanConfig, words: str) -> None:
    """A command that asks for other vectors than the index holds is told which setting differs."""
    assert words in differences(_plan(), config, MODEL)


def test_another_model_is_named_with_both_fingerprints() -> None:
    """The message names the index's model and the pool's."""
    (found,) = differences(_plan(), _plan().config, Model("b" * 64, "second", 8, normalized=True))
    assert "first (aaaaaaaaaaaa)" in found
    assert "second (bbbbbbbbbbbb)" in found


def test_changed_inputs_are_named() -> None:
    """An input of another size, rows or time is named with what differs."""
    a, _ = _plan().inputs
    assert list(changes(a, a)) == []
    for now, words in (
        (dataclasses.replace(a, size=11), "had 10 bytes, now 11"),
        (dataclasses.replace(a, row_groups=(8,)), "8 rows in 2 row groups, now 8 rows in 1 row groups"),
        (dataclasses.replace(a, mtime_ns=9), "written again"),
    ):
        assert any(words in found for found in changes(a, now))


def test_an_addition_goes_on_where_the_plan_ends() -> None:
    """New and changed files come with numbers and bases of their own; what is known is left alone."""
    plan = _plan()
    a, b = plan.inputs
    assert make_addition(plan, (a, b), set()) is None
    assert make_addition(plan, (a,), set()) is None
    changed, new = dataclasses.replace(a, mtime_ns=9), dataclasses.replace(b, path="/c.parquet")
    every = {unit.number for unit in plan.units}
    addition = make_addition(plan, (changed, b, new), every)
    assert addition is not None
    assert (addition.inputs, addition.retired) == ((changed, new), ())
    grown = plan.added(addition)
    assert grown.superseded() == {0}
    assert [unit.number for unit in grown.units] == list(range(grown.next_unit))
    assert grown.units[len(plan.units)].base == plan.end
    assert grown.part(0) == plan.units
    assert grown.part(1) == addition.units
    assert make_addition(grown, (changed, b, new), every) is None
    assert read_addition(addition_text(addition), "000001.json") == addition


def test_units_of_a_file_that_changed_are_retired() -> None:
    """What was not committed of an old file never will be; an unreadable one is planned again later."""
    plan = _plan()
    a, b = plan.inputs
    of_a = [unit.number for unit in plan.units if unit.file == 0]
    addition = make_addition(plan, (dataclasses.replace(a, mtime_ns=9), b), {of_a[0]})
    assert addition is not None
    assert addition.retired == tuple(of_a[1:])
    gone = make_addition(plan, (b,), {of_a[0]}, {a.path})
    assert gone is not None
    assert (gone.inputs, gone.units, gone.retired) == ((), (), tuple(of_a[1:]))
    without = plan.added(gone)
    assert (without.end, without.next_unit) == (plan.end, plan.next_unit)
    back = make_addition(without, (a, b), {of_a[0]})
    assert back is not None
    assert back.inputs == (a,)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 2, "config": {}}']
)
def test_a_damaged_plan_is_refused(text: str) -> None:
    """A plan that cannot be read is an error of one kind, never a traceback of another."""
    with pytest.raises(StoreError, match=r"plan\.json is damaged"):
        read_plan(text)


def test_a_plan_of_another_schema_is_refused() -> None:
    """A later release's plan is named as such, not misread."""
    with pytest.raises(StoreError, match="schema version 99"):
        read_plan('{"schema_version": 99}')
