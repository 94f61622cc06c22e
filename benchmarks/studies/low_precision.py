"""The loss of quality by moments in fewer bytes: paired differences from float32 moments, over recorded runs.

    python benchmarks/studies/low_precision.py RECORDS... [--out FILE]

RECORDS are folders of runs or packed files, such as
`benchmarks/records/studies/low-precision.jsonl`. Runs are paired by experiment and seed. A difference is taken of the
last epoch's test error, in points, or test perplexity; above 0 is worse than float32. The interval is the 95% interval
of the mean difference, by Student's t. The table says whether it lies within one standard deviation of the float32
runs. Bytes are those of the optimizer's state in the compiled program.
"""

import argparse
import pathlib
import statistics
import sys
from collections import defaultdict

import jax
import jax.numpy as jnp
import optax

import padam_optax
from padam_optax.experiments.spec import LanguageModelling
from padam_optax.records.store import read_all
from padam_optax.report.claims import paired_interval

sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from eight_bit import in_eight_bits
from measuring import write

HALF = {"mu_dtype": "bfloat16", "nu_dtype": "bfloat16"}
OPTIMIZERS = {
    "float32": padam_optax.padam(0.1),
    "bfloat16": padam_optax.padam(0.1, **HALF),
    "bfloat16-nearest": padam_optax.padam(0.1, **HALF, nu_rounding="nearest"),
    "8-bit": in_eight_bits(padam_optax.padam(0.1)),
}


def bytes_per_parameter(optimizer: optax.GradientTransformation, size: int = 1_000_000) -> float:
    """Of the state that the compiled step takes and returns."""
    params = jax.ShapeDtypeStruct((size,), jnp.float32)
    state = jax.eval_shape(optimizer.init, params)

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    program = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()
    # Parameters and gradients are 4 bytes each.
    return round(program.memory_analysis().argument_size_in_bytes / size - 8, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=pathlib.Path, nargs="+")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()

    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    metrics = {}
    for record in (record for folder in arguments.records for record in read_all(folder)):
        spec = record.experiment
        if spec.optimizer != "padam" or spec.is_trial or not record.finished:
            continue
        metric = "test_perplexity" if isinstance(spec.task, LanguageModelling) else "test_error"
        metrics[spec.name] = metric
        scale = 100 if metric == "test_error" else 1
        found[spec.name][spec.moment_dtype][record.seed] = scale * record.metrics[-1][metric]

    rows = []
    print("| runs | moments | bytes | n | mean difference | 95% interval | standard deviation of float32 | within it |")
    print("|---|---|---|---|---|---|---|---|")
    for name, by_dtype in found.items():
        for dtype, runs in by_dtype.items():
            seeds = sorted(runs.keys() & by_dtype["float32"].keys())
            if dtype == "float32" or len(seeds) < 2:
                continue
            differences = [runs[seed] - by_dtype["float32"][seed] for seed in seeds]
            low, high = paired_interval(differences)
            deviation = statistics.stdev(by_dtype["float32"][seed] for seed in seeds)
            row = {
                "experiment": name,
                "metric": metrics[name],
                "moments": dtype,
                "bytes_per_parameter": bytes_per_parameter(OPTIMIZERS[dtype]),
                "seeds": seeds,
                "mean_difference": statistics.mean(differences),
                "interval": [low, high],
                "float32_standard_deviation": deviation,
                "within": max(-low, high) <= deviation,
            }
            rows.append(row)
            print(
                f"| {name} | {dtype} | {row['bytes_per_parameter']:.1f} | {len(seeds)} | {row['mean_difference']:+.2f}"
                f" | {low:+.2f} to {high:+.2f} | {deviation:.2f} | {'yes' if row['within'] else 'no'} |"
            )
    if arguments.out is not None:
        write(arguments.out, rows=rows)


if __name__ == "__main__":
    main()
