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
    """What the build warned of, the full names that it documents, and the folder of its pages.

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
    return types.SimpleNamespace(warnings=(folder / "warnings").read_text(), names=names, html=folder / "html")


def test_no_warnings(built):
    assert built.warnings == ""


# What a browser fetches by itself: scripts, styles, pictures and fonts, but no links that a reader follows.
FETCHED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//[^>]*>|<link\b[^>]*\bhref="(?:https?:)?//[^>]*>"""
)


def test_what_counts_as_fetched():
    assert FETCHED.findall('<script async src="https://cdn.example/mathjax.js"></script><img src="//a/b.png">')
    assert FETCHED.findall('<link rel="stylesheet" href="https://fonts.example/x.css">')
    assert not FETCHED.findall(
        '<a href="https://arxiv.org/abs/1806.06763">paper</a><script src="_static/a.js"></script>'
    )


def test_pages_need_no_network(built):
    """Formulas are MathML, and nothing is fetched from elsewhere, by a page or by a style."""
    pages = {path: path.read_text() for path in built.html.rglob("*.html")}
    assert {path.name: found for path, text in pages.items() if (found := FETCHED.findall(text))} == {}
    styles = [path for path in built.html.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//", path.read_text())]
    assert styles == []
    formulas = re.findall(r"<math .*?</math>", "".join(pages.values()), re.DOTALL)
    assert len(formulas) > 100
    assert [formula for formula in formulas if "\\" in re.sub(r"<[^>]*>", "", formula)] == []


def test_every_picture_is_described(built):
    """What a reader who cannot see a picture is told instead: more than a word."""
    pages = [(built.html / path.relative_to(DOCS)).with_suffix(".html") for path in DOCS.glob("*.md")]
    pictures = {path.stem: re.findall(r"<img\b[^>]*>", path.read_text()) for path in pages}
    assert len(pictures["examples"]) == 12
    bare = {page: [each for each in found if not re.search(r'\balt="[^"]* ', each)] for page, found in pictures.items()}
    assert not any(bare.values()), bare


def test_every_example_has_a_picture_and_a_card(built):
    """The gallery leads to each section, by the picture that the section shows."""
    page = (built.html / "examples.html").read_text()
    gallery, *sections = re.split(r'<section id="(?=[\w-]+">\s*<h2>)', page)
    cards = re.findall(r'<div class="sd-card .*?src="([^"]+)".*?href="#([^"]+)"', gallery, re.DOTALL)
    assert len(cards) == 6
    assert cards == [(re.findall(r'<img\b[^>]*src="([^"]+)"', text)[0], text.split('"')[0]) for text in sections]


def test_the_first_page_leads_to_every_guide(built):
    """By a card."""
    cards = re.findall(r'class="sd-stretched-link[^>]*href="([\w/.-]+)\.html"', (built.html / "index.html").read_text())
    assert len(cards) == len(set(cards))
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} | {"api/core", "generated/command"} == set(cards)


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
    """A page's blocks follow one another. They raise nothing, and hold assertions of their own."""
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        exec(block, names)


def test_pictures_are_kept():
    """What the pages show of `benchmarks/reports`, where git leaves new files out, is in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "benchmarks/reports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    kept = set(listed.stdout.split())
    shown = {
        "benchmarks/reports/" + name
        for page in (*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "benchmarks" / "README.md")
        for name in re.findall(r"reports/([\w=.-]+)", page.read_text(encoding="utf-8"))
    }
    assert shown
    assert shown <= kept
