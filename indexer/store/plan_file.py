"""The files of a plan: `plan.json` has its first part, `additions/N.json` what was added."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from indexer.config import PlanConfig, VectorType
from indexer.errors import StoreError
from indexer.plan import Addition, InputFile, Model, Plan, Unit, plan_of_units
from indexer.sealed import check_seal, sealed_json

SCHEMA_VERSION = 2
_KEPT = ("inputs", "config", "model", "units", "separator")  # the other fields follow from these


def plan_text(plan: Plan) -> str:
    """Returns the text of `plan.json`, for a plan of one part."""
    raw = asdict(plan)
    kept = {name: raw[name] for name in _KEPT}
    return sealed_json({**kept, "duplicates": bool(plan.duplicates), "schema_version": SCHEMA_VERSION})


def addition_text(addition: Addition) -> str:
    """Returns the text of an addition's file."""
    return sealed_json({**asdict(addition), "schema_version": SCHEMA_VERSION})


def read_plan(text: str) -> Plan:
    """Reads the text of `plan.json`.

    Raises:
        StoreError: It is not JSON, of another schema version or has wrong fields.
    """
    raw = _raw(text, "plan.json")
    try:
        config = dict(raw["config"])
        config["text_columns"] = tuple(config["text_columns"])
        config["vector_type"] = VectorType(config["vector_type"])
        plan = plan_of_units(
            _inputs(raw), PlanConfig(**config), Model(**raw["model"]), _units(raw), raw["separator"]
        )
        return replace(plan, duplicates=frozenset({0} if raw["duplicates"] else ()))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged("plan.json", error) from error


def read_addition(text: str, name: str) -> Addition:
    """Reads the text of an addition's file of that name; raises StoreError as `read_plan`."""
    raw = _raw(text, name)
    try:
        return Addition(_inputs(raw), _units(raw), tuple(raw["retired"]), raw["duplicates"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(name, error) from error


def _raw(text: str, name: str) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = json.loads(text)
        version = raw["schema_version"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(name, error) from error
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{name} has schema version {version}, this release reads {SCHEMA_VERSION}; "
            "build the index again with this release"
        )
    try:
        return check_seal(raw)
    except ValueError as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> StoreError:
    return StoreError(f"{name} is damaged ({error!r}); delete the index folder and build it again")


def _inputs(raw: Mapping[str, Any]) -> tuple[InputFile, ...]:
    return tuple(InputFile(**{**file, "row_groups": tuple(file["row_groups"])}) for file in raw["inputs"])


def _units(raw: Mapping[str, Any]) -> tuple[Unit, ...]:
    return tuple(Unit(**unit) for unit in raw["units"])
