"""Converts earlier versions' records to today's form, when they are read. No other code parses names."""

from collections.abc import Mapping
from typing import Any

# The values that applied before a field was recorded, or if it was not. Fixed for ever: today's defaults may differ.
_DEFAULTS: dict[str, Any] = {
    "factor": 0.1,
    "batch_size": 128,
    "train_examples": None,
    "compute_dtype": "float32",
    "moment_dtype": "float32",
    "decay_everything": True,
    "bias_correction": "official",
    "allow_unproven_p": False,
    "seeds": [0],
    "assumed": [],
}
_IMAGE_DEFAULTS: dict[str, Any] = {
    "augmentation": [],
    "image_size": None,
    "held_out": None,
    "keep_last_batch": False,
    "statistics_updates": 1,
    "reestimate_statistics": False,
}
_TEXT = (
    "vocabulary",
    "window",
    "random_window",
    "eval_columns",
    "activation_regularization",
    "temporal_regularization",
    "gradient_clip",
)


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `config.json` of an earlier version in today's form.

    An experiment's identity was in its name: `<suite>-<optimizer>`, `<suite>-<optimizer>-<what>` for a variant of it,
    and `<name>@<setting>=<value>,...` for a trial of a search. The names of the hyper-parameters gave the form of
    Padam.

    Raises:
      KeyError, TypeError, ValueError: If it lacks a field that every earlier version had.
    """
    old = config["experiment"]
    language = old.get("language")
    task: dict[str, Any]
    if language is None:
        task = {"kind": "image_classification"} | {
            name: old.get(name, value) for name, value in _IMAGE_DEFAULTS.items()
        }
        scale = old.get("norm_scale_init", "ones")
        model_options = {} if scale == "ones" else {"norm_scale_init": scale}
    else:
        task = {"kind": "language_modelling"} | {name: language[name] for name in _TEXT}
        model_options = {name: value for name, value in language.items() if name not in _TEXT}
    experiment = {
        **_identity(old["name"], old["optimizer"]),
        **{name: old[name] for name in ("model", "dataset", "hyperparameters", "epochs", "milestones")},
        "optimizer": _method(old["optimizer"], old["hyperparameters"]),
        **{name: old.get(name, value) for name, value in _DEFAULTS.items()},
        "task": task,
        "model_options": model_options,
        "paper": [
            {"metric": each["metric"], "value": each["value"], "table": int(each["source"].removeprefix("Table "))}
            for each in old.get("paper") or ()
        ],
    }
    if "group_p" in old["hyperparameters"]:
        experiment["group"] = {"names": [], "most_axes": 1} if language is None else {"names": ["embedding"]}
    return {"format": 2, "versions": {}, **config, "experiment": experiment}


def _identity(name: str, optimizer: str) -> dict[str, Any]:
    """The identity of an experiment, from its name."""
    base, at, settings = name.partition("@")
    suite, _, what = base.partition(f"-{optimizer}-")
    found: dict[str, Any] = {"name": name, "suite": suite.removesuffix(f"-{optimizer}")}
    if at:
        trial = [part.partition("=")[0] for part in settings.split(",")]
        return found | {"variant_of": base, "trial": trial}
    return found | {"variant_of": f"{suite}-{optimizer}"} if what else found


def _method(optimizer: str, hyperparameters: Mapping[str, float]) -> str:
    """The optimizer; the names of the hyper-parameters give the form of Padam."""
    if optimizer != "padam":
        return optimizer
    if "normalized_weight_decay" in hyperparameters:
        return "padamw"
    converted = "-converted" if "rate_p" in hyperparameters else ""
    if "group_p" in hyperparameters:
        return "padam-by-group-converted"
    return f"padam-falling{converted}" if "final_p" in hyperparameters else f"padam{converted}"
