"""How Sphinx builds the site: `make docs`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "embedpool"
author = "the embedpool authors"
release = version_of("embedpool")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs._generate"]
exclude_patterns = ["_build", "_generate"]
smartquotes = False  # two dashes are a flag
html_theme = "furo"
html_title = f"embedpool {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

# Backticks in docstrings are code, as everywhere in this project.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_include_init_with_doc = False
napoleon_use_ivar = True  # the fields of a dataclass as one list
toc_object_entries_show_parents = "hide"
# Signatures name types of Python, of numpy and of internal files; links written in pages are checked.
nitpick_ignore_regex = [("py:.*", ".*")]
