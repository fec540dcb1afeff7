"""The settings as a table, derived from `config.py`: flag, variable, TOML key, type, help and default.

Pure: text and values in, values out; `sources.py` says where they come from.
"""

import inspect
import math
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any

from worker.errors import ConfigError
from worker.settings.config import ServeConfig

PREFIX = "EMBEDPOOL_"
AUTO = "auto"
# What the end of a name says of its unit; a file or an address has none.
_UNITS = ("seconds", "bytes", "tokens", "texts", "items", "streams", "windows", "processes", "share", "ratio")
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", re.MULTILINE)

Value = str | int | float | bool | Path | Enum | None


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        group: Name of its group of settings, or "".
        name: Name of its field.
        prefix: What its flag and its variable begin with.
        kind: Type of its value: str, int, float, bool, Path or an enum.
        default: Its value when nothing is said; None for none.
        required: Whether it has no default.
        auto: Whether "auto" is a value of it.
        help: What it is, with its unit.
    """

    group: str
    name: str
    prefix: str
    kind: type
    default: Value
    required: bool
    auto: bool
    help: str

    @property
    def key(self) -> str:
        """Key in the TOML file, `group.name` or `name`."""
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def flag(self) -> str:
        """Flag of the command line."""
        return "--" + self.prefix + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Environment variable."""
        return PREFIX + (self.prefix + self.name).replace("-", "_").upper()

    @property
    def unit(self) -> str:
        """Unit in capitals, as in `--drain-seconds SECONDS`; else what kind of value it takes."""
        words = self.name.split("_")
        if self.auto:
            return f"{AUTO}|N"
        if self.name == "listen":
            return "ADDRESS"
        known = next((unit for unit in _UNITS if unit in words), None)
        return (known or {Path: "PATH", str: "TEXT", int: "N"}.get(self.kind, "NUMBER")).upper()

    @property
    def choices(self) -> list[str]:
        """Values of a closed choice, else nothing."""
        return [choice.value for choice in self.kind] if issubclass(self.kind, Enum) else []


@cache
def settings() -> tuple[Setting, ...]:
    """Returns all settings in the order of their classes, those of groups last."""
    return tuple(_settings_of(ServeConfig, "", ""))


def parse(setting: Setting, raw: object, source: str, *, typed: bool) -> Value:
    """Returns the value of what a source says: `typed` from TOML, else the text of a flag or a variable.

    Raises:
        ConfigError: It is no value of the setting's type; the message names the source.
    """
    if raw == "" and setting.default is None:
        return None
    if setting.auto and raw == AUTO:
        return AUTO
    value = _from_toml(setting, raw) if typed else _from_text(setting, str(raw))
    if value is None:
        shown = repr(raw) if len(repr(raw)) <= 80 else f"{repr(raw)[:80]}…"
        raise ConfigError(f"{source} is {shown}, it must be {_wanted(setting)}")
    return value


def build(values: Mapping[str, Value], sources: Mapping[str, str], **derived: Any) -> ServeConfig:
    """Returns the configuration.

    Args:
        values: Value of each setting by its key.
        sources: Where a value that is no default comes from, by key.
        derived: Fields that follow from the machine, in place of what `values` say.

    Raises:
        ConfigError: A required setting is missing, or one is out of range; the message names the sources.
    """
    groups: dict[str, dict[str, Value]] = {}
    for setting in settings():
        value = values[setting.key]
        if value is None and setting.required and setting.name not in derived:
            raise ConfigError(
                f"{setting.key} is not set: give {setting.flag}, {setting.variable} or the key {setting.key} "
                "in the --config file"
            )
        groups.setdefault(setting.group, {})[setting.name] = value
    try:
        kinds = typing.get_type_hints(ServeConfig)
        parts = {name: kinds[name](**groups[name]) for name in groups if name}
        return ServeConfig(**{**groups[""], **parts, **derived})
    except ConfigError as error:
        said = [f"{key} is from {source}" for key, source in sources.items() if _is_in(key, str(error))]
        raise ConfigError(f"{error} ({', '.join(said)})" if said else str(error)) from None


def _is_in(key: str, message: str) -> bool:
    name = next(setting for setting in settings() if setting.key == key)
    return bool(re.search(rf"(?<![\w-])({name.name}|{name.flag})(?![\w-])", message))


def _settings_of(config: type, group: str, prefix: str) -> Iterator[Setting]:
    kinds = typing.get_type_hints(config)
    docs = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(inspect.getdoc(config) or "")}
    for one in sorted(fields(config), key=lambda one: is_dataclass(kinds[one.name])):
        if is_dataclass(kinds[one.name]):
            yield from _settings_of(kinds[one.name], one.name, one.metadata["prefix"])
        elif not one.metadata.get("derived"):
            yield _setting(one, kinds[one.name], group, prefix, docs.get(one.name, ""))


def _setting(one: "Field[Any]", kind: Any, group: str, prefix: str, text: str) -> Setting:
    if isinstance(kind, UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    auto = bool(one.metadata.get("auto"))
    default = AUTO if auto else None if one.default is MISSING else one.default
    return Setting(group, one.name, prefix, kind, default, one.default is MISSING, auto, text)


def _from_text(setting: Setting, text: str) -> Value:
    try:
        text.encode()
        if setting.kind is bool:
            return _SWITCHES.get(text.lower())
        if setting.kind is float:
            return float(text) if math.isfinite(float(text)) else None
        return setting.kind(text) if text or setting.kind is str else None
    except ValueError:  # of no choice, no number, or not UTF-8
        return None


def _from_toml(setting: Setting, raw: object) -> Value:
    if setting.kind is float and type(raw) is int:
        return float(raw)
    if setting.kind in (int, float, bool):
        return raw if type(raw) is setting.kind and math.isfinite(raw) else None
    return _from_text(setting, raw) if isinstance(raw, str) else None


def _wanted(setting: Setting) -> str:
    if setting.choices:
        return "one of " + ", ".join(setting.choices)
    names = {int: "an integer", float: "a number", bool: "true or false", Path: "a path", str: "a text"}
    return f"{AUTO} or {names[setting.kind]}" if setting.auto else names[setting.kind]
