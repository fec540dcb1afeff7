"""What a run is to embed: the plan of a new index, or what the inputs add to the plan of one that stands."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from indexer.config import OnError, RunConfig
from indexer.errors import InputError, PlanError
from indexer.inputs import files as inputs
from indexer.inputs.files import SkippedFile
from indexer.plan import Addition, InputFile, Model, Plan, Unit, make_addition, make_plan
from indexer.store.layout import Layout
from indexer.store.ledger import (
    check_same,
    committed,
    freeze_addition,
    freeze_plan,
    load_plan,
)


@dataclass(frozen=True)
class Asked:
    """What a command asks for.

    Attributes:
        config: Of the run.
        files: Its inputs, in order.
        skipped: Those that cannot be read and are left out.
        model: That the pools serve.
    """

    config: RunConfig
    files: tuple[InputFile, ...]
    skipped: tuple[SkippedFile, ...]
    model: Model


@dataclass(frozen=True)
class Planned:
    """What stands after planning.

    Attributes:
        layout: The edition to work on.
        plan: Its plan, with what was added.
        vanished: Paths of inputs that the plan has and the command does not; their rows stay.
    """

    layout: Layout
    plan: Plan
    vanished: tuple[str, ...] = ()


def edition_of(layout: Layout, asked: Asked) -> Layout:
    """Returns the edition of an index that a command works on; it may not be there yet.

    That is the one in use, if it holds vectors of the pools' model; another only where an index of a new
    model is to be built beside it: the unfinished one of that model, or a new one.
    """
    used = Layout.in_use(layout.root)
    if not asked.config.new_model or not used.plan.exists() or _holds(used, asked.model):
        return used
    number = used.edition + 1
    while (edition := Layout(layout.root, number)).plan.exists() and not _holds(edition, asked.model):
        number += 1
    return edition


def _holds(layout: Layout, model: Model) -> bool:
    return load_plan(layout).model.fingerprint == model.fingerprint


def standing(layout: Layout, asked: Asked) -> Planned | None:
    """Returns the plan that stands if it is just what a command asks for; None if there is more to write.

    Raises:
        PlanError: The index was planned otherwise.
        InputError: An input is gone before all of it was embedded.
    """
    if not layout.plan.exists():
        return None
    plan = load_plan(layout)
    check_same(layout, plan, asked.config.plan, asked.model)
    if _addition(layout, plan, asked) is not None:
        return None
    return Planned(layout, plan, _vanished(layout, plan, asked))


def write(layout: Layout, asked: Asked) -> Planned:
    """Plans what a command asks for, and writes that; the caller holds the index alone.

    Raises:
        InputError: A document id stands twice, or as `standing` says.
        PlanError: The index was planned otherwise.
    """
    if not layout.plan.exists():
        plan = make_plan(asked.files, asked.config.plan, asked.model)
        if _has_duplicates(plan, plan.units, asked):
            plan = replace(plan, duplicates=frozenset({0}))
        freeze_plan(layout, plan)
        return Planned(layout, plan)
    plan = load_plan(layout)
    check_same(layout, plan, asked.config.plan, asked.model)
    vanished = _vanished(layout, plan, asked)
    addition = _addition(layout, plan, asked)
    if addition is not None:
        grown = plan.added(addition)
        addition = replace(addition, duplicates=_has_duplicates(grown, addition.units, asked))
        plan = freeze_addition(layout, plan, addition)
    return Planned(layout, plan, vanished)


def _addition(layout: Layout, plan: Plan, asked: Asked) -> Addition | None:
    if plan.config.limit is not None:
        changed = [file.path for file in asked.files if plan.latest().get(file.path) != file]
        if changed:
            raise PlanError(
                f"{layout.root} was planned with --limit {plan.config.limit}, and {changed[0]} is new or has "
                "changed; an index of some rows cannot be added to: name another --output"
            )
        return None
    known = plan.latest()
    if all(known.get(file.path) == file for file in asked.files) and not asked.skipped:
        done: Sequence[int] = [unit.number for unit in plan.units]  # nothing can be retired
    else:
        done = list(committed(layout, plan))
    return make_addition(plan, asked.files, set(done), {file.path for file in asked.skipped})


def _vanished(layout: Layout, plan: Plan, asked: Asked) -> tuple[str, ...]:
    """Returns the inputs that a command does not name any more; raises InputError while they are needed."""
    named = {file.path for file in asked.files} | {file.path for file in asked.skipped}
    gone = [path for path in plan.latest() if path not in named]
    if gone:
        missing = set(gone)
        done = committed(layout, plan)
        for unit in plan.units:
            path = plan.inputs[unit.file].path
            if path in missing and unit.number not in done:
                raise InputError(
                    f"input {path} is no longer among the inputs, and its rows from {unit.start} on are not "
                    "embedded yet; name it again with --input, or name another --output"
                )
    return tuple(gone)


def _has_duplicates(plan: Plan, units: Sequence[Unit], asked: Asked) -> bool:
    if asked.config.on_error is OnError.STOP:
        inputs.check_ids(plan, units)
        return False
    return bool(inputs.refused_ids(plan, units))


def refused(plan: Plan, missing: Sequence[Unit], asked: Asked) -> dict[int, str]:
    """Returns the row ids that are rejects whatever they hold, with the reason, of parts that miss units.

    Rows of inputs that changed or vanished meanwhile cannot be read any more, and refuse none: where their
    document ids stand again, the later row counts.
    """
    found: dict[int, str] = {}
    there = set(asked.files)
    for number in sorted(plan.duplicates):
        part = plan.part(number)
        if any(unit in part for unit in missing):
            found |= inputs.refused_ids(plan, [unit for unit in part if plan.inputs[unit.file] in there])
    return found
