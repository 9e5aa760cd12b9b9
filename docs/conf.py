"""Settings of Sphinx, for ``make docs``."""

import inspect
from importlib import metadata
from typing import Any

from numpydoc.xref import DEFAULT_LINKS
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

import limbo_compress

project = "limbo-compress"
author = project_copyright = "The limbo_compress developers"
release, _, _ = metadata.version(project).partition("+")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.githubpages",
    "sphinx_argparse_cli",
]
nitpicky = True
# Options begin with two hyphens, which would become a dash.
smartquotes = False
highlight_language = "none"
myst_heading_anchors = 3

# Names in single backticks become links.
default_role = "py:obj"
# Parameters are names, too, but have no place of their own.
nitpick_ignore_regex = [("py:obj", "[a-z_]+")]
autodoc_member_order = "bysource"
# The docstrings say the types, in words.
autodoc_typehints = "none"
autodoc_mock_imports = ["kornia", "torch", "torchvision"]
numpydoc_show_class_members = False
# Of these words only the package's own names become links: other projects' pages are out of reach.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    **{word: word for word in DEFAULT_LINKS},
    **{name: f"limbo_compress.{name}" for name in limbo_compress.__all__},
    "Samples": "limbo_compress.torch.Samples",
}

html_theme = "furo"
html_copy_source = False
html_title = f"{project} {release}"


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _look_behind_mock)


def _look_behind_mock(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, *rest: Any
) -> tuple[str, None] | None:
    """Take the signature of ``__init__`` where that of ``__new__`` is of a mocked base class."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    _, *parameters = inspect.signature(obj.__init__).parameters.values()
    return stringify_signature(inspect.Signature(parameters), show_annotation=False), None
