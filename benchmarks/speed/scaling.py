"""Memory and traffic of several devices that train one model, and the time of a step on real devices.

Fake devices show memory and traffic. They share one processor, so their step time says nothing and is left out. LLVM's
optimization level changes neither memory nor traffic; level 0 compiles in half the time.

    export XLA_FLAGS="--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    python benchmarks/speed/scaling.py --out FILE
"""

import argparse
import collections
import dataclasses
import math
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measuring import median_seconds, write

from padam_optax.cli.devices import choose_devices
from padam_optax.experiments import find
from padam_optax.experiments.spec import Experiment, LanguageModelling
from padam_optax.runner.programs import trainer_for
from padam_optax.training.loop import Trainer

COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?P<name>all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
ARRAY = re.compile(r"([a-z]+)(\d+)\[([\d,]*)\]")
STEPS = 4


def bytes_a_device(tree: Any) -> list[int]:
    """What each device holds, from the arrays' shards."""
    held: collections.Counter[int] = collections.Counter()
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device.id] += shard.data.nbytes
    return sorted(held.values())


def collectives(program: str) -> dict[str, dict[str, int]]:
    """How many there are of each kind in a compiled program, and the bytes of their results."""
    found: dict[str, dict[str, int]] = {}
    for match in COLLECTIVE.finditer(program):
        sizes = [
            int(bits) // 8 * math.prod(map(int, filter(None, shape.split(","))))
            for _, bits, shape in ARRAY.findall(match["result"])
        ]
        entry = found.setdefault(match["name"], {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += sum(sizes)
    return found


def sent_a_device(found: dict[str, dict[str, int]], devices: int) -> float:
    """Bytes that a device sends in a step if each collective is a ring's."""
    share = (devices - 1) / devices
    factors = {"all-reduce": 2 * share, "all-gather": share, "all-to-all": share, "reduce-scatter": devices - 1}
    return sum(factors.get(name, 1) * entry["bytes"] for name, entry in found.items())


def prepared(name: str, devices: int) -> Experiment:
    """The experiment with a batch that so many devices divide evenly, and windows of one length."""
    experiment = find(name)
    if isinstance(experiment.task, LanguageModelling):
        experiment = experiment.with_task(random_window=False)
    return dataclasses.replace(experiment, batch_size=-(-experiment.batch_size // devices) * devices)


def data_for(experiment: Experiment) -> tuple[dict[str, np.ndarray], int]:
    """Zeros in the shape of a few batches, and the number of classes or words."""
    if isinstance(experiment.task, LanguageModelling):
        return {"tokens": np.zeros((experiment.task.window * STEPS + 2, experiment.batch_size), np.int32)}, 10_000
    count = experiment.batch_size * STEPS
    return {"images": np.zeros((count, 32, 32, 3), np.uint8), "labels": np.zeros(count, np.int32)}, 10


def measure(name: str, devices: int, shard_optimizer: bool, most: int) -> dict[str, Any]:
    """Bytes of parameters and optimizer a device; with the most devices, or real ones, what a step does."""
    experiment = prepared(name, most)
    placement = choose_devices(devices, shard_optimizer=shard_optimizer)
    train, classes = data_for(experiment)
    trainer = trainer_for(experiment, len(next(iter(train.values()))), classes, placement)
    settings = placement.put_whole(
        {key: jnp.asarray(value, float) for key, value in experiment.hyperparameters.items()}
    )
    seed, data = placement.put_whole(np.int32(0)), placement.put_whole(train)
    state = trainer.init(seed, settings)
    result: dict[str, Any] = {
        "devices": devices,
        "shard_optimizer": shard_optimizer,
        "batch_size": experiment.batch_size,
        "parameter_bytes": bytes_a_device(state.params)[0],
        "optimizer_bytes": bytes_a_device(state.opt_state),
    }
    is_real = jax.devices()[0].platform != "cpu"
    if devices == most and devices > 1:
        found = collectives(
            Trainer.train_steps.lower(trainer, state, seed, settings, data, 0, 0, 1).compile().as_text()
        )
        result |= {"collectives": found, "sent_a_device": round(sent_a_device(found, devices))}
    if is_real:

        def steps() -> None:
            nonlocal state
            state = trainer.train_steps(state, seed, settings, data, 0, 0, STEPS)
            jax.block_until_ready(state.step)

        result["seconds_a_step"] = median_seconds(steps, 10) / STEPS
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["cifar10-resnet18-padam", "ptb-lstm2-padam"])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    for name in options.names:
        results[name] = []
        for devices in options.devices:
            for shard_optimizer in (False, True) if devices > 1 else (False,):
                results[name].append(measure(name, devices, shard_optimizer, max(options.devices)))
                print(name, results[name][-1], flush=True)
    if options.out is not None:
        write(options.out, results=results)


if __name__ == "__main__":
    main()
