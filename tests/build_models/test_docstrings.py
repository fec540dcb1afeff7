"""Docstrings are read from files that are never run, in an order that does not change."""

import sys
from itertools import islice
from pathlib import Path

from build_models.quality.docstrings import Docstring, default_roots, iter_docstrings

_MODULE = '''"""Module line.

Module body.
"""
import sys
sys.exit("this file was run")

class Shape(Base, metaclass=Meta):
    """A shape."""

    def area(self, scale: float = 1.0) -> float:
        """Returns the area.

            Indented

        body.
        """

    async def wait(self): "Waits."

    def _private(self):
        """Not public."""

    def silent(self): ...

def area(): """Another area."""

def area(): """Defined again."""
'''


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_names_signatures_and_texts(tmp_path: Path) -> None:
    """Every public docstring comes once, with its dotted name and a signature one would recognize."""
    _write(tmp_path / "pkg" / "__init__.py", '"""Package."""')
    _write(tmp_path / "pkg" / "shapes.py", _MODULE)
    found = list(iter_docstrings([tmp_path]))
    assert [(d.qualified_name, d.signature) for d in found] == [
        ("pkg", "module pkg"),
        ("pkg.shapes", "module pkg.shapes"),
        ("pkg.shapes.Shape", "class Shape(Base)"),
        ("pkg.shapes.Shape.area", "def area(self, scale: float=1.0) -> float"),
        ("pkg.shapes.Shape.wait", "async def wait(self)"),
        ("pkg.shapes.area", "def area()"),
    ]
    area = found[3]
    assert (area.summary, area.body) == ("Returns the area.", "Indented\n\nbody.")
    assert found[5].text == "Another area."
    assert (found[4].summary, found[4].body) == ("Waits.", "")


def test_summary_is_the_first_paragraph_on_one_line() -> None:
    """A summary over two lines is one line; what follows the empty line is the body."""
    docstring = Docstring("a", "def a()", "One\ntwo.\n\nBody\nhere.\n")
    assert (docstring.summary, docstring.body) == ("One two.", "Body\nhere.")


def test_unreadable_files_are_passed_over(tmp_path: Path) -> None:
    """Wrong syntax, wrong encodings, null bytes, deep nesting and odd file kinds end no walk."""
    _write(tmp_path / "a_syntax.py", "def (:")
    _write(tmp_path / "b_bytes.py", b'"""\xff\xfe"""')
    _write(tmp_path / "c_null.py", b'"""a"""\0')
    _write(tmp_path / "d_deep.py", "x = " + "(" * 5000 + ")" * 5000)
    _write(tmp_path / "e_latin.py", '# coding: latin-1\n"""Café."""\n'.encode("latin-1"))
    _write(tmp_path / "f_escape.py", '"""A surrogate \\ud800 and an escape \\d."""')
    _write(tmp_path / "g_unknown.py", '# coding: no-such-codec\n"""x"""')
    _write(tmp_path / "h_empty.py", '"""   """')
    (tmp_path / "i_folder.py").mkdir()
    (tmp_path / "j_dangling.py").symlink_to(tmp_path / "nowhere")
    found = list(iter_docstrings([tmp_path, tmp_path / "no-such-root"]))
    assert [(d.qualified_name, d.text) for d in found] == [
        ("e_latin", "Café."),
        ("f_escape", "A surrogate ? and an escape \\d."),
    ]


def test_only_public_code_of_packages(tmp_path: Path) -> None:
    """Tests, vendored copies and folders that cannot be imported are not walked."""
    for name in ("pkg/tests", "pkg/_vendor", "site-packages/other", "some-data", "__pycache__"):
        _write(tmp_path / name / "mod.py", '"""Hidden."""')
    _write(tmp_path / "pkg" / "mod.py", '"""Seen."""')
    assert [d.qualified_name for d in iter_docstrings([tmp_path])] == ["pkg.mod"]


def test_same_order_every_time(tmp_path: Path) -> None:
    """Order is that of names, not of the file system; roots come in the order given, names once."""
    for name in ("zebra", "ant", "mole"):
        _write(tmp_path / "one" / f"{name}.py", f'"""{name}."""')
    _write(tmp_path / "two" / "ant.py", '"""Another ant."""')
    first = list(iter_docstrings([tmp_path / "two", tmp_path / "one"]))
    assert [(d.qualified_name, d.text) for d in first] == [
        ("ant", "Another ant."),
        ("mole", "mole."),
        ("zebra", "zebra."),
    ]
    assert list(iter_docstrings([tmp_path / "two", tmp_path / "one"])) == first


def test_standard_library_without_importing_it() -> None:
    """This Python's own library gives real docstrings, and walking it imports nothing."""
    before = set(sys.modules)
    found = list(islice(iter_docstrings(default_roots()[:1]), 300))
    assert len({d.qualified_name for d in found}) == 300
    assert set(sys.modules) == before
