"""Metrics as TensorBoard event files."""

import contextlib
import pathlib
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from padam_optax.paths import expanded


@contextlib.contextmanager
def event_writer(
    directory: str | pathlib.Path, before: Iterable[Mapping[str, Any]] = ()
) -> Generator[Callable[[Mapping[str, Any]], None]]:
    """Yields a function that writes a line of the metrics to `<directory>/tensorboard`, `train_loss` as `train/loss`.

    Args:
      directory: A run's folder. Its event files are replaced, so that no step is there twice.
      before: Lines of earlier epochs, which are written first.
    """
    from tensorboardX import SummaryWriter

    discard_events(directory)
    with SummaryWriter(str(_folder(directory))) as writer:

        def write(line: Mapping[str, Any]) -> None:
            for name, value in line.items():
                if name != "epoch" and isinstance(value, int | float):
                    writer.add_scalar(name.replace("_", "/", 1), value, line["epoch"])
            writer.flush()

        for line in before:
            write(line)
        yield write


def discard_events(directory: str | pathlib.Path) -> None:
    """Removes the event files of a run's folder, if there are any, and nothing else."""
    for path in _folder(directory).glob("events.out.tfevents.*"):
        path.unlink()


def _folder(directory: str | pathlib.Path) -> pathlib.Path:
    return expanded(directory) / "tensorboard"
