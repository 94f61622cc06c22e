"""Padam with three 8-bit moments, 3.02 bytes a parameter: the time of a step, and the loss of quality.

    python benchmarks/speed/eight_bit.py step [--size N] [--out RESULT.json]
    python benchmarks/speed/eight_bit.py train SUITE --data-dir DIR [--data-label NAME] --out FOLDER --seed 0 1 2

This is an experiment, not part of the library. `in_eight_bits` packs the state of any chain that holds a
`ScaleByPartialAmsgradState`. Each group of 128 coordinates has a scale of one byte: the least power of two that is not
below its largest entry. A maximum is rounded up whenever its group's scale changes; a scale that followed every rise of
the largest entry would pull all others up with it, and a power of two seldom changes. In units of the scale

- mu is the signed square of a code in [-127, 127], rounded to nearest;
- nu is the fourth power of a code in [0, 255], rounded up or down at random, exactly in expectation: rounding the code
  alone would add a bias at every step;
- nu_max is such a fourth power, rounded up.

NaN is not kept. SUITE is cifar10-mini or ptb-mini; `studies/low_precision.py` compares the recorded runs with those
of the other dtypes.
"""

import argparse
import dataclasses
import pathlib
import statistics
import unittest.mock
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from measuring import write
from optimizer_step import JaxStep

import padam_optax
from padam_optax import ScaleByPartialAmsgradState
from padam_optax.experiments import find
from padam_optax.runner.datasets import load_data
from padam_optax.runner.run import run
from padam_optax.transforms import hash_bits

GROUP = 128
ROUND_UP_FROM = 1e-3  # Of a code: more than float32's error in the fourth root, so that a kept maximum stays.
padam = padam_optax.padam


class Packed(NamedTuple):
    """An array's codes, [groups, GROUP], and the exponents of its groups' scales, int8 [groups, 1]."""

    codes: jax.Array
    exponents: jax.Array


class PackedState(NamedTuple):
    count: jax.Array
    mu: Any
    nu: Any
    nu_max: Any


def in_eight_bits(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    inner = optax.with_extra_args_support(inner)

    def pack(state: Any) -> Any:
        def one(part: Any) -> Any:
            if not isinstance(part, ScaleByPartialAmsgradState):
                return part
            return PackedState(
                part.count,
                jax.tree.map(pack_mu, part.mu),
                jax.tree.map(lambda nu: pack_nu(nu, part.count), part.nu),
                jax.tree.map(pack_nu_max, part.nu_max),
            )

        return jax.tree.map(one, state, is_leaf=lambda part: isinstance(part, ScaleByPartialAmsgradState))

    def unpack(state: Any, like: Any) -> Any:
        def one(part: Any) -> Any:
            if not isinstance(part, PackedState):
                return part
            leaves, structure = jax.tree.flatten(like)
            moments = [
                structure.unflatten(
                    [
                        back(packed).ravel()[: leaf.size].reshape(leaf.shape)
                        for packed, leaf in zip(structure.flatten_up_to(tree), leaves, strict=True)
                    ]
                )
                for back, tree in ((unpack_mu, part.mu), (unpack_nu, part.nu), (unpack_nu, part.nu_max))
            ]
            return ScaleByPartialAmsgradState(part.count, *moments)

        return jax.tree.map(one, state, is_leaf=lambda part: isinstance(part, PackedState))

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        new_updates, new_state = inner.update(updates, unpack(state, updates), params, **extra_args)
        return new_updates, pack(new_state)

    return optax.GradientTransformationExtraArgs(lambda params: pack(inner.init(params)), update)


def grouped(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The array in units of its groups' scales, and the exponents of these."""
    rows = jnp.pad(array.ravel(), (0, -array.size % GROUP)).reshape(-1, GROUP)
    largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
    # The exponent of the least power of two that is not below: that of the next float32 below, plus one.
    bits = jnp.maximum(jax.lax.bitcast_convert_type(largest, jnp.int32) - 1, 0)
    exponents = jnp.clip((bits >> 23) - 126, -126, 126)
    return rows * power_of_two(-exponents), exponents.astype(jnp.int8)


def power_of_two(exponents: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type((exponents.astype(jnp.int32) + 127) << 23, jnp.float32)


def pack_mu(mu: jax.Array) -> Packed:
    rows, exponents = grouped(mu)
    return Packed(jnp.round(127 * jnp.sign(rows) * jnp.sqrt(jnp.abs(rows))).astype(jnp.int8), exponents)


def unpack_mu(packed: Packed) -> jax.Array:
    code = packed.codes.astype(jnp.float32) * (1 / 127)
    return code * jnp.abs(code) * power_of_two(packed.exponents)


def pack_nu(nu: jax.Array, count: jax.Array) -> Packed:
    rows, exponents = grouped(nu)
    code = jnp.minimum(jnp.floor(255 * jnp.sqrt(jnp.sqrt(rows))), 254)
    low, high = fourth_power(code), fourth_power(code + 1)
    noise = hash_bits(jax.lax.bitcast_convert_type(rows, jnp.uint32) ^ hash_bits(count.astype(jnp.uint32)))
    up = (noise >> 8).astype(jnp.float32) * 2.0**-24 * (high - low) < rows - low
    return Packed((code + up).astype(jnp.uint8), exponents)


def pack_nu_max(nu_max: jax.Array) -> Packed:
    rows, exponents = grouped(nu_max)
    code = jnp.ceil(255 * jnp.sqrt(jnp.sqrt(rows)) - ROUND_UP_FROM)
    return Packed(jnp.clip(code, 0, 255).astype(jnp.uint8), exponents)


def unpack_nu(packed: Packed) -> jax.Array:
    return fourth_power(packed.codes.astype(jnp.float32)) * power_of_two(packed.exponents)


def fourth_power(code: jax.Array) -> jax.Array:
    square = jnp.square(code * (1 / 255))
    return square * square


def step(size: int, turns: int = 5, steps: int = 10) -> list[dict[str, Any]]:
    """Times one step on an array, beside float32 and bfloat16 moments."""
    half = jnp.bfloat16
    optimizers = {
        "float32": padam(1e-3, p=1 / 8),
        "bfloat16": padam(1e-3, p=1 / 8, mu_dtype=half, nu_dtype=half),
        "8-bit": in_eight_bits(padam(1e-3, p=1 / 8)),
    }
    programs = {name: JaxStep(lambda p, each=each: each, [(size,)]) for name, each in optimizers.items()}
    gradients = [1e-2 * jax.random.normal(jax.random.key(0), (size,))]
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(turns):
        for name, program in programs.items():
            seconds[name].append(statistics.median(program.turn(gradients, steps)))
    return [
        {
            "moments": name,
            "milliseconds": 1e3 * statistics.median(seconds[name]),
            "over_float32": statistics.median(seconds[name]) / statistics.median(seconds["float32"]),
            "state_bytes": program.state_bytes / size,
            "temporary_bytes": program.temporary_bytes / size,
        }
        for name, program in programs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    timed = commands.add_parser("step")
    timed.add_argument("--size", type=int, default=8_000_000)
    timed.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    train = commands.add_parser("train")
    train.add_argument("suite", choices=("cifar10-mini", "ptb-mini"))
    train.add_argument("--data-dir", type=pathlib.Path, required=True)
    train.add_argument("--data-label")
    train.add_argument("--out", type=pathlib.Path, required=True)
    train.add_argument("--seed", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()

    if arguments.command == "step":
        rows = step(arguments.size)
        for row in rows:
            print("".join(f"{key} {value:<12.4g}" if key != "moments" else f"{value:12}" for key, value in row.items()))
        if arguments.out is not None:
            write(arguments.out, size=arguments.size, rows=rows)
        return
    experiment: Any = dataclasses.replace(find(f"{arguments.suite}-padam"), moment_dtype="8-bit")
    data = load_data(experiment, arguments.data_dir, arguments.data_label or "")

    def packed_padam(*args: Any, mu_dtype: Any, nu_dtype: Any, **settings: Any) -> Any:
        del mu_dtype, nu_dtype  # What a moment_dtype other than float32 asks for.
        return in_eight_bits(padam(*args, **settings))

    with unittest.mock.patch("padam_optax.padam", packed_padam):
        for seed in arguments.seed:
            run(
                experiment,
                seed,
                data,
                arguments.out,
                checkpoint_every=0,
                on_epoch=lambda line: print(line, flush=True),
            )


if __name__ == "__main__":
    main()
