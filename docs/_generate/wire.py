"""The services of `proto/`, from protoc's descriptors and the comments in the files."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from docs._generate.markdown import prose, table

PROTO = Path(__file__).resolve().parents[2] / "proto"
# Numbers of the fields that protoc's paths to comments are made of (descriptor.proto).
_MESSAGES, _ENUMS, _SERVICES, _SYNTAX = 4, 5, 6, 12
_FIELDS, _NESTED, _NESTED_ENUMS = 2, 3, 4
_STATUS = re.compile(r"^([A-Z][A-Z_]{3,}(?:, [A-Z_]+)*):\s*(.*)")

Path_ = tuple[int, ...]


class Comments:
    """The comments of a file, by the path of what they stand at."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts: dict[Path_, str] = {}
        for place in file.source_code_info.location:
            above = [*place.leading_detached_comments, place.leading_comments]
            wanted = above if tuple(place.path) == (_SYNTAX,) else above[-1:]
            self._texts[tuple(place.path)] = "\n".join([*wanted, place.trailing_comments]).strip("\n")

    def block(self, path: Path_) -> str:
        """Returns a comment as paragraphs; lines that begin with a status become a list."""
        parts: list[str] = []
        for line in self._texts.get(path, "").splitlines():
            text = line.strip()
            status = _STATUS.match(text)
            if status:
                parts.append(f"\n- **{status[1].replace('_', chr(92) + '_')}**: {prose(status[2])}")
            elif text.startswith("- "):
                parts.append(f"\n- {prose(text[2:])}")
            else:
                parts.append(f" {prose(text)}" if text else "\n\n")
        return "".join(parts).strip() + "\n\n"

    def line(self, path: Path_) -> str:
        """Returns a comment as one line."""
        return prose(" ".join(self._texts.get(path, "").split()))


def services() -> str:
    """Returns every service, message and enum of every file, with what the files say of them."""
    return "".join(_file(file) for file in _descriptors().file)


def _descriptors() -> FileDescriptorSet:
    names = [path.relative_to(PROTO).as_posix() for path in sorted(PROTO.rglob("*.proto"))]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "all.binpb"
        protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO), "--include_source_info"]
        subprocess.run([*protoc, f"--descriptor_set_out={target}", *names], check=True, cwd=PROTO)
        return FileDescriptorSet.FromString(target.read_bytes())


def _file(file: FileDescriptorProto) -> str:
    comments = Comments(file)
    parts = [f"## `{file.name}`\n\nPackage `{file.package}`.\n\n", comments.block((_SYNTAX,))]
    for number, service in enumerate(file.service):
        parts.append(_service(service, comments, (_SERVICES, number)))
    for number, message in enumerate(file.message_type):
        parts += _message(message, comments, (_MESSAGES, number), "")
    for number, enum in enumerate(file.enum_type):
        parts.append(_enum(enum, comments, (_ENUMS, number), ""))
    return "".join(parts)


def _service(service: ServiceDescriptorProto, comments: Comments, path: Path_) -> str:
    text = f"### Service `{service.name}`\n\n{comments.block(path)}"
    for number, method in enumerate(service.method):
        asked = f"{'stream ' * method.client_streaming}{_short(method.input_type)}"
        answered = f"{'stream ' * method.server_streaming}{_short(method.output_type)}"
        text += f"#### `{method.name}({asked}) → {answered}`\n\n{comments.block((*path, _FIELDS, number))}"
    return text


def _message(message: DescriptorProto, comments: Comments, path: Path_, prefix: str) -> Iterator[str]:
    if message.options.map_entry:
        return
    name = prefix + message.name
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    rows = [
        (
            str(field.number),
            f"`{field.name}`",
            f"`{_type(field, maps)}`",
            comments.line((*path, _FIELDS, number)),
        )
        for number, field in enumerate(message.field)
    ]
    fields = table(("number", "field", "type", ""), rows) if rows else "No fields.\n"
    yield f"### `{name}`\n\n{comments.block(path)}{fields}\n"
    for number, nested in enumerate(message.nested_type):
        yield from _message(nested, comments, (*path, _NESTED, number), f"{name}.")
    for number, enum in enumerate(message.enum_type):
        yield _enum(enum, comments, (*path, _NESTED_ENUMS, number), f"{name}.")


def _enum(enum: EnumDescriptorProto, comments: Comments, path: Path_, prefix: str) -> str:
    rows = [
        (str(value.number), f"`{value.name}`", comments.line((*path, _FIELDS, number)))
        for number, value in enumerate(enum.value)
    ]
    return f"### Enum `{prefix}{enum.name}`\n\n{comments.block(path)}{table(('number', 'value', ''), rows)}\n"


def _type(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    name = _short(field.type_name) or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if name in maps:
        key, value = maps[name].field
        return f"map<{_type(key, {})}, {_type(value, {})}>"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _short(name: str) -> str:
    return name.rpartition(".")[2]
