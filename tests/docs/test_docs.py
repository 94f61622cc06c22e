"""The documentation builds without a warning, documents every public name, and its examples run."""

import importlib
import pathlib
import re
import subprocess
import sys
import types
import zlib

import pytest

import padam_optax

PACKAGE = pathlib.Path(padam_optax.__file__).parent
ROOT = PACKAGE.parent
DOCS = ROOT / "docs"

MODULES = [
    name
    for path in sorted(PACKAGE.rglob("*.py"))
    if not re.search(
        r"\._|\.cli(\.|$)", name := ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    )
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What the build warned of, and the full names that it documents.

    In a process of its own: autodoc replaces the defaults of the functions that it documents.
    """
    folder = tmp_path_factory.mktemp("docs")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-N",
        "-w",
        str(folder / "warnings"),
        "-d",
        str(folder / "doctrees"),
    ]
    subprocess.run([*command, str(DOCS), str(folder / "html")], cwd=ROOT, check=True, capture_output=True)
    listed = zlib.decompress((folder / "html" / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    names = {name for name, role, *_ in map(str.split, listed) if role.startswith("py:")}
    return types.SimpleNamespace(warnings=(folder / "warnings").read_text(), names=names)


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
    """Under its module, under the one that defines it, or, in the core, under the package itself."""
    assert name in built.names
    found = public_names(importlib.import_module(name))
    assert {
        each
        for each, home in found.items()
        if {f"{name}.{each}", f"{home}.{each}", f"padam_optax.{each}"}.isdisjoint(built.names)
    } == set()


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.stem)
@pytest.mark.usefixtures("registries")
def test_examples_run(path):
    """A page's blocks follow one another."""
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        exec(block, names)
