"""Writes the shared cells of all notebooks, and their stored outputs.

    python notebooks/refresh.py [NAME ...]

writes each notebook's badge and first code cell, which installs the package, from pyproject.toml. It then runs the
notebook as the tests do, with PADAM_SMOKE=1, and stores it with its outputs. If an output has a traceback, a warning or
a path of this machine, the notebook stays unchanged.
"""

import os
import pathlib
import re
import sys
import tomllib
from typing import Any

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).resolve().parent
METADATA = {
    "accelerator": "GPU",
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def _project() -> dict[str, Any]:
    return tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]


def repository() -> str:
    """The repository's address, which only pyproject.toml holds."""
    return _project()["urls"]["Repository"]


def lowest_jax() -> str:
    """The lowest version of jax that the package supports, such as "0.10.2"."""
    (found,) = (each.removeprefix("jax>=") for each in _project()["dependencies"] if each.startswith("jax>="))
    return found


def badge(name: str) -> str:
    """A badge in Markdown that opens notebooks/<name>.ipynb of the repository's main branch in Colab."""
    address = repository().replace("https://", "https://colab.research.google.com/")
    address = address.replace("google.com/github.com/", "google.com/github/")
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({address}/blob/main/notebooks/{name}.ipynb)"


def install_cell() -> str:
    """The first code cell. The constraint keeps every installed jax package: pip fails rather than replace one."""
    return f"""\
import importlib.metadata
import os

from packaging.version import Version

SMOKE = os.environ.get("PADAM_SMOKE") == "1"  # small settings, nothing to install: the tests
NEEDED = "{lowest_jax()}"  # the lowest jax that works
for jax in importlib.metadata.distributions(name="jax"):
    if Version(jax.version) < Version(NEEDED):
        raise RuntimeError(
            f"This notebook needs jax {{NEEDED}} or newer, and jax {{jax.version}} is installed. Upgrade it as"
            " https://docs.jax.dev/en/latest/installation.html says, restart the runtime, and run this cell again."
        )
if not SMOKE:  # the jax that is here stays: on Colab it is the one that fits the GPU
    !pip freeze | grep -i "^jax" > jax-installed.txt
    !pip install --quiet --constraint jax-installed.txt "padam_optax[experiments] @ git+{repository()}"
"""


def with_shared_cells(notebook: Any, name: str) -> Any:
    """The notebook with its badge and first code cell, and without metadata of a machine."""
    first = notebook.cells[0]
    first.source, count = re.subn(r"^\[!\[Open in Colab\].*$", badge(name), first.source, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{name}: the first cell must have one line [![Open in Colab]], got {count}.")
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.source = install_cell().strip()
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    notebook.metadata = METADATA
    return notebook


def problems(notebook: Any) -> list[str]:
    """The tracebacks, warnings and machine paths in the stored outputs, which must have none."""
    found: list[str] = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"cell {number}: {output.get('ename', output.get('text'))}")
                continue
            data = output.get("data", {})
            text = "\n".join((output.get("text", ""), data.get("text/plain", ""), data.get("text/markdown", "")))
            found += [f"cell {number}: {match}" for match in re.findall(r"\w*Warning\b.*|(?<![\w.:/])/\w+/\S*", text)]
    return found


def main(names: list[str]) -> None:
    os.environ["PADAM_SMOKE"] = "1"
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = with_shared_cells(nbformat.read(path, as_version=4), path.stem)
        resources = {"metadata": {"path": str(FOLDER)}}
        nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
        notebook = with_shared_cells(notebook, path.stem)
        if found := problems(notebook):
            sys.exit("\n".join((path.name, *found)))
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
