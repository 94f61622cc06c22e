"""What docstrings say: the public names' sections and parameters, and no words that say nothing."""

import ast
import dataclasses
import functools
import inspect
import re
import typing

import pytest
from package_sources import FILES, each_file, imported_names, module_name, tree

import padam_optax

HEADING = re.compile(r"(Args|Attributes|Returns|Raises|Examples|References):")
ENTRY = re.compile(r"  (\*{0,2}\w+(?:, \*{0,2}\w+)*): *(.*)")
FILLER = re.compile(r"(Of|As there|As above|Likewise)\b")
SHORTEST = 10


def sections(value) -> dict[str, list[str]]:
    """The lines of each section of a docstring."""
    found, lines = {}, []
    for line in inspect.getdoc(value).splitlines():
        if heading := HEADING.fullmatch(line):
            lines = found[heading[1]] = []
        elif line and line[0] != " ":
            lines = []
        else:
            lines.append(line)
    return found


def entries(lines: list[str]) -> dict[str, str]:
    """The text of each entry by the names before its colon, each with the whole text where there are several."""
    found, names = {}, []
    for line in filter(None, lines):
        if line[2] != " ":
            entry = ENTRY.fullmatch(line)
            assert entry, f"{line!r} is not an entry, such as '  b1, b2: Decay rates.'"
            names = entry[1].replace("*", "").split(", ")
            found.update(dict.fromkeys(names, entry[2]))
        else:
            found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return found


def says_nothing(name: str, text: str) -> bool:
    """Whether an entry repeats its name, points elsewhere without a name, or hardly has words."""
    stems = {part[:5] for part in name.lower().split("_")}
    words = set(re.findall(r"\w+", text.lower().replace("_", " "))) - {"a", "an", "the", "its", "of", "value"}
    return len(text) < SHORTEST or bool(FILLER.match(text)) or {word[:5] for word in words} <= stems


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("learning_rate", "The learning rate.", True),
        ("params", "The parameters.", True),
        ("path", "Of the picture.", True),
        ("eps", "As there.", True),
        ("b1", "Decay.", True),
        ("b2", "Likewise, for the second moment.", True),
        ("d", "Dimension, at least 1.", False),
        ("eps", "As for :func:`padam_optax.padam`.", False),
        ("params", "Parameters, any tree of arrays.", False),
    ],
)
def test_what_says_nothing(name, text, found):
    assert says_nothing(name, text) == found


def test_entries_of_several_names():
    assert entries(["  b1, b2: Decay rates of", "    the moments.", "", "  *rest: Ignored."]) == {
        "b1": "Decay rates of the moments.",
        "b2": "Decay rates of the moments.",
        "rest": "Ignored.",
    }
    with pytest.raises(AssertionError, match="is not an entry"):
        entries(["  something else"])


# What can raise


@functools.cache
def definitions() -> dict[str, ast.AST]:
    """The package's functions, classes and methods by their dotted names."""
    found = {}
    for path in FILES:
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[f"{module_name(path)}.{node.name}"] = node
            if isinstance(node, ast.ClassDef):
                methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
                found.update({f"{module_name(path)}.{node.name}.{method.name}": method for method in methods})
    return found


@functools.cache
def meanings(module: str) -> dict[str, str]:
    """From each name of a module, imported or its own, to a dotted name."""
    (path,) = (path for path in FILES if module_name(path) == module)
    own = {name.rpartition(".")[2]: name for name in definitions() if name.rpartition(".")[0] == module}
    return own | dict(imported_names(path))


def can_raise(name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether what has this dotted name raises, or a function of the package that it names does."""
    if name not in definitions() or name in seen:
        return False
    node, module = definitions()[name], name
    while module not in map(module_name, FILES):
        module = module.rpartition(".")[0]
    if isinstance(node, ast.ClassDef):
        return any(can_raise(f"{name}.{method}", seen | {name}) for method in ("__post_init__", "__init__", "__new__"))
    named = set()
    for part in (part for statement in node.body for part in ast.walk(statement)):
        if isinstance(part, ast.Raise):
            return True
        if isinstance(part, ast.Name):
            named.add(meanings(module).get(part.id, ""))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            named.add(f"{meanings(module).get(part.value.id, '')}.{part.attr}")
    return any(can_raise(other, seen | {name}) for other in named)


# The public names

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (padam_optax, padam_optax.diagnostics, padam_optax.theory)
    for name in sorted(module.__all__)
    if callable(getattr(module, name)) and not typing.get_origin(getattr(module, name))
}
METHODS = {
    f"{name}.{method.__name__}": method
    for name, value in PUBLIC.items()
    if inspect.isclass(value)
    for method in vars(value).values()
    if inspect.isfunction(method) and method.__name__[0] != "_"
}


def members(value) -> list[str]:
    """Fields of a class, parameters of a function."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if inspect.isclass(value):
        return list(value._fields)
    return [name for name in inspect.signature(value).parameters if name != "self"]


def see_also(value) -> list[str]:
    """The functions that a docstring's `.. seealso::` names."""
    block = re.search(r"^\.\. seealso::(.*(?:\n +.*)*)", inspect.getdoc(value), re.MULTILINE)
    return re.findall(r":func:`~?([\w.]+)`", block[1]) if block else []


def test_see_also():
    """Over the end of a line, and functions only."""

    def alias():
        """Chains.

        .. seealso:: :func:`padam_optax.scale_by_x`, :class:`padam_optax.State`,
           :func:`~padam_optax.padam`
        """

    assert see_also(alias) == ["padam_optax.scale_by_x", "padam_optax.padam"]


def has_references(name: str) -> bool:
    """Whether the docstring has them, or, an alias's, leads to the `scale_by_*` whose docstring has them."""
    targets = [name, *(target for target in see_also(PUBLIC[name]) if ".scale_by_" in target)]
    return any("References" in sections(PUBLIC[target]) for target in targets)


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_public_docstrings(name):
    value = PUBLIC.get(name) or METHODS[name]
    found, of_class = sections(value), inspect.isclass(value)
    described = entries(found.get("Attributes" if of_class else "Args", []))
    assert sorted(described) == sorted(members(value))
    assert {member: text for member, text in described.items() if says_nothing(member, text)} == {}
    assert ("Raises" in found) == can_raise(f"{value.__module__}.{value.__qualname__}")
    if not of_class:
        assert "Returns" in found
    if not of_class and name in PUBLIC:
        assert "Examples" in found
        assert has_references(name)


# Every docstring


@each_file
def test_modules_say_what_they_are(path):
    assert path.name == "__main__.py" or ast.get_docstring(tree(path))


# A sentence, a paragraph or an entry that opens with "Of ", and an entry that points to one that it does not name.
OPENING = re.compile(r"(?:\A|\n\s*\n|[.:;]\s)\s*Of\s.*|\bAs there[.,;].*")


def openings(docstring: str) -> list[str]:
    return [match.strip() for match in OPENING.findall(docstring)]


@pytest.mark.parametrize(
    ("docstring", "count"),
    [
        ("Of each leaf.", 1),
        ("Draws.\n\nOf each leaf one.", 1),
        ("Args:\n  path: Of the picture.\n  eps: As there.", 2),
        ("Returns:\n  Of all rates, the largest.", 1),
        ("The rate of each leaf. It is as there is none.\n\nReturns:\n  Quantiles\n  of all.", 0),
    ],
)
def test_what_counts_as_an_opening(docstring, count):
    assert len(openings(docstring)) == count


@each_file
def test_openings(path):
    """Public functions, classes and the module itself."""
    public = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module) or (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_")
    ]
    assert [opening for node in public for opening in openings(ast.get_docstring(node) or "")] == []
