"""Metrics as TensorBoard event files."""

import contextlib
import pathlib
from collections.abc import Callable, Generator, Mapping
from typing import Any


@contextlib.contextmanager
def event_writer(directory: str | pathlib.Path) -> Generator[Callable[[Mapping[str, Any]], None]]:
    """Gives a function that writes a line of the metrics to `<directory>/tensorboard`, `train_loss` as `train/loss`."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(pathlib.Path(directory) / "tensorboard")) as writer:

        def write(line: Mapping[str, Any]) -> None:
            for name, value in line.items():
                if name != "epoch" and isinstance(value, int | float):
                    writer.add_scalar(name.replace("_", "/", 1), value, line["epoch"])
            writer.flush()

        yield write
