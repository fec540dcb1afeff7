"""Where settings come from: flags before environment variables before a TOML file before defaults.

Nothing is skipped in silence: an unknown key or variable is an error that names the nearest known one.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path

from worker.errors import ConfigError
from worker.settings.table import PREFIX, Setting, Value, parse, settings

CONFIG_VARIABLE = f"{PREFIX}CONFIG"
_DEFAULT = "default"
# Variables that Kubernetes sets in every container for a service whose name begins like ours.
_OF_KUBERNETES = re.compile(
    r"(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)\w*)?)"
)


@dataclass(frozen=True)
class Resolved:
    """The settings and where each comes from.

    Attributes:
        values: Value of each setting by its key.
        sources: Where the values that are no defaults come from, by key.
    """

    values: Mapping[str, Value]
    sources: Mapping[str, str]


def resolve(flags: Mapping[str, str | None], environment: Mapping[str, str], config: Path | None) -> Resolved:
    """Merges the sources.

    Args:
        flags: Text of each flag by its setting's key; None for a flag that was not given.
        environment: The process's variables.
        config: The TOML file, if one was named; else the variable EMBEDPOOL_CONFIG may name it.

    Raises:
        ConfigError: A value is of another type, a name is unknown, or the file cannot be read.
    """
    _check_variables(environment)
    if config is None and environment.get(CONFIG_VARIABLE):
        config = Path(environment[CONFIG_VARIABLE])
    file = {} if config is None else _read(config)
    values: dict[str, Value] = {}
    sources: dict[str, str] = {}
    for setting in settings():
        values[setting.key] = setting.default
        candidates = (
            (setting.flag, flags.get(setting.key)),
            (setting.variable, environment.get(setting.variable)),
            (f"key {setting.key} of {config}", file.get(setting.key)),
        )
        for typed, (source, raw) in zip((False, False, True), candidates, strict=True):
            if raw is not None:
                values[setting.key] = parse(setting, raw, source, typed=typed)
                sources[setting.key] = source
                break
    return Resolved(values, sources)


def to_toml(resolved: Resolved) -> str:
    """Writes all settings as TOML, each with where it comes from; read again, they are the same."""
    lines = [f"# python -m worker serve, embedpool {version('embedpool')}"]
    group = ""
    for setting in settings():
        if setting.group != group:
            group = setting.group
            lines += ["", f"[{group}]"]
        source = " ".join(resolved.sources.get(setting.key, _DEFAULT).split())  # a path may hold a new line
        lines.append(f"{setting.name} = {_literal(resolved.values[setting.key])}  # {source}")
    return "\n".join(lines)


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = value.value if isinstance(value, Enum) else "" if value is None else str(value)
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_variables(environment: Mapping[str, str]) -> None:
    known = {setting.variable for setting in settings()} | {CONFIG_VARIABLE}
    ours = {name for name in environment if name.startswith(PREFIX)} - known
    for name in sorted(ours):
        if not _OF_KUBERNETES.fullmatch(name.removeprefix(PREFIX)):
            raise ConfigError(f"the variable {name} is no setting: unset it, or {_nearest(name, known)}")


def _read(path: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the --config file {path}: {error.strerror}") from None
    except ValueError as error:  # of TOML or of UTF-8
        raise ConfigError(f"the --config file {path} is no TOML: {error}") from None
    known = {setting.key: setting for setting in settings()}
    file = dict(_flat(document, known))
    for key in file:
        if key not in known:
            raise ConfigError(f"the key {key} of {path} is no setting; {_nearest(key, set(known))}")
    return file


def _flat(document: Mapping[str, object], known: Mapping[str, Setting]) -> Iterator[tuple[str, object]]:
    groups = {setting.group for setting in known.values()} - {""}
    for name, value in document.items():
        if name in groups and isinstance(value, dict):
            yield from ((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            yield name, value


def _nearest(name: str, known: set[str]) -> str:
    return f"did you mean {difflib.get_close_matches(name, sorted(known), 1, 0.0)[0]}?"
