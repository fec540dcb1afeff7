"""The command lines, from click's own description of them."""

import re
from collections.abc import Iterator

import click

from docs._generate.markdown import entry, prose

_EXTRA = re.compile(r"\s*\[(default: [^\]]*|required)\]\s*$")


def commands(group: click.Group, name: str) -> str:
    """Returns every command of a program with each of its arguments and options.

    Args:
        group: The program.
        name: What is typed for it, as `python -m worker`.
    """
    context = click.Context(group, info_name=name, **group.context_settings)
    return "".join(_command(command, context) for _, command in sorted(_leaves(group)))


def _leaves(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command)
        else:
            yield name, command


def _command(command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=command.name, parent=parent, **command.context_settings)
    arguments = [part for part in command.collect_usage_pieces(context) if part != "[OPTIONS]"]
    usage = " ".join([context.command_path, "[OPTIONS]", *arguments])
    help_text = "\n\n".join(prose(" ".join(part.split())) for part in (command.help or "").split("\n\n"))
    options = "".join(_option(option, context) for option in command.get_params(context))
    return f"## {context.command_path}\n\n```text\n{usage}\n```\n\n{help_text}\n\n{options}"


def _option(option: click.Parameter, context: click.Context) -> str:
    record = option.get_help_record(context)
    if record is None:
        return ""
    flags, text = record
    found = _EXTRA.search(text)
    extra = found[1] if found else ""
    if extra.startswith("default: "):
        value = extra.removeprefix("default: ").strip() or '""'
        extra = f"Default: `{value}`."
    return entry(f"`{flags}`", prose(_EXTRA.sub("", text)), extra.replace("required", "Required."))
