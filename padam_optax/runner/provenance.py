"""What a record says about a run beside its metrics, and whether that is the run one wants."""

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

import jax

from padam_optax.experiments.spec import Experiment
from padam_optax.runner.datasets import Data
from padam_optax.training.placement import ONE_DEVICE, Placement

# What may differ between a run and its continuation: it does not change what is trained.
_MAY_DIFFER = ("seeds", "assumed", "paper")


def rate_in(experiment: Experiment, epoch: int) -> float:
    """The learning rate in `epoch`, counted from 1."""
    passed = sum(epoch > milestone for milestone in experiment.milestones)
    return experiment.hyperparameters["learning_rate"] * experiment.factor**passed


def configuration(experiment: Experiment, seed: int, data: Data, placement: Placement = ONE_DEVICE) -> dict[str, Any]:
    """What `config.json` holds of a run: specification, seed, data, versions and devices."""
    specification = dataclasses.asdict(
        dataclasses.replace(experiment, hyperparameters=dict(experiment.hyperparameters))
    )
    packages = ("padam_optax", "jax", "jaxlib", "optax", "flax", "numpy")
    device = jax.devices()[0]
    return {
        "experiment": specification,
        "seed": seed,
        "data": {
            "label": data.label,
            "train_examples": len(data.train),
            "test_examples": len(data.test),
            "sha256": data.sha256,
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "cpu_count": os.cpu_count(),
            "count": placement.devices,
            "processes": jax.process_count(),
        },
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        import padam_optax

        return padam_optax.__version__ if package == "padam_optax" else "unknown"


def check_same(path: os.PathLike[str], recorded: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuses to go on with a run that was started differently."""
    # A record from before a field existed was made with what is now its default.
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(Experiment)
        if field.default is not dataclasses.MISSING
    }
    old = {**recorded, "experiment": {**defaults, **recorded["experiment"]}}
    for part in ("experiment", "seed", "data"):
        # Through JSON's eyes: a tuple is written as a list.
        wanted, found = _as_json(config[part]), _as_json(old[part])
        if part == "seed":
            names = [] if wanted == found else ["seed"]
        else:
            names = [key for key in wanted if key not in _MAY_DIFFER and found.get(key) != wanted[key]]
        if names:
            raise ValueError(
                f"{path} holds a run with another {part} ({', '.join(names)} differ);"
                " choose another --out, or replace it with --no-resume."
            )


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(entry) for key, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, tuple | list) else value
