"""The options of the command line; those of `serve` are made from the table of settings."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from worker.errors import ConfigError
from worker.operation.dial import Dial
from worker.settings.table import Setting, settings

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


def dial_options(timeout: float, *, several: bool = False) -> Callable[[_Command], _Command]:
    """Adds the options by which a client reaches a server; the command gets them as `dial`, or `dials`."""
    path = click.Path(path_type=Path)
    more = "; more of them with commas" if several else ""
    options = (
        click.option("--target", required=True, help=f"HOST:PORT or unix:PATH of a running server{more}."),
        click.option("--timeout", default=timeout, show_default=True, help="Seconds to wait for an answer."),
        click.option("--tls-ca", type=path, help="PEM file of the authorities of the server's certificate."),
        click.option("--tls-cert", type=path, help="PEM file of our certificate, if the server wants one."),
        click.option("--tls-key", type=path, help="PEM file of its private key."),
        click.option("--token-file", type=path, help="File whose first token is shown."),
    )

    def add(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_dial(**arguments: Any) -> Any:
            names = ("timeout", "tls_ca", "tls_cert", "tls_key", "token_file")
            words = {name: arguments.pop(name) for name in names}
            target = arguments.pop("target")
            if not several:
                return command(dial=Dial(target, **words), **arguments)
            targets = dict.fromkeys(part.strip() for part in target.split(",") if part.strip())
            if not targets:
                raise ConfigError("--target names no server: give HOST:PORT")
            return command(dials=tuple(Dial(one, **words) for one in targets), **arguments)

        decorated: _Command = with_dial
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return add


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
