"""What runs as `python benchmarks/<folder>/<script>.py` finds what it imports, and says how it is run."""

import pathlib
import runpy
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
MODULES = sorted(BENCHMARKS.glob("*/*.py"))
SCRIPTS = [path for path in MODULES if "parse_args" in path.read_text()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path, monkeypatch, capsys):
    """With its own folder in front of the search path, as Python puts it there, and none of the others."""
    folders = {str(each.parent) for each in MODULES}
    monkeypatch.setattr(sys, "path", [str(path.parent), *(entry for entry in sys.path if entry not in folders)])
    for each in MODULES:
        monkeypatch.delitem(sys.modules, each.stem, raising=False)
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(path), run_name="__main__")
    assert done.value.code == 0
    assert f"usage: {path.name}" in capsys.readouterr().out
    where = path.relative_to(BENCHMARKS.parent).as_posix()
    assert f"    python {where}" in path.read_text()
    assert f"`{path.parent.name}/{path.name}`" in (BENCHMARKS / "README.md").read_text()
