"""How the documentation is built: `python -m sphinx -W --keep-going docs build/docs`, without a network."""

import pathlib
import subprocess
import sys
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

import padam_optax

HERE = pathlib.Path(__file__).parent

project = "padam_optax"
author = "The padam_optax authors"
version = release = padam_optax.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
]
html_theme = "furo"
html_title = f"padam_optax {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
# Browsers render MathML themselves: MathJax would be loaded over the network.
html_math_renderer = "mathml"

# Every reference must lead somewhere; other libraries' pages are on the network, so that theirs stay text.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(collections|flax|jax|nnx|numpy|np|optax|pathlib|requests|typing)\..*")]

# Args say what is taken; signatures with the unions that jax's and optax's types stand for cannot be read.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_attr_annotations = False
napoleon_use_ivar = True

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False


def generate(app: Any) -> None:
    """Writes what pages include: the command's help, and the pictures of the recorded sweeps and of the examples."""
    folder = HERE / "generated"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "typer", "padam_optax.cli", "utils", "docs", "--name", "padam"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (folder / "command.md").write_text(text, encoding="utf-8")
    study = HERE.parent / "benchmarks" / "studies" / "reference_p.py"
    records = HERE.parent / "benchmarks" / "records" / "studies" / "reference-p.jsonl"
    subprocess.run([sys.executable, study, "report", records, "--picture", folder / "reference-maps.png"], check=True)
    subprocess.run([sys.executable, HERE / "pictures" / "examples.py", folder], check=True)


def skip_fields(app: Any, what: str, name: str, obj: object, skip: bool, options: Any) -> bool | None:
    """Leaves out what NamedTuple says of its fields: the class's docstring says it better."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def write_inline(translator: Any, node: nodes.math) -> None:
    """Writes a formula within text."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def write_block(translator: Any, node: nodes.math_block) -> None:
    """Writes a formula on lines of its own."""
    translator.body.append(convert(node.astext(), display="block"))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
    app.connect("builder-inited", generate)
    app.connect("autodoc-skip-member", skip_fields)
