"""Time of one optimizer step beside Optax's and PyTorch's, and beside the least memory traffic that any step needs.

    python benchmarks/speed/optimizer_step.py [--trees array resnet18 vgg16 leaves] [--out FILE]
    python benchmarks/speed/optimizer_step.py --render FILE [--picture PNG]

A step takes gradients, parameters and state, and returns new parameters and state in donated buffers. The limit is a
plain program that reads five arrays and writes four, as AMSGrad must, with a handful of multiplications. All programs
take turns, a few steps at a time. A time is the median over the turns of each turn's median. Run it on an idle machine.
`--render` prints the tables of a recorded result as Markdown; `--picture` draws it.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from measuring import write

import padam_optax

try:
    import torch
except ImportError:
    torch = None

LIMIT, AMSGRAD = "limit: 5 reads, 4 writes", "optax.amsgrad"
FLATTENED = "optax.flatten(padam), p=1/8"
RATE = 1e-3


def trees(names: list[str]) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of the leaves of each tree."""
    found: dict[str, list[tuple[int, ...]]] = {"array": [(8_000_000,)], "leaves": [(16, 16)] * 2000}
    for name, experiment in (("resnet18", "cifar10-resnet18-padam"), ("vgg16", "imagenet-vgg16-padam")):
        if name in names:
            found[name] = network_shapes(experiment)
    return {name: found[name] for name in names}


def network_shapes(experiment: str) -> list[tuple[int, ...]]:
    from flax import nnx

    from padam_optax.experiments import find
    from padam_optax.runner.programs import build_model

    spec = find(experiment)
    classes = 1000 if spec.dataset == "imagenet" else 10
    model = nnx.eval_shape(lambda: build_model(spec, classes, nnx.Rngs(0)))
    return [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]


def optimizers() -> dict[str, Callable[[jax.Array], optax.GradientTransformation]]:
    """By name; each takes p, which is an argument of the compiled program and mostly not used."""
    half = jnp.bfloat16
    return {
        "padam, p=1/2": lambda p: padam_optax.padam(RATE, p=1 / 2),
        "padam, p=1/4": lambda p: padam_optax.padam(RATE, p=1 / 4),
        "padam, p=1/8": lambda p: padam_optax.padam(RATE, p=1 / 8),
        "padam, p=1/16": lambda p: padam_optax.padam(RATE, p=1 / 16),
        "padam, p=2/5": lambda p: padam_optax.padam(RATE, p=2 / 5),
        "padam, p=1/5": lambda p: padam_optax.padam(RATE, p=1 / 5),
        "padam, p traced": lambda p: padam_optax.padam(RATE, p=p),
        "padam, p scheduled": lambda p: padam_optax.padam(RATE, p=optax.linear_schedule(0.5, 0.1, 1000)),
        "padam, p=1/8, R measured": lambda p: padam_optax.padam(
            RATE, p=1 / 8, reference_p=1 / 2, calibration_steps=1e9
        ),
        "padam, p=1/8, R held": lambda p: padam_optax.padam(RATE, p=1 / 8, reference_p=1 / 2, calibration_steps=1),
        "padam, p=1/8, moments in bfloat16": lambda p: padam_optax.padam(RATE, p=1 / 8, mu_dtype=half, nu_dtype=half),
        FLATTENED: lambda p: optax.flatten(padam_optax.padam(RATE, p=1 / 8)),
        "padamw, p=1/8": lambda p: padam_optax.padamw(RATE, p=1 / 8),
        "adabound": lambda p: padam_optax.adabound(RATE),
        AMSGRAD: lambda p: optax.amsgrad(RATE),
        "optax.adam": lambda p: optax.adam(RATE),
        "optax.adamw": lambda p: optax.adamw(RATE),
        "optax.sgd, momentum": lambda p: optax.sgd(RATE, momentum=0.9),
    }


class Limit:
    """As an optimizer: the traffic of AMSGrad, with arithmetic that no processor notices."""

    @staticmethod
    def init(params: Any) -> Any:
        return tuple(jax.tree.map(jnp.zeros_like, params) for _ in range(3))

    @staticmethod
    def step(params: Any, state: Any, gradients: Any, p: jax.Array) -> Any:
        del p

        def leaf(param, mu, nu, nu_max, gradient):
            mu = 0.9 * mu + 0.1 * gradient
            nu = 0.999 * nu + 0.001 * gradient * gradient
            nu_max = jnp.maximum(nu_max, nu)
            return param - 1e-3 * mu * nu_max, mu, nu, nu_max

        results = [leaf(*each) for each in zip(*map(jax.tree.leaves, (params, *state, gradients)), strict=True)]
        params, *state = (
            jax.tree.unflatten(jax.tree.structure(params), column) for column in zip(*results, strict=True)
        )
        return params, tuple(state)


def size_in_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


class JaxStep:
    """A compiled step, its arrays, and what the compiler says of it."""

    def __init__(self, make: Callable[[jax.Array], optax.GradientTransformation] | None, shapes: list[tuple[int, ...]]):
        if make is None:
            self.init, step = Limit.init, Limit.step
        else:
            self.init = make(jnp.float32(0.2)).init

            def step(params, state, gradients, p):
                updates, state = make(p).update(gradients, state, params)
                return optax.apply_updates(params, updates), state

        params, gradients = ([jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes] for _ in range(2))
        state = jax.eval_shape(self.init, params)
        began = time.perf_counter()
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, gradients, jnp.float32(0.2))
        self.program = lowered.compile()
        self.compile_seconds = time.perf_counter() - began
        self.state_bytes = size_in_bytes(state)
        self.bytes = 2 * size_in_bytes(params) + 2 * self.state_bytes + size_in_bytes(gradients)
        memory = self.program.memory_analysis()
        self.temporary_bytes = memory.temp_size_in_bytes
        entry = self.program.as_text().split("\nENTRY ")[1]
        self.kernels = entry.count(" fusion(") + entry.count(" custom-call(") + entry.count(" call(")

    def turn(self, gradients: list[jax.Array], steps: int) -> list[float]:
        params = [jnp.zeros(gradient.shape) for gradient in gradients]
        state = self.init(params)
        p = jnp.float32(0.2)
        seconds = []
        for _ in range(steps + 1):
            jax.block_until_ready((params, state))
            began = time.perf_counter()
            params, state = self.program(params, state, gradients, p)
            jax.block_until_ready((params, state))
            seconds.append(time.perf_counter() - began)
        return seconds[1:]


class TorchStep:
    """PyTorch's own AMSGrad, or Padam as a plain loop of its operations, in the way of the authors' code."""

    def __init__(self, kind: str):
        self.kind = kind

    def turn(self, gradients: list[jax.Array], steps: int) -> list[float]:
        device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
        params = [torch.zeros(gradient.shape, device=device, requires_grad=True) for gradient in gradients]
        for param in params:
            param.grad = 1e-2 * torch.randn(param.shape, device=device)
        if self.kind == "loop":
            step = plain_padam(params, p=1 / 8)
        else:
            step = torch.optim.Adam(params, lr=RATE, amsgrad=True, **{self.kind: True}).step
        seconds = []
        for _ in range(steps + 1):
            began = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        return seconds[1:]


def plain_padam(params: list[Any], p: float) -> Callable[[], None]:
    """One operation after another on each tensor: Algorithm 1 with the authors' bias correction."""
    states = [tuple(torch.zeros_like(param) for _ in range(3)) for param in params]
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        with torch.no_grad():
            for param, (mu, nu, nu_max) in zip(params, states, strict=True):
                mu.mul_(0.9).add_(param.grad, alpha=0.1)
                nu.mul_(0.999).addcmul_(param.grad, param.grad, value=0.001)
                torch.maximum(nu_max, nu, out=nu_max)
                root = nu_max.sqrt().add_(1e-8)
                size = RATE * (1 - 0.999**count) ** 0.5 / (1 - 0.9**count)
                param.addcdiv_(mu, root ** (2 * p), value=-size)

    return step


def programs(tree: str, shapes: list[tuple[int, ...]], only: str | None) -> dict[str, JaxStep | TorchStep]:
    found: dict[str, JaxStep | TorchStep] = {LIMIT: JaxStep(None, shapes)}
    for name, make in optimizers().items():
        # Compiling 2,000 leaves takes half a minute a program.
        many = name in ("padam, p=1/8", "padam, p=1/5", FLATTENED, AMSGRAD, "optax.adam")
        wanted = many if tree == "leaves" else name != FLATTENED
        if name == AMSGRAD or (wanted and (only is None or only in name)):
            found[name] = JaxStep(make, shapes)
            print(f"  compiled in {found[name].compile_seconds:5.1f} s: {name}", flush=True)
    if torch is not None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        names = {
            "fused": "torch Adam(amsgrad), fused",
            "foreach": "torch Adam(amsgrad), foreach",
            "loop": "torch Padam, plain",
        }
        found |= {name: TorchStep(kind) for kind, name in names.items() if only is None or only in name}
    return found


def measure(tree: str, shapes: list[tuple[int, ...]], turns: int, steps: int, only: str | None) -> dict[str, Any]:
    parameters = sum(map(math.prod, shapes))
    print(f"{tree}: {len(shapes)} leaves, {parameters:,} parameters", flush=True)
    found = programs(tree, shapes, only)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    gradients = [1e-2 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(turns):
        for name, program in found.items():
            seconds[name].append(statistics.median(program.turn(gradients, steps)))
    rows = []
    for name, program in found.items():
        median = statistics.median(seconds[name])
        row: dict[str, Any] = {
            "optimizer": name,
            "median_seconds": median,
            "min_seconds": min(seconds[name]),
            "max_seconds": max(seconds[name]),
            "over_limit": median / statistics.median(seconds[LIMIT]),
            "over_amsgrad": median / statistics.median(seconds[AMSGRAD]),
        }
        if isinstance(program, JaxStep):
            row |= {
                "gigabytes_per_second": program.bytes / median / 1e9,
                "state_bytes_per_parameter": program.state_bytes / parameters,
                "compile_seconds": program.compile_seconds,
                "temporary_bytes": program.temporary_bytes,
                "kernels": program.kernels,
            }
        rows.append(row)
    result = {
        "tree": tree,
        "leaves": len(shapes),
        "parameters": parameters,
        "turns": turns,
        "steps": steps,
        "rows": rows,
    }
    print(table(result), flush=True)
    return result


def table(result: dict[str, Any]) -> str:
    """A tree's result as a Markdown table."""
    head = [
        "step",
        "ms (min to max)",
        "over the limit",
        "over optax.amsgrad",
        "GB/s",
        "state, bytes",
        "compile, s",
        "temporary, bytes",
        "kernels",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in result["rows"]:
        cells = [
            row["optimizer"],
            f"{1e3 * row['median_seconds']:.2f} ({1e3 * row['min_seconds']:.2f} to {1e3 * row['max_seconds']:.2f})",
            f"{row['over_limit']:.2f}",
            f"{row['over_amsgrad']:.2f}",
        ]
        if "kernels" in row:
            cells += [
                f"{row['gigabytes_per_second']:.1f}",
                f"{row['state_bytes_per_parameter']:.1f}",
                f"{row['compile_seconds']:.2f}",
                f"{row['temporary_bytes']:,}",
                f"{row['kernels']:,}",
            ]
        else:
            cells += [""] * 5
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def import_share(repeats: int) -> dict[str, float]:
    """What `import padam_optax` takes after `import optax`, over what that takes, in new processes."""
    code = """
import time
began = time.perf_counter()
import optax
between = time.perf_counter()
import padam_optax
print(between - began, time.perf_counter() - between)
"""
    # An installed package has its bytecode: the first process, which may have to write it, is not counted.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    pairs = []
    for _ in range(repeats + 1):
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        pairs.append(tuple(map(float, out.split())))
    del pairs[0]
    shares = [ours / theirs for theirs, ours in pairs]
    return {
        "optax_seconds": statistics.median(theirs for theirs, _ in pairs),
        "padam_optax_seconds": statistics.median(ours for _, ours in pairs),
        "share": statistics.median(shares),
        "largest_share": max(shares),
    }


def draw(trees: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Draws the times over the limit, a panel a tree."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(trees), 6), layout="constrained")
    for axes, result in zip(figure.subplots(1, len(trees), squeeze=False)[0], trees, strict=True):
        rows = result["rows"][::-1]
        axes.barh([row["optimizer"] for row in rows], [row["over_limit"] for row in rows])
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(title=f"{result['tree']}: {result['parameters']:,} parameters", xlabel="Time over the limit's")
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", nargs="+", default=["array", "resnet18", "vgg16", "leaves"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of a turn, after one that is not counted")
    parser.add_argument("--only", help="only optimizers whose name contains this, beside limit and optax.amsgrad")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    parser.add_argument("--render", type=pathlib.Path, help="show a recorded result instead of measuring")
    parser.add_argument("--picture", type=pathlib.Path, help="draw what --render shows as a PNG")
    arguments = parser.parse_args()
    if arguments.render is not None:
        recorded = json.loads(arguments.render.read_text())["trees"]
        for result in recorded:
            size = f"{result['leaves']:,} leaves, {result['parameters']:,} parameters"
            print(f"\n{result['tree']}: {size}\n\n{table(result)}")
        if arguments.picture is not None:
            draw(recorded, arguments.picture)
        return
    imports = import_share(repeats=10)
    print(f"import padam_optax: {imports['share']:.1%} of import optax ({imports['optax_seconds']:.2f} s)", flush=True)
    results = [
        measure(tree, shapes, arguments.turns, arguments.steps, arguments.only)
        for tree, shapes in trees(arguments.trees).items()
    ]
    if arguments.out is not None:
        write(arguments.out, torch=None if torch is None else torch.__version__, imports=imports, trees=results)


if __name__ == "__main__":
    main()
