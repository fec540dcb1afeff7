"""The options of the command line; those of `serve` are made from the table of settings."""

from collections.abc import Callable
from typing import Any

import click

from worker.settings import Setting, settings

_Command = Callable[..., Any]


def setting_options(command: _Command) -> _Command:
    """Adds a flag for each setting; `given_flags` reads what the command got."""
    for setting in reversed(settings()):
        command = _option(setting)(command)
    return command


def given_flags(arguments: dict[str, Any]) -> dict[str, str | None]:
    """Returns the text of each setting's flag by its key, from what the command got."""
    flags = {setting.key: arguments[_argument(setting)] for setting in settings()}
    return {
        key: value if value is None else str(value).lower() if isinstance(value, bool) else value
        for key, value in flags.items()
    }


def _argument(setting: Setting) -> str:
    return "setting_" + setting.key.replace(".", "_")


def _option(setting: Setting) -> Callable[[_Command], _Command]:
    # Text only, and no default: `sources.py` must know what was given, and parses all sources alike.
    default = "not set" if setting.default in (None, "") else setting.default
    text = f"{setting.help}  [required]" if setting.required else f"{setting.help}  [default: {default}]"
    if setting.kind is bool:
        flags = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        return click.option(flags, _argument(setting), default=None, help=text)
    metavar = "|".join(setting.choices) or setting.unit
    return click.option(setting.flag, _argument(setting), metavar=metavar, default=None, help=text)
