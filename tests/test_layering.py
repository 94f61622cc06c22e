"""Who may import whom, and what the public names document."""

import ast
import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import types

import pytest

import padam_optax
from padam_optax.runner.datasets import DATASETS
from padam_optax.runner.programs import MODELS

PACKAGE = pathlib.Path(padam_optax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
CORE_DEPENDENCIES = {"jax", "optax", *sys.stdlib_module_names}
EXTRAS = {"flax", "orbax", "matplotlib", "sklearn", "scipy", "typer", "rich", "click", "chex"}

# Rooms of the package, and what of other rooms each may import besides itself: a room, or a single module of one. The
# top level's own modules are rooms too.
CORE = {"transforms", "diagnostics", "theory", "padam_optax"}
MAY_IMPORT = {
    "padam_optax": {"transforms", "diagnostics", "theory"},
    "transforms": set(),
    "diagnostics": {"transforms"},
    "theory": {"transforms"},
    "models": set(),
    "data": set(),
    "training": set(),
    "experiments": {"padam_optax", "transforms"},
    "records": {"experiments"},
    "runner": {*CORE, "experiments", "models", "data", "training", "records"},
    "report": {"experiments", "records"},
    "cli": {"padam_optax", "experiments", "records", "runner", "report", "data", "training"},
    "__main__": {"cli"},
}


def room(module: str) -> str:
    """The folder of a module of the package, or its own name if it lies at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def module_name(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: pathlib.Path) -> set[str]:
    """Modules that a file imports, anywhere in it; of others' modules, also each imported name, dotted."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                ours = node.module.split(".")[0] == "padam_optax"
                found.add(node.module if ours and not is_module(dotted) else dotted)
    return found


def own(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "padam_optax"}


each_file = pytest.mark.parametrize("path", FILES, ids=module_name)


@each_file
def test_rooms(path):
    here = room(module_name(path))
    allowed = {here, *MAY_IMPORT[here]}
    assert {name for name in own(imports(path)) if room(name) not in allowed and name not in allowed} == set()


@each_file
def test_no_private_module_of_another_room(path):
    """A module whose name begins with an underscore is for its own room."""
    here = room(module_name(path))
    private = {name for name in own(imports(path)) if re.search(r"\._[a-z]", name)}
    assert {name for name in private if room(name) != here} == set()


@each_file
def test_core_needs_jax_and_optax_only(path):
    if room(module_name(path)) in CORE:
        assert {name.split(".")[0] for name in imports(path)} <= {*CORE_DEPENDENCIES, "padam_optax"}


@each_file
def test_no_private_module_of_another_library(path):
    foreign = imports(path) - own(imports(path))
    private = {name for name in foreign if any(part[0] == "_" and part[:2] != "__" for part in name.split("."))}
    # The standard library documents os._exit.
    libraries = {name.split(".")[0] for name in foreign} - set(sys.stdlib_module_names)
    attributes = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in libraries and node.attr[0] == "_" and node.attr[:2] != "__"
    }
    assert private | attributes == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "training").glob("*.py")), ids=module_name)
def test_training_names_no_model_or_data_set(path):
    strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert strings.isdisjoint({*MODELS, *DATASETS})


def test_core_loads_nothing_but_jax_and_optax():
    code = """
import json, sys
import jax, optax
before = set(sys.modules)
import padam_optax
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(result.stdout))
    assert "padam_optax" in loaded
    assert {room(name) for name in own(loaded)} <= CORE
    top_level = {name.split(".")[0] for name in loaded}
    assert top_level & EXTRAS == set()
    assert top_level <= {*CORE_DEPENDENCIES, "padam_optax", "jaxlib", "numpy"}


# What runs code that a file holds.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def unsafe(source: str) -> set[str]:
    """What of a module reads a pickle, or could, or runs a text."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found.update({name.split(".")[0] for name in names} & UNSAFE_MODULES)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.update({node.func.id} & UNSAFE_CALLS)
        elif isinstance(node, ast.Attribute) and node.attr == "read_pickle":
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.update({node.arg} if not (isinstance(node.value, ast.Constant) and node.value.value is False) else {})
    return found


@each_file
def test_nothing_read_from_a_file_is_run(path):
    assert unsafe(path.read_text()) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", {"pickle"}),
        ("import os, joblib.memory", {"joblib"}),
        ("from pickle import loads", {"pickle"}),
        ("numpy.load(path, allow_pickle=True)", {"allow_pickle"}),
        ("numpy.load(path, allow_pickle=flag)", {"allow_pickle"}),
        ("numpy.load(path, allow_pickle=False)", set()),
        ("numpy.load(path)", set()),
        ("pandas.read_pickle(path)", {"read_pickle"}),
        ("eval(text)", {"eval"}),
        ("model.eval()", set()),
        ("re.compile(pattern)", set()),
    ],
)
def test_what_counts_as_unsafe(source, found):
    assert unsafe(source) == found


# Where the two differ: the name of a package in an import, and of what one installs for it.
DISTRIBUTIONS = {"absl": "absl-py", "PIL": "pillow", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn"}


def test_what_is_imported_is_declared():
    declared = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    lines = [*declared["dependencies"], *extras["experiments"], *extras["search"]]
    installed = {re.split("[<>=]", line)[0] for line in lines}
    foreign = {name.split(".")[0] for path in FILES for name in imports(path)} - {
        *sys.stdlib_module_names,
        "padam_optax",
    }
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} - installed == set()


def test_public_names():
    named = {
        name for name, value in vars(padam_optax).items() if name[0] != "_" and not isinstance(value, types.ModuleType)
    }
    assert named == set(padam_optax.__all__) - {"__version__"}
    assert list(padam_optax.__all__) == sorted(padam_optax.__all__)
    assert padam_optax.__version__


@pytest.mark.parametrize("name", ["diagnostics", "theory"])
def test_modules_are_imported_when_asked_for(name):
    assert getattr(padam_optax, name) is importlib.import_module(f"padam_optax.{name}")
    assert name in dir(padam_optax)


PUBLIC = [
    getattr(module, name)
    for module in (padam_optax, padam_optax.diagnostics, padam_optax.theory)
    for name in sorted(module.__all__)
    if callable(getattr(module, name))
]


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: f"{value.__module__}.{value.__name__}")
def test_public_docstrings(value):
    text = inspect.getdoc(value)
    if inspect.isclass(value):
        sections, members = ["Attributes"], value._fields
    else:
        sections, members = ["Args", "Returns", "Raises", "Examples", "References"], inspect.signature(value).parameters
    lines = text.splitlines()
    assert [f"{section}:" for section in sections if f"{section}:" not in lines] == []
    assert [member for member in members if not any(line.startswith(f"  {member}:") for line in lines)] == []


@each_file
def test_modules_say_what_they_are(path):
    if path.name != "__main__.py":
        assert importlib.import_module(module_name(path)).__doc__
