"""Requests: what one call of `padam run`, or one line of a queue, asks for."""

import argparse
import dataclasses
import os
import pathlib
import re
import shlex
from typing import Any, NoReturn

from padam_optax.cli.select import selected
from padam_optax.experiments.spec import Experiment
from padam_optax.paths import expanded
from padam_optax.runner.search_space import MOST_JOBS, MOST_SEEDS, check_seeds


@dataclasses.dataclass(frozen=True)
class Request:
    """Experiments, seeds and options.

    Attributes:
      names: Experiments, or patterns of their names.
      table: A table of the paper; adds its experiments.
      figure: A figure of the paper; adds its experiments.
      seed: Seeds; empty for those of `seeds`.
      seeds: Number of seeds, from 0 on; without both, seed 0.
      epochs: Number of epochs to train; None for the experiment's.
      dtype: Dtype of activations; None for the experiment's.
      moment_dtype: Dtype of moments; None for the experiment's.
      data_dir: Folder of the data.
      data_label: Name of results on these data.
      unknown_words: What to do with words that the training text lacks: "raise" or "replace".
      out: Folder of the records.
      jobs: Number of runs side by side.
    """

    names: list[str]
    table: int | None
    figure: int | None
    seed: list[int]
    seeds: int | None
    epochs: int | None
    dtype: str | None
    moment_dtype: str | None
    data_dir: pathlib.Path | None
    data_label: str
    unknown_words: str
    out: pathlib.Path
    jobs: int

    @property
    def data(self) -> dict[str, Any]:
        """Arguments of `load_data` beside the experiment."""
        folder = None if self.data_dir is None else str(self.data_dir)
        return {"data_dir": folder, "data_label": self.data_label, "unknown_words": self.unknown_words}

    def runs(self) -> list[tuple[Experiment, int]]:
        """The experiments with the request's options, each with each seed.

        Raises:
          KeyError: If there is no such experiment, table or figure.
          ValueError: If a value of an option is not allowed, or two options contradict each other.
        """
        specs = selected(self.names, self.table, self.figure)
        if self.seed and self.seeds:
            raise ValueError("--seed and --seeds exclude each other: give one.")
        if self.seeds is not None and not 1 <= self.seeds <= MOST_SEEDS:
            raise ValueError(f"--seeds must be from 1 to {MOST_SEEDS}, got {self.seeds}.")
        if self.dtype not in (None, "float32", "bfloat16"):
            raise ValueError(f"--dtype must be float32 or bfloat16, got {self.dtype!r}.")
        if self.moment_dtype not in (None, "float32", "bfloat16", "bfloat16-nearest"):
            raise ValueError(
                f"--moment-dtype must be float32, bfloat16 or bfloat16-nearest, got {self.moment_dtype!r}."
            )
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"--epochs must be 1 or more, got {self.epochs}.")
        if not 1 <= self.jobs <= MOST_JOBS:
            raise ValueError(f"--jobs must be from 1 to {MOST_JOBS}, got {self.jobs}.")
        check_seeds(self.seed)
        if self.epochs is not None:
            specs = [spec.with_epochs(self.epochs) for spec in specs]
        if self.dtype is not None:
            specs = [dataclasses.replace(spec, compute_dtype=self.dtype) for spec in specs]
        if self.moment_dtype is not None:
            specs = [dataclasses.replace(spec, moment_dtype=self.moment_dtype) for spec in specs]
        seeds = range(self.seeds) if self.seeds else self.seed or [0]
        return [(spec, seed) for spec in specs for seed in seeds]


class _Words(argparse.ArgumentParser):
    """Parses the words of a line; raises an error instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _words() -> _Words:
    words = _Words(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    words.add_argument("names", nargs="*")
    for option in ("--table", "--figure", "--seeds", "--epochs", "--jobs"):
        words.add_argument(option, type=int)
    words.add_argument("--seed", type=int, action="append")
    for option in ("--dtype", "--moment-dtype", "--data-label"):
        words.add_argument(option)
    words.add_argument("--unknown-words", choices=["raise", "replace"])
    for option in ("--data-dir", "--out"):
        words.add_argument(option, type=expanded)
    return words


def read_queue(file: pathlib.Path, given: Request) -> list[Request]:
    """The requests of a queue, in order.

    A line has the words that follow `padam run`: names, `--table`, `--figure`, seeds and options of a request. Options
    that it leaves out come from the last line of options alone, then from the command line. `#` begins a comment;
    `$NAME` and `${NAME}` stand for variables of the environment.

    Args:
      file: The queue.
      given: The request of the command line.

    Raises:
      ValueError: If a line cannot be read, or its experiments cannot be run so; the message names the line.
    """
    requests: list[Request] = []
    defaults = given
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        where = f"{file}, line {number}"
        try:
            words = [_with_variables(word) for word in shlex.split(line, comments=True)]
            said = vars(_words().parse_intermixed_args(words))
            if not said.get("names"):
                said.pop("names", None)
            # Seeds of one kind replace those of the other.
            if said.keys() & {"seed", "seeds"}:
                said = {"seed": [], "seeds": None} | said
            if said.keys() & {"names", "table", "figure"}:
                request = dataclasses.replace(defaults, **said)
                request.runs()
                requests.append(request)
            elif said:
                defaults = dataclasses.replace(given, **said)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{where}: {error.args[0]}") from None
    if not requests:
        raise ValueError(f"{file} names no experiment.")
    return requests


def _with_variables(word: str) -> str:
    found = os.path.expandvars(word)
    unknown = re.search(r"\$(\{\w+\}|\w+)", found)
    if unknown:
        raise ValueError(f"the environment has no {unknown[0]}, which {word!r} uses.")
    return found
