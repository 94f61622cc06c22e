"""Who may import whom, and how long a file may be."""

import ast
import graphlib
import importlib
import json
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterable

import pytest
from package_sources import FILES, PACKAGE, each_file, imports, module_name, room, tree

import padam_optax
from padam_optax.runner.datasets import DATASETS
from padam_optax.runner.programs import MODELS

CORE_DEPENDENCIES = {"jax", "optax", *sys.stdlib_module_names}
EXTRAS = {"flax", "orbax", "matplotlib", "sklearn", "scipy", "typer", "rich", "click", "chex"}

# Rooms of the package, and what of other rooms each may import besides itself: a room, or a single module of one. The
# top level's own modules are rooms too; what padam_optax itself exports are the transformations.
CORE = {"transforms", "diagnostics", "theory", "padam_optax"}
MAY_IMPORT = {
    "padam_optax": {"transforms", "diagnostics", "theory"},
    "transforms": set(),
    "diagnostics": {"transforms"},
    "theory": set(),
    "paths": set(),
    "models": set(),
    "data": {"paths"},
    "training": set(),
    "experiments": {"padam_optax", "transforms"},
    "records": {"paths", "experiments"},
    "runner": {"padam_optax", "paths", "diagnostics", "experiments", "models", "data", "training", "records"},
    "report": {"experiments", "records"},
    "cli": {
        *{"padam_optax", "paths", "experiments", "records", "runner", "report", "data"},
        *{"padam_optax.training.placement", "padam_optax.training.processes"},
    },
    "__main__": {"cli"},
}
# What neither naming experiments nor reading, reporting and listing them loads.
HEAVY = {"flax", "orbax", "matplotlib", "sklearn", "scipy", "grain", "optuna"}
LONGEST = 450


def own(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "padam_optax"}


def test_rooms_import_one_way():
    """Every room is in the table, and the table has no cycle."""
    assert MAY_IMPORT.keys() == {room(module_name(path)) for path in FILES}
    graphlib.TopologicalSorter(
        {here: {room(name) if "." in name else name for name in others} for here, others in MAY_IMPORT.items()}
    ).prepare()


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
def test_length(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST


@each_file
def test_files_of_text_name_their_encoding(path):
    """The locale's own is another one on another machine."""
    for node in (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        # What `read_text` is in the data's own modules takes no file.
        if called not in ("open", "read_text", "write_text") or (called, type(node.func)) == ("read_text", ast.Name):
            continue
        opener = ast.unparse(node.func).removesuffix(".open")
        modes = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        binary = called == "open" and any("b" in mode or ":" in mode or "|" in mode for mode in modes)
        named = any(each.arg in ("encoding", "fileobj") for each in node.keywords)
        assert binary or named or opener in ("gzip", "os", "Image", "tarfile"), f"{path}:{node.lineno}"


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
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in libraries and node.attr[0] == "_" and node.attr[:2] != "__"
    }
    assert private | attributes == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "training").glob("*.py")), ids=module_name)
def test_training_names_no_model_or_data_set(path):
    strings = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
    assert strings.isdisjoint({*MODELS, *DATASETS})


def loaded_by(*modules: str) -> set[str]:
    """What importing modules loads beside jax and optax, in a process of its own."""
    code = f"""
import json, sys
import jax, optax
before = set(sys.modules)
import {", ".join(modules)}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout))


def test_core_loads_nothing_but_jax_and_optax():
    loaded = loaded_by("padam_optax")
    assert "padam_optax" in loaded
    assert {room(name) for name in own(loaded)} <= CORE
    top_level = {name.split(".")[0] for name in loaded}
    assert top_level & EXTRAS == set()
    assert top_level <= {*CORE_DEPENDENCIES, "padam_optax", "jaxlib", "numpy"}


@pytest.mark.parametrize("rooms", [("experiments", "records"), ("report", "cli")], ids="-".join)
def test_naming_and_reporting_load_no_network(rooms):
    """Listing, `--help` and reports start without what trains, draws or searches."""
    modules = [name for path in FILES if room(name := module_name(path)) in rooms]
    assert {name.split(".")[0] for name in loaded_by(*modules)} & HEAVY == set()


# What runs code that a file holds.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def unsafe(module: ast.Module) -> set[str]:
    """What of a module reads a pickle, or could, or runs a text."""
    found = set()
    for node in ast.walk(module):
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
    assert unsafe(tree(path)) == set()


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
    assert unsafe(ast.parse(source)) == found


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
