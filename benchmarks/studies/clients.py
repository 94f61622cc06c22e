"""Runs other people's training code at its own Adam rate, and changes nothing but the line of the optimizer.

    git clone https://github.com/google-deepmind/nanodo && git -C nanodo checkout 10aefdeed40a
    git clone https://github.com/luchris429/purejaxrl && git -C purejaxrl checkout 31756b197773
    git clone https://github.com/patrick-kidger/equinox && git -C equinox checkout 9336d820b2ef
    python benchmarks/studies/clients.py CLIENT --source CHECKOUT [--out FILE]

CLIENT is nanodo, purejaxrl or equinox. The checkout's own code builds the model, the optimizer with its schedule, and
the training step. While it runs, `optax.adam` (`optax.adamw`) is `padam_optax.padam` (`padamw`) with p and
`reference_p=1/2` added to the arguments that the client gives. The last run follows the paper's advice instead: rate
0.1 and p = 1/8, without a reference, and with the decay that keeps the product of rate and decay.

- nanodo: a small version of its transformer with its `train.Trainer`. Windows of characters of `pydoc_data.topics`,
  which comes with Python, replace its reader of LM1B. Its loss over the held-out last tenth replaces its evaluator,
  which current versions of JAX refuse. Needs ml_collections.
- purejaxrl: `ppo.py` unchanged, on CartPole. Needs gymnax 0.0.9 (1.0 has another interface) and distrax.
- equinox: `docs/examples/train_rnn.ipynb` unchanged. Needs equinox.

Packages that a client imports for other uses (clu, brax, ...) are not needed. FILE keeps its results of other clients.
A client takes some minutes on two CPU cores.
"""

import argparse
import ast
import contextlib
import dataclasses
import fractions
import functools
import importlib
import importlib.metadata
import io
import json
import math
import pathlib
import pydoc_data.topics
import re
import statistics
import subprocess
import sys
import unittest.mock
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

import padam_optax

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import write

Scores = dict[str, float]
Run = Callable[[int], Scores]

OURS = {"adam": padam_optax.padam, "adamw": padam_optax.padamw}
REFERENCE_P = 1 / 2
# The client's own optimizer, each p at the client's own rate, and the paper's p and rate (None: the client's).
VARIANTS: tuple[tuple[Mapping[str, float], float | None], ...] = (
    ({}, None),
    *(({"p": p, "reference_p": REFERENCE_P}, None) for p in (1 / 16, 1 / 8, 1 / 4, 1 / 2)),
    ({"p": 1 / 8}, 0.1),
)


@contextlib.contextmanager
def swapped(name: str, options: Mapping[str, float]) -> Generator[None]:
    """`optax.adam` or `optax.adamw` is ours with these options, if there are any."""
    if not options:
        yield
        return
    with unittest.mock.patch.object(optax, name, functools.partial(OURS[name], **options)):
        yield


def stand_in(*names: str) -> None:
    """Lets a client import what this use of it never calls."""
    sys.modules.update({name: unittest.mock.MagicMock() for name in names})


def size(params: Any) -> int:
    """How many numbers are trained."""
    return sum(array.size for array in jax.tree.leaves(params))


def characters() -> tuple[np.ndarray, int]:
    """A text as integers from 1, for nanodo pads with 0; and how many there are, the pad included."""
    text = np.array(list("\n".join(pydoc_data.topics.topics.values())))
    alphabet, numbers = np.unique(text, return_inverse=True)
    return numbers.astype(np.int32) + 1, len(alphabet) + 1


def nanodo(source: pathlib.Path, rate: float) -> Run:
    stand_in("clu", "sentencepiece", "tensorflow_datasets")
    sys.path.append(str(source))
    factory, train = map(importlib.import_module, ("nanodo.model_factory", "nanodo.train"))
    tokens, vocabulary = characters()
    training, held_out = np.split(tokens, [len(tokens) * 9 // 10])

    c = importlib.import_module("nanodo.configs.default").get_config()
    settings = CLIENTS["nanodo"].settings
    c.model.update(settings["model"])
    c.batch_size, c.log_internal_metrics = settings["batch_size"], False
    c.opt.num_train_steps, c.opt.warmup_steps = CLIENTS["nanodo"].steps, settings["warmup_steps"]
    factor = rate / c.opt.peak_learning_rate
    for name in ("init_learning_rate", "peak_learning_rate", "final_learning_rate"):
        c.opt[name] *= factor
    c.opt.weight_decay /= factor
    batch = c.batch_size * c.model.L
    batches = held_out[: len(held_out) // batch * batch].reshape(-1, c.batch_size, c.model.L)

    def run(seed: int) -> Scores:
        mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
        model, loss = factory.get_model_and_loss(c, vocabulary)
        shardings, state = train._init_train_state(c, model, rng=jax.random.PRNGKey(seed), mesh=mesh)
        parameters = size(state.params)
        trainer = train.Trainer(c, state, mesh, shardings, loss)
        rng = np.random.default_rng(seed)
        losses = []
        for step in range(c.opt.num_train_steps):
            starts = rng.integers(len(training) - c.model.L, size=(c.batch_size, 1))
            losses.append(trainer.do_step(step, training[starts + np.arange(c.model.L)])["train_loss"])
        held_out_loss = jax.jit(lambda params, batch: loss(batch, model.apply, c)(params)[0])
        return {
            "held-out loss": float(np.mean([held_out_loss(trainer.state.params, batch) for batch in batches])),
            "training loss, last 20 steps": float(np.mean(losses[-20:])),
            "parameters": parameters,
        }

    return run


def purejaxrl(source: pathlib.Path, rate: float) -> Run:
    stand_in("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix")
    sys.path.append(str(source / "purejaxrl"))
    ppo = importlib.import_module("ppo")
    # What the script's last lines set.
    text = (source / "purejaxrl" / "ppo.py").read_text(encoding="utf-8")
    config = ast.literal_eval(re.findall(r"config = (\{.*?\n    \})", text, re.DOTALL)[0])
    train = jax.jit(ppo.make_train({**config, "LR": rate, "DEBUG": False}))

    def run(seed: int) -> Scores:
        out = train(jax.random.PRNGKey(seed))
        ended = np.asarray(out["metrics"]["returned_episode"])
        returns = np.asarray(out["metrics"]["returned_episode_returns"])
        last = slice(-(len(ended) // 10), None)
        return {
            "return, last tenth": float(returns[last][ended[last]].mean()),
            "return, all episodes": float(returns[ended].mean()),
            "parameters": size(out["runner_state"][0].params),
        }

    return run


def equinox(source: pathlib.Path, rate: float) -> Run:
    notebook = json.loads((source / "docs" / "examples" / "train_rnn.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "train_rnn"}
    # The last cell calls main().
    exec("\n".join(cells[:-1]), names)

    def run(seed: int) -> Scores:
        np.random.seed(seed)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names["main"](learning_rate=rate, seed=seed)
        losses = [float(loss) for loss in re.findall(r"loss=(\S+)", printed.getvalue())]
        model = names["RNN"](in_size=2, out_size=1, hidden_size=16, key=jax.random.PRNGKey(seed))
        return {
            "accuracy": float(re.findall(r"final_accuracy=(\S+)", printed.getvalue())[0]),
            "loss, last 20 steps": float(np.mean(losses[-20:])),
            "parameters": size(jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else None, model)),
        }

    return run


@dataclasses.dataclass(frozen=True)
class Client:
    """Someone's training code.

    Attributes:
      repository: Where it is.
      commit: The one that was tried.
      optimizer: "adam" or "adamw": what it calls of Optax.
      rate: Its own learning rate, the largest of its schedule.
      steps: Updates.
      seeds: Of the runs.
      packages: What it needs besides ours.
      settings: What is set of its configuration besides.
      make: From the checkout and a rate to a run of a seed.
    """

    repository: str
    commit: str
    optimizer: str
    rate: float
    steps: int
    seeds: Sequence[int]
    packages: Sequence[str]
    settings: Mapping[str, Any]
    make: Callable[[pathlib.Path, float], Run]


CLIENTS = {
    "nanodo": Client(
        repository="https://github.com/google-deepmind/nanodo",
        commit="10aefdeed40a63293daf112b91a5538cd24fa3a4",
        optimizer="adamw",
        rate=0.0016,
        steps=300,
        seeds=range(3),
        packages=["flax", "ml_collections"],
        settings={
            "model": {"D": 64, "H": 4, "L": 64, "N": 2, "F": 256, "dtype": "float32"},
            "batch_size": 8,
            "warmup_steps": 30,
        },
        make=nanodo,
    ),
    "purejaxrl": Client(
        repository="https://github.com/luchris429/purejaxrl",
        commit="31756b197773a52db763fdbe6d635e4b46522a73",
        optimizer="adam",
        rate=2.5e-4,
        steps=15_616,
        seeds=range(5),
        packages=["flax", "gymnax", "distrax"],
        settings={},
        make=purejaxrl,
    ),
    "equinox": Client(
        repository="https://github.com/patrick-kidger/equinox",
        commit="9336d820b2ef66b360fc6cb3611b3da5cefbb14d",
        optimizer="adam",
        rate=3e-3,
        steps=200,
        seeds=range(10),
        packages=["equinox"],
        settings={},
        make=equinox,
    ),
}


def label(optimizer: str, options: Mapping[str, float]) -> str:
    """Such as `padam_optax.padam(..., p=1/8, reference_p=1/2)`."""
    if not options:
        return f"optax.{optimizer}(...)"
    given = ", ".join(f"{name}={fractions.Fraction(value)}" for name, value in options.items())
    return f"padam_optax.{OURS[optimizer].__name__}(..., {given})"


def table(result: Mapping[str, Any]) -> str:
    """A client's result in Markdown: mean ± standard deviation over the seeds, diverged ones counted."""
    names = list(result["runs"][0]["scores"])
    lines = [f"| the line | rate | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for run in result["runs"]:
        cells = [f"`{run['optimizer']}`", f"{run['learning_rate']:g}"]
        for name in names:
            values = [value for value in run["scores"][name] if value is not None]
            text = f"{statistics.mean(values):.4g} ± {statistics.stdev(values):.2g}" if len(values) > 1 else "-"
            diverged = len(run["scores"][name]) - len(values)
            cells.append(text + f" ({diverged} diverged)" * bool(diverged))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def study(client: Client, source: pathlib.Path) -> dict[str, Any]:
    """Every variant with every seed."""
    runs, parameters = [], set()
    for options, rate in VARIANTS:
        rate = client.rate if rate is None else rate
        with swapped(client.optimizer, options):
            run = client.make(source, rate)
            found = [run(seed) for seed in client.seeds]
        parameters |= {int(scores.pop("parameters")) for scores in found}
        scores = {name: [each[name] if math.isfinite(each[name]) else None for each in found] for name in found[0]}
        runs.append({"optimizer": label(client.optimizer, options), "learning_rate": rate, "scores": scores})
        print(json.dumps(runs[-1]), flush=True)
    return {
        "repository": client.repository,
        "commit": client.commit,
        "libraries": {name: importlib.metadata.version(name) for name in ("optax", *client.packages)},
        "parameters": parameters.pop(),
        "settings": client.settings,
        "steps": client.steps,
        "seeds": list(client.seeds),
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--source", type=pathlib.Path, required=True, help="the client's checkout")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()
    client = CLIENTS[arguments.client]
    head = ["git", "-C", str(arguments.source), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True).stdout.strip()
    if commit != client.commit:
        parser.error(f"--source {arguments.source} is at {commit or 'no commit'}, not at {client.commit}.")

    result = study(client, arguments.source)
    print(table(result))
    if arguments.out is not None:
        others = json.loads(arguments.out.read_text())["clients"] if arguments.out.exists() else {}
        write(arguments.out, clients={**others, arguments.client: result})


if __name__ == "__main__":
    main()
