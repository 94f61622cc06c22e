"""The guide to adding things, followed to the letter: its blocks are a stranger's module."""

import pathlib
import re

import pytest
from typer.testing import CliRunner

from padam_optax.cli import app
from padam_optax.records.store import read_all

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Where the stranger's module lies, and the runs."""
    path = tmp_path_factory.mktemp("stranger")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    # The last block is for use from Python: it would train at each import.
    (path / "mine.py").write_text("\n".join(blocks[:-1]))
    return path


@pytest.fixture(scope="module")
def padam(folder, registries_of_a_module):
    """Runs the command in that folder."""

    def call(*arguments) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("COLUMNS", "120")
            result = CliRunner().invoke(app, ["--import", "mine", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    call("run", "stripes-padam", "stripes-lion", "--seeds", 2)
    return call


def test_it_is_listed(padam):
    output = padam("list")
    assert re.search(r"stripes-lion +2 +0\.001", output)
    assert "stripes-padam" in output


@pytest.mark.usefixtures("padam")
def test_it_is_recorded(folder):
    records = read_all(folder / "runs")
    assert [(record.experiment.name, record.seed) for record in records] == [
        ("stripes-lion", 0),
        ("stripes-lion", 1),
        ("stripes-padam", 0),
        ("stripes-padam", 1),
    ]
    assert all(record.whole and record.epochs == 2 and record.data.label == "stripes" for record in records)


def test_it_is_in_the_table_and_the_figure(padam, folder):
    output = padam("report", "runs", "--out", "results")
    assert "stripes on stripes, 2 epochs" in " ".join(output.split())
    (header,) = (line for line in (folder / "results" / "stripes.md").read_text().splitlines() if "Lion" in line)
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns[-1] == "Lion"
    assert "Padam" in columns
    assert (folder / "results" / "stripes.png").read_bytes().startswith(b"\x89PNG")
    assert "stripes.png" in (folder / "results" / "results.md").read_text()


def test_it_is_swept(padam, folder):
    output = padam("sweep", "stripes-lion", "--learning-rate", "1e-3,1e-2", "--mode", "mapped", "--batch-configs", 2)
    assert "learning_rate = 0.01" in output
    assert {record.experiment.trial for record in read_all(folder / "sweeps")} == {("learning_rate",)}


def test_a_module_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["--import", "nowhere", "list"])
    assert result.exit_code == 2
    assert "there is no module 'nowhere'" in " ".join(result.output.split())
