"""The documentation builds without a warning, documents every public name, and its examples run."""

import importlib
import io
import pathlib
import re
import types

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import padam_optax

# Of Sphinx and its extensions among themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

PACKAGE = pathlib.Path(padam_optax.__file__).parent
ROOT = PACKAGE.parent
DOCS = ROOT / "docs"

MODULES = [
    name
    for path in sorted(PACKAGE.rglob("*.py"))
    if not re.search(
        r"\._|\.cli$", name := ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    )
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What the build warned of, and the full names that it documents."""
    folder = tmp_path_factory.mktemp("docs")
    warnings = io.StringIO()
    with docutils_namespace():
        app = Sphinx(DOCS, DOCS, folder / "html", folder / "doctrees", "html", status=None, warning=warnings)
        app.build()
    return types.SimpleNamespace(warnings=warnings.getvalue(), names=set(app.env.get_domain("py").objects))


def test_no_warnings(built):
    assert built.warnings == ""


def public_names(module: types.ModuleType) -> dict[str, str]:
    """Where each public name of a module is defined: those in `__all__`, or else its own functions and classes."""
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
    ]
    return {
        name: getattr(getattr(module, name), "__module__", module.__name__) for name in getattr(module, "__all__", own)
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(built, name):
    """Under its module, or under the one that defines it."""
    assert name in built.names
    found = public_names(importlib.import_module(name))
    assert {
        each for each, home in found.items() if {f"{name}.{each}", f"{home}.{each}"}.isdisjoint(built.names)
    } == set()


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.stem)
def test_examples_run(path):
    """A page's blocks follow one another."""
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        exec(block, names)
