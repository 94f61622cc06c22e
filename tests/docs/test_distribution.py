"""What is built for a package index: its files, its metadata, and its types, seen from outside the checkout."""

import email
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]

TYPED_PROGRAM = """\
import jax
import optax
import padam_optax
from padam_optax import diagnostics

schedule = optax.piecewise_constant_schedule(0.1, {100: 0.1})
optimizer: optax.GradientTransformationExtraArgs = padam_optax.padam(schedule, p=1 / 8, weight_decay=5e-4)
chained = optax.chain(padam_optax.scale_by_partial_amsgrad(p=0.25), optax.scale_by_learning_rate(0.1))


def step(params: optax.Params, state: optax.OptState, gradients: optax.Updates) -> tuple[optax.Params, optax.OptState]:
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def share(state: optax.OptState) -> jax.Array:
    return diagnostics.summarize(state, 0.1, p=1 / 8, threshold=1e-4).share_below


sampled = padam_optax.with_sampled_iterate(optimizer, schedule, jax.random.key(0))
"""
BADLY_TYPED = "import padam_optax\npadam_optax.padam(0.1, p='1/8')\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_wheel(built):
    """The package, typed, and nothing else; small."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
    assert "padam_optax/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"padam_optax"}
    assert {pathlib.PurePath(name).suffix for name in names if name.startswith("padam_optax/")} == {".py", ".typed"}
    # A zip compresses each file by itself: the more rooms, the larger it is for the same code.
    assert path.stat().st_size < 320_000


def test_sdist(built):
    """The same with what describes it; no tests, no records."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {pathlib.PurePath(name).parts[1] for name in archive.getnames()}
    assert names == {
        "padam_optax",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "CITATION.cff",
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    }
    assert path.stat().st_size < 240_000


def test_metadata(built):
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_description(built):
    """What an index shows stands by itself: its example runs, and no link is relative to the repository."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        text = email.message_from_bytes(wheel.read(name)).get_payload()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(example, {})
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)


def test_types_from_outside(built, tmp_path):
    """A type checker finds the wheel's types: it accepts a typed program and refuses a wrong one."""
    (path,) = built.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(site)
    (tmp_path / "typed.py").write_text(TYPED_PROGRAM)
    (tmp_path / "wrong.py").write_text(BADLY_TYPED)
    settings = {"extraPaths": [str(site)], "typeCheckingMode": "strict", "include": ["typed.py", "wrong.py"]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    ours = [each for each in found if "padam_optax" in each["message"] or "wrong.py" in each["file"]]
    assert [pathlib.Path(each["file"]).name for each in ours] == ["wrong.py"], ours
    assert '"p"' in ours[0]["message"]
