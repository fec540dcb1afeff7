"""The architecture as failing tests: import direction, owners of heavy dependencies, length of files."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("worker", "indexer", "build_models")

# First-party packages that each package may import, itself aside.
MAY_IMPORT = {
    "worker": {"embedpool"},
    "indexer": {"embedpool"},
    "build_models": {"worker"},
    "embedpool": set[str](),
}

# Dependency to the files that own it. To use one elsewhere, call its owner.
OWNERS = {
    "faiss": {
        "indexer/index/faiss_build.py",
        "indexer/index/faiss_index.py",
        "indexer/index/selection.py",
    },
    "haystack": {"indexer/adapters/haystack.py"},
    "httptools": {"worker/wires/http/listener.py"},
    "huggingface_hub": {"build_models/sources.py"},
    "ir_measures": {"build_models/quality/evaluate.py"},
    "langchain_core": {"indexer/adapters/langchain.py"},
    "llama_index": {"indexer/adapters/llama_index.py"},
    "matplotlib": {
        "build_models/canvas.py",
        "build_models/plot.py",
        "build_models/comparison/chart.py",
        "indexer/index/recall_plot.py",
    },
    "onnx": {
        "build_models/graphs/calibrate.py",
        "build_models/graphs/edit.py",
        "build_models/graphs/optimize.py",
    },
    # The worker runs graphs; the toolchain also optimizes them, and looks inside to calibrate.
    "onnxruntime": {
        "worker/session.py",
        "build_models/graphs/calibrate.py",
        "build_models/graphs/optimize.py",
    },
    "opentelemetry": {"indexer/client/tracing.py", "worker/operation/tracing.py"},
    "orjson": {"worker/wires/http/codec.py"},
    "prometheus_client": {"worker/operation/metrics.py"},
    "fsspec": {"indexer/inputs/filesystems.py"},
    "pyarrow": {
        "indexer/inputs/column_kinds.py",
        "indexer/inputs/columns.py",
        "indexer/inputs/comparisons.py",
        "indexer/inputs/filesystems.py",
        "indexer/inputs/filters.py",
        "indexer/inputs/indexed.py",
        "indexer/inputs/parquet_file.py",
        "indexer/inputs/s3.py",
        "indexer/store/deletions.py",
        "indexer/store/unit_file.py",
        "build_models/quality/tables.py",
    },
    # Actors themselves know nothing of Ray.
    "ray": {"indexer/engines/ray_actors.py", "indexer/engines/ray_cluster.py"},
    "safetensors": {"build_models/heads.py"},
    "scipy": {"build_models/quality/bootstrap.py"},
    "seqeval": {"build_models/ner/scores.py"},
    "tokenizers": {
        "worker/tokenizer.py",
        "build_models/candidates.py",
        "build_models/ner/words.py",
    },
    "torch": {
        "build_models/export.py",
        "build_models/heads.py",
        "build_models/masks.py",
        "build_models/tracing.py",
        "build_models/ner/model.py",
        "build_models/ner/train.py",
        "build_models/comparison/stand_in.py",
        "build_models/comparison/torch_baseline.py",
        # Only for who asks an encoder for tensors.
        "indexer/adapters/sentence_transformers.py",
    },
    "transformers": {"build_models/export.py", "build_models/comparison/stand_in.py"},
    "uvicorn": {"worker/wires/http/listener.py"},
    # The wire stops at the edge: inside, domain types.
    "embedpool": {
        "worker/operation/admin.py",
        "worker/operation/info.py",
        "worker/operation/top/asking.py",
        "worker/server.py",
        "worker/wires/native/conversation.py",
        "worker/wires/native/messages.py",
        "worker/wires/native/service.py",
        "worker/wires/open_inference/messages.py",
        "worker/wires/open_inference/service.py",
        "worker/wires/registry.py",
        "worker/wires/tei/conversation.py",
        "worker/wires/tei/messages.py",
        "worker/wires/tei/service.py",
        "indexer/client/channel.py",
        "indexer/client/wire.py",
        "indexer/serving/service.py",
        "indexer/serving/wire.py",
    },
}

# Packages that must not even be loaded by importing every module of a package.
NOT_LOADED_BY = {
    "worker": {
        "torch",
        "transformers",
        "onnx",
        "faiss",
        "pyarrow",
        "rich",
        "matplotlib",
        "opentelemetry",  # of the extra `tracing`: loaded when traces are wanted
        "httptools",  # of the extra `http`, as those that follow: loaded when that door is wanted
        "orjson",
        "starlette",
        "uvicorn",
        "indexer",
        "build_models",
    },
    "indexer": {
        "torch",
        "transformers",
        "onnx",
        "onnxruntime",
        "tokenizers",
        "matplotlib",
        "haystack",
        "langchain_core",
        "llama_index",
        "sentence_transformers",
        "ray",  # of the extra `ray`: loaded for `--engine ray`
        "worker",
        "build_models",
    },
}

# A package's floors, from the ground up: each may use those below it. Files that are named nowhere are the
# ground, which everybody uses.
FLOORS = {
    "worker": (
        ("settings",),
        ("scheduling",),
        ("statistics",),
        ("processes",),
        ("requests",),
        ("wires",),
        ("operation",),
        ("options", "server", "__main__"),
    ),
    "indexer": (
        ("client",),
        ("inputs",),
        ("store",),
        ("index",),
        ("embedding",),
        ("search",),
        ("serving",),
        ("engines",),
        ("operations",),
        ("estimating",),
        ("adapters",),
        ("commands",),
        ("__main__",),
    ),
}

# Each module of this package is for who has its library; the library that each loads, "" for none.
ADAPTERS = "indexer.adapters"
ADAPTED = {
    "haystack": "haystack",
    "langchain": "langchain_core",
    "link": "",
    "llama_index": "llama_index",
    "sentence_transformers": "",
}

FORBIDDEN_NAMES = ("utils", "util", "manager", "helpers", "misc", "common")
MAX_LINES = 300
MAX_TEST_LINES = 500


def _files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and top-level package of each import of a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[0] if node.level else (node.module or "").partition(".")[0]
            yield node.lineno, package


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    """Worker and indexer share only the wire; build_models uses the worker; nothing imports upwards."""
    first_party = set(MAY_IMPORT)
    wrong = [
        f"{_name(path)}:{line} imports {imported}"
        for path in _files(package)
        for line, imported in _imports(path)
        if imported in first_party - MAY_IMPORT[package] - {package}
    ]
    assert not wrong, "\n".join(wrong)


def _floor(package: str, module: Sequence[str]) -> int:
    return next((number for number, names in enumerate(FLOORS[package], 1) if module[0] in names), 0)


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_floors_rest_on_each_other(package: str) -> None:
    """Within a package nothing imports upwards either: what is scheduled knows of no process, no wire."""
    inside = [path.relative_to(ROOT / package) for path in _files(package)]
    for folder in {path.parts[0] for path in inside if len(path.parts) > 1}:
        assert _floor(package, [folder]), f"{package}/{folder} has no place in FLOORS"
    wrong = [
        f"{_name(path)}:{node.lineno} imports {node.module}"
        for path in _files(package)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.")
        if _floor(package, (node.module or "").split(".")[1:])
        > _floor(package, path.relative_to(ROOT / package).with_suffix("").parts)
        and path.name != "__init__.py"
    ]
    assert not wrong, "\n".join(wrong)


def test_every_file_of_a_package_was_looked_at() -> None:
    """The rules see real files: an empty folder would pass everything."""
    for package in PACKAGES:
        assert len(_files(package)) >= 5, package


@pytest.mark.parametrize("dependency", sorted(OWNERS))
def test_a_heavy_dependency_has_its_owners(dependency: str) -> None:
    """Only the files of the table import a heavy dependency, and the table names no file without need."""
    users = {
        _name(path) for path in _files(*PACKAGES) if dependency in {package for _, package in _imports(path)}
    }
    assert users == OWNERS[dependency]


def test_nothing_is_imported_by_a_computed_name() -> None:
    """No `importlib.import_module` or `__import__`: these rules could not see what they load."""
    wrong = [
        f"{_name(path)}:{node.lineno}"
        for path in _files(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if (isinstance(node, ast.Attribute) and node.attr == "import_module")
        or (isinstance(node, ast.Name) and node.id in {"__import__", "import_module"})
    ]
    assert not wrong, "\n".join(wrong)


_LOAD_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name.rpartition(".")[0] not in sys.argv[2:]:
        importlib.import_module(module.name)
print("\\n".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("package", sorted(NOT_LOADED_BY))
def test_a_package_loads_nothing_that_its_install_lacks(package: str) -> None:
    """Importing every module of the worker loads no torch, faiss or pyarrow; likewise the indexer."""
    loaded = _run_python(_LOAD_ALL, package, ADAPTERS).split()
    assert package in loaded
    assert not NOT_LOADED_BY[package] & set(loaded)


def test_every_adapter_has_its_library() -> None:
    """The table of adapters names each module of their package."""
    folder = ROOT / ADAPTERS.replace(".", "/")
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(ADAPTED)


@pytest.mark.parametrize("adapter", sorted(ADAPTED))
def test_an_adapter_loads_its_own_library_alone(adapter: str) -> None:
    """Who uses one library needs none of the others."""
    code = f"import {ADAPTERS}.{adapter}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = set(_run_python(code).split())
    libraries = set(ADAPTED.values()) - {""} | {"sentence_transformers", "faiss", "ray"}
    assert libraries & loaded <= {ADAPTED[adapter]}


def test_the_toolchain_shows_its_help_without_torch() -> None:
    """`python -m build_models --help` answers at once: torch is loaded when a command runs."""
    loaded = _run_python("import build_models.__main__, sys; print(*sorted(sys.modules))").split()
    assert "build_models.__main__" in loaded
    assert not {"torch", "transformers"} & set(loaded)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_a_drawer(package: str) -> None:
    """A file is named after what it does: no utils, no manager."""
    wrong = [_name(path) for path in _files(package) if any(word in path.stem for word in FORBIDDEN_NAMES)]
    assert not wrong


def test_files_stay_readable() -> None:
    """No file of the product passes 300 lines, no test file 500."""
    too_long = []
    for path in _files(*PACKAGES, "examples", "tests"):
        lines = len(path.read_bytes().splitlines())
        if lines > (MAX_TEST_LINES if _name(path).startswith("tests/") else MAX_LINES):
            too_long.append(f"{_name(path)}: {lines} lines")
    assert not too_long, "\n".join(too_long)


def _run_python(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
