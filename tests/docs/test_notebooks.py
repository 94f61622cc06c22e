"""What stands in the notebooks as stored. That they run is tested by nbmake, which collects them from notebooks/."""

import importlib
import pathlib
import re
import sys
import types

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = re.compile(r"(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/[\w.-]+)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def refresh():
    """notebooks/refresh.py."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    try:
        return importlib.import_module("refresh")
    finally:
        sys.path.pop(0)


@each_notebook
def test_badge_and_installation_follow_from_pyproject(path, refresh):
    notebook = nbformat.read(path, as_version=4)
    stored = [cell.source for cell in notebook.cells]
    shared = refresh.with_shared_cells(notebook, path.stem)
    assert [cell.source for cell in shared.cells] == stored
    assert refresh.badge(path.stem) in stored[0]
    code = next(cell for cell in notebook.cells if cell.cell_type == "code").source
    assert f'"padam_optax[experiments] @ git+{refresh.repository()}"' in code


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff", *(f"notebooks/{path.name}" for path in NOTEBOOKS)])
def test_one_repository(name, refresh):
    owner_and_name = refresh.repository().removeprefix("https://github.com/")
    assert set(ADDRESS.findall((ROOT / name).read_text())) == {owner_and_name}


def test_readme_has_every_badge(refresh):
    readme = (ROOT / "README.md").read_text()
    assert [path.stem for path in NOTEBOOKS if refresh.badge(path.stem) not in readme] == []


def test_installation_neither_pins_nor_replaces_jax(refresh):
    """No version is named, and pip is held to the jax that it finds."""
    cell = refresh.install_cell()
    assert not re.search(r"[=<>]=\s*\d", cell)
    assert "--upgrade" not in cell
    assert 'pip freeze | grep -i "^jax" > jax-installed.txt' in cell
    assert "--constraint jax-installed.txt" in cell


@pytest.mark.parametrize(("version", "works"), [("0.9.9", False), ("0.10.2", True), ("0.11.0rc1", True), (None, True)])
def test_installation_says_which_jax_it_needs(monkeypatch, refresh, version, works):
    """Before anything is installed; where there is no jax, pip brings one."""
    found = [] if version is None else [types.SimpleNamespace(version=version)]
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: found)
    monkeypatch.setenv("PADAM_SMOKE", "1")
    cell = re.sub(r"^    !.*", "    pass", refresh.install_cell(), flags=re.MULTILINE)
    if works:
        exec(cell, {})
        return
    with pytest.raises(RuntimeError, match=r"needs jax 0\.10\.2 or newer, and jax 0\.9\.9 is installed"):
        exec(cell, {})


@each_notebook
def test_stored_outputs(path, refresh):
    """Every cell was run, in order, without a complaint, and there is a picture."""
    notebook = nbformat.read(path, as_version=4)
    assert refresh.problems(notebook) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize(
    "output",
    [
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]),
        nbformat.v4.new_output("stream", name="stderr", text="anything"),
        nbformat.v4.new_output("stream", name="stdout", text="x.py:3: UserWarning: beware"),
        nbformat.v4.new_output("execute_result", data={"text/plain": "PosixPath('/home/someone/file')"}),
    ],
    ids=["error", "stderr", "warning", "path"],
)
def test_what_is_refused(output, refresh):
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    assert len(refresh.problems(nbformat.v4.new_notebook(cells=[cell]))) == 1
