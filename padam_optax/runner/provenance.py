"""What a record says about a run beside its metrics, and the check that a record is of the wanted run."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

from padam_optax.experiments.spec import Experiment, Role
from padam_optax.records.record import DataSource, Device, Record, SharedProgram
from padam_optax.runner.datasets import Data
from padam_optax.training.placement import ONE_DEVICE, Placement


def new_record(
    experiment: Experiment,
    seed: int,
    data: Data,
    placement: Placement = ONE_DEVICE,
    sweep: SharedProgram | None = None,
    jobs: int = 1,
) -> Record:
    """The record of a run that has not begun: specification, seed, data, versions and devices."""
    packages = ("padam_optax", "jax", "jaxlib", "optax", "flax", "numpy")
    device = jax.devices()[0]
    return Record(
        experiment=experiment,
        seed=seed,
        data=DataSource(data.label, len(data.train), len(data.test), data.sha256),
        device=Device(
            kind=device.device_kind,
            platform=device.platform,
            cpu_count=os.cpu_count(),
            count=placement.devices,
            processes=jax.process_count(),
            jobs=jobs,
        ),
        versions={"python": platform.python_version(), **{name: _version(name) for name in packages}},
        sweep=sweep,
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        import padam_optax

        return padam_optax.__version__ if package == "padam_optax" else "unknown"


def check_same(path: os.PathLike[str], recorded: Record, wanted: Record) -> None:
    """Refuses, with a ValueError, to go on with a run of another experiment, seed or data."""
    for part, old, new in (
        ("experiment", recorded.experiment.fields(Role.RESULT), wanted.experiment.fields(Role.RESULT)),
        ("seed", {"seed": recorded.seed}, {"seed": wanted.seed}),
        ("data", vars(recorded.data), vars(wanted.data)),
    ):
        names = _differing(old, new)
        if names:
            raise ValueError(
                f"{path} holds a run with another {part} ({', '.join(names)} differ);"
                " choose another --out, or replace it with --no-resume."
            )


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [name for name in {**new, **old} if name not in old or name not in new or old[name] != new[name]]
