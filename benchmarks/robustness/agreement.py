"""How far a training's numbers depend on its devices: the mini CIFAR recipe, the small LSTM, images from a folder.

Each trains on 1, 2 and 8 fake CPU devices and in 2 processes that talk over loopback, in float32 and in float64. The
script compares the first ten steps, and the metrics after some epochs, with those of one device. For a tree of
parameters the difference is the norm of the difference over the norm; the largest such ratio of a leaf is given too.
"perturbed" is one device again with its initial parameters multiplied by 1 + e n, where n is normal and e is half of
the dtype's last bit; it shows the effect of rounding alone.

The folder is in ImageNet's form and holds noise, 80 images for training, so that an epoch has ten steps; each process
reads its share. The network is the mini ResNet. FILE keeps its results of tasks that are not run.

    python benchmarks/robustness/agreement.py --cifar DIR --cifar-label NAME --ptb DIR --out FILE
    python benchmarks/robustness/agreement.py --tasks imagenet-mini-padam --out FILE
"""

import argparse
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from padam_optax.cli.devices import choose_devices
from padam_optax.experiments import find
from padam_optax.experiments.spec import ImageClassification
from padam_optax.runner.datasets import arrays, class_count, load_data, make_source
from padam_optax.runner.programs import trainer_for
from padam_optax.training.epoch import ResidentData
from padam_optax.training.loop import Trainer, TrainState

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import write

STEPS = 10
FOLDER = dataclasses.replace(
    find("imagenet-resnet18-padam"), name="imagenet-mini-padam", model="resnet10-mini", batch_size=8
).with_task(image_size=32)
TASKS = ("cifar10-mini-padam", "ptb-mini-padam", FOLDER.name)


def in_float64(trainer: Trainer) -> Trainer:
    """The same with parameters in float64."""
    task: Any = trainer.task
    build = task.build

    def built(rngs: nnx.Rngs) -> nnx.Module:
        model = build(rngs)
        nnx.update(model, jax.tree.map(lambda value: value.astype(jnp.float64), nnx.state(model)))
        return model

    return dataclasses.replace(trainer, task=dataclasses.replace(task, build=built))


def perturbed(state: TrainState) -> TrainState:
    """The same with parameters that differ in about their last bit."""
    random = np.random.default_rng(0)

    def change(leaf: jax.Array) -> jax.Array:
        noise = random.standard_normal(leaf.shape) * float(jnp.finfo(leaf.dtype).eps) / 2
        return leaf * jnp.asarray(1 + noise, leaf.dtype)

    return dataclasses.replace(state, params=jax.tree.map(change, state.params))


def make_images(root: pathlib.Path) -> None:
    """Ten classes of 8 images for training and 5 for the evaluation: noise."""
    random = np.random.default_rng(0)
    for split, count in (("train", FOLDER.batch_size * STEPS // 10), ("val", 5)):
        for label in range(10):
            folder = root / split / f"n{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.JPEG")


def train(name: str, options: argparse.Namespace, place: str, path: pathlib.Path) -> None:
    """Writes what a training comes to: losses, metrics, parameters."""
    devices = {"processes": None, "perturbed": 1}.get(place, place)
    experiment = FOLDER if name == FOLDER.name else find(name)
    folder, label = {
        "cifar10": (options.cifar, options.cifar_label),
        "ptb": (options.ptb, ""),
        "imagenet": (options.folder / "images", "noise"),
    }[experiment.dataset]
    data = load_data(experiment, folder, label)
    placement = choose_devices(None if devices is None else int(devices))
    trainer = trainer_for(experiment, len(data.train), class_count(experiment, data), placement)
    if options.float64:
        trainer = in_float64(trainer)
    settings = placement.put_whole(
        {key: jnp.asarray(value, float) for key, value in experiment.hyperparameters.items()}
    )
    seed = placement.put_whole(np.int32(0))
    start = perturbed if place == "perturbed" else lambda state: state

    first, losses = [], []
    if experiment is FOLDER:
        source = make_source(experiment, data, trainer, 0)
    else:
        train_set, held_out = arrays(experiment, data)
        if isinstance(experiment.task, ImageClassification):
            held_out = jax.tree.map(lambda array: array[: options.test_images], held_out)
        on_devices = placement.put_whole(train_set)
        state = start(trainer.init(seed, settings))
        for step in range(STEPS):
            before = float(state.totals["loss"])
            state = trainer.train_steps(state, seed, settings, on_devices, 0, step, step + 1)
            losses.append(float(state.totals["loss"]) - before)
        first = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
        source = ResidentData(trainer, train_set, held_out)

    state, lines = start(trainer.init(seed, settings)), []
    for _ in range(options.epochs):
        result = source.train_epoch(state, seed, settings)
        assert result.metrics is not None
        state = result.state
        lines.append({"train_loss": result.metrics["loss"], **source.evaluate(state)})
        if not first:
            # What the folder holds makes ten steps, of which the mean loss is known.
            first, losses = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)], [lines[0]["train_loss"]]
    last = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    if jax.process_index() == 0:
        np.savez(path.with_suffix(".first.npz"), *first)
        np.savez(path.with_suffix(".last.npz"), *last)
        path.write_text(json.dumps({"losses": losses, "metrics": lines}))
        print(f"{path.stem}: {lines[-1]}", flush=True)


def distance(one: list[np.ndarray], other: list[np.ndarray]) -> dict[str, float]:
    """Of two trees of parameters."""
    differences = [float(np.linalg.norm(a - b)) for a, b in zip(one, other, strict=True)]
    norms = [float(np.linalg.norm(b)) for b in other]
    return {
        "relative": float(np.linalg.norm(differences) / np.linalg.norm(norms)),
        "relative_of_worst_leaf": max(difference / norm for difference, norm in zip(differences, norms, strict=True)),
    }


def leaves(path: pathlib.Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


def compare(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """Each place's numbers, and how far they are from those of one device."""
    expected = json.loads((folder / f"{name}--1").with_suffix(".json").read_text())
    found: dict[str, Any] = {}
    for place in ("1", "2", "8", "processes", "perturbed"):
        path = (folder / f"{name}--{place}").with_suffix(".json")
        result = json.loads(path.read_text())
        apart = {
            key: abs(value / expected["metrics"][-1][key] - 1)
            for key, value in result["metrics"][-1].items()
            if expected["metrics"][-1][key]
        }
        found[place] = {
            "first_losses": max(abs(a / b - 1) for a, b in zip(result["losses"], expected["losses"], strict=True)),
            "first_parameters": distance(*(leaves(folder / f"{name}--{which}.first.npz") for which in (place, "1"))),
            "last_parameters": distance(*(leaves(folder / f"{name}--{which}.last.npz") for which in (place, "1"))),
            "last_metrics": apart,
            "metrics": result["metrics"],
        }
    return found


def run_all(arguments: list[str], folder: pathlib.Path, float64: bool) -> None:
    """Starts the trainings, in processes of their own as the number of devices has to be set before JAX starts."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": str(int(float64))}
    command = [sys.executable, __file__, *arguments, "--folder", str(folder), *(["--float64"] if float64 else [])]
    one_process = environment | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    subprocess.run(command, env=one_process, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [
        subprocess.Popen([*command, "--coordinator", address, "--process", f"{number}/2"], env=environment)
        for number in range(2)
    ]
    codes = [process.wait() for process in both]
    if any(codes):
        raise RuntimeError("a process failed.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--cifar", help="folder of CIFAR-10's binary files")
    parser.add_argument("--cifar-label", default="")
    parser.add_argument("--ptb", help="folder of train.txt, valid.txt, test.txt")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--test-images", type=int, default=2_000)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--float64", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    parser.add_argument("--process", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is None:
        arguments = sys.argv[1:]
        with tempfile.TemporaryDirectory() as folder:
            has_before = options.out is not None and options.out.exists()
            found = json.loads(options.out.read_text())["results"] if has_before else {}
            for dtype in ("float32", "float64"):
                place = pathlib.Path(folder) / dtype
                make_images(place / "images")
                run_all(arguments, place, dtype == "float64")
                found[dtype] = found.get(dtype, {}) | {name: compare(place, name) for name in options.tasks}
                if options.out is not None:
                    settings = {"epochs": options.epochs, "test_images": options.test_images, "first_steps": STEPS}
                    write(options.out, **settings, results=found)
        return
    if options.coordinator is not None:
        choose_devices(coordinator=options.coordinator, process=options.process)
    places = ("processes",) if options.coordinator else ("1", "2", "8", "perturbed")
    for name in options.tasks:
        for place in places:
            train(name, options, place, (options.folder / f"{name}--{place}").with_suffix(".json"))


if __name__ == "__main__":
    main()
