"""The package's own files: their names, what they import, and their syntax trees."""

import ast
import functools
import pathlib

import pytest

import padam_optax

PACKAGE = pathlib.Path(padam_optax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """The folder of a module of the package, or its own name if it lies at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def module_name(path: pathlib.Path) -> str:
    """The dotted name of a file of the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or folder of the package."""
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
    """A file, parsed once."""
    return ast.parse(path.read_text())


@functools.cache
def imported_names(path: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """Each name that a file imports, anywhere in it, with what it stands for, dotted."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.asname or alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            found += [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
    return tuple(found)


@functools.cache
def imports(path: pathlib.Path) -> frozenset[str]:
    """Modules that a file imports; of others' modules, also each imported name, dotted."""
    inside = lambda name: name.split(".")[0] == "padam_optax" and not is_module(name)
    return frozenset(name.rpartition(".")[0] if inside(name) else name for _, name in imported_names(path))


each_file = pytest.mark.parametrize("path", FILES, ids=module_name)
