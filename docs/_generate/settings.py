"""The settings of the server, from the table that flags, variables and TOML keys are made of."""

from itertools import groupby

from docs._generate.markdown import entry, prose
from worker.settings.table import Setting, settings


def server_settings() -> str:
    """Returns every setting, those of a group under a heading of their own."""
    parts = []
    for group, members in groupby(settings(), key=lambda setting: setting.group):
        heading = f"## `[{group}]`\n\n" if group else "## Top level\n\n"
        parts.append(heading + "".join(map(_setting, members)))
    return "".join(parts)


def _setting(setting: Setting) -> str:
    is_switch = setting.kind is bool
    flag = f"{setting.flag}/--no-{setting.flag[2:]}" if is_switch else f"{setting.flag} {_unit(setting)}"
    names = f"Variable `{setting.variable}`, TOML key `{setting.key}`. {_default(setting)}"
    return entry(f"`{flag}`", prose(setting.help), names)


def _unit(setting: Setting) -> str:
    return "|".join(setting.choices) or setting.unit


def _default(setting: Setting) -> str:
    if setting.required:
        return "Required."
    if setting.default in (None, ""):
        return "Not set unless given."
    value = str(setting.default).lower() if isinstance(setting.default, bool) else setting.default
    return f"Default: `{value}`."
