"""Docstrings of installed Python code: a corpus that every machine has.

Files are parsed, never imported, so nothing of them runs. The order is that of the roots given, then of
paths, then of lines, so that the same installation always gives the same docstrings in the same order.
"""

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Folders whose docstrings describe no public code: tests, vendored copies, caches, other environments.
_SKIPPED_FOLDERS = frozenset(
    {
        "test",
        "tests",
        "testing",
        "_vendor",
        "vendor",
        "__pycache__",
        "site-packages",
        "dist-packages",
        "idlelib",
    }
)
_MAX_FILE_BYTES = 2 << 20  # larger files are generated tables; arbitrary

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Docstring:
    """The docstring of one module, class or function.

    Attributes:
        qualified_name: Dotted name, from the top-level package down; unique within one walk.
        signature: The definition's line as one would read it, such as `def open(path, mode='r') -> File`.
        text: The docstring, its indentation cleaned.
    """

    qualified_name: str
    signature: str
    text: str

    @property
    def summary(self) -> str:
        """The first paragraph, as one line."""
        return " ".join(self.text.split("\n\n", 1)[0].split())

    @property
    def body(self) -> str:
        """What follows the first paragraph; "" if nothing does."""
        return self.text.split("\n\n", 1)[1].strip() if "\n\n" in self.text else ""


def default_roots() -> tuple[Path, ...]:
    """Returns the folders of this interpreter's standard library and of its installed packages."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys(Path(paths[key]) for key in ("stdlib", "purelib", "platlib")))


def iter_docstrings(roots: Iterable[Path] | None = None) -> Iterator[Docstring]:
    """Yields each docstring under `roots` (default: `default_roots`), one for each qualified name.

    Files that are not valid Python, or not text in the encoding they declare, are passed over: an
    installation may hold such files on purpose.
    """
    seen: set[str] = set()
    for root in default_roots() if roots is None else roots:
        for path in _python_files(root):
            tree = _parse(path)
            if tree is None:
                continue
            for docstring in _read(tree, _module_name(root, path)):
                if docstring.qualified_name not in seen:
                    seen.add(docstring.qualified_name)
                    yield docstring


def _python_files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # gone or not readable: as if it were not there
        return
    for entry in entries:
        if entry.is_dir():
            if entry.name not in _SKIPPED_FOLDERS and entry.name.isidentifier():
                yield from _python_files(entry)
        elif entry.suffix == ".py" and entry.stem.isidentifier():
            yield entry


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _parse(path: Path) -> ast.Module | None:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            return None
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's code: invalid escapes and the like
            return ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _read(node: ast.Module | _Definition, name: str) -> Iterator[Docstring]:
    text = ast.get_docstring(node)
    if text and text.strip():
        yield Docstring(name, _signature(node, name), _encodable(inspect.cleandoc(text)))
    for child in node.body:
        if isinstance(child, _Definition) and not child.name.startswith("_"):
            yield from _read(child, f"{name}.{child.name}")


def _signature(node: ast.Module | _Definition, name: str) -> str:
    if isinstance(node, ast.Module):
        return f"module {name}"
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return _encodable(f"{start} {node.name}({ast.unparse(node.args)}){returns}")


def _encodable(text: str) -> str:
    """Returns the text with lone surrogates replaced, which no file and no wire can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
