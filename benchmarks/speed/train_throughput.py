"""Images per second of the paper's CIFAR networks in training, beside PyTorch on the same device.

    python benchmarks/speed/train_throughput.py [--models resnet18,vgg16,wrn16-4] [--dtypes float32] [--out FILE]

For each network and dtype, in one run, batch 128, the whole training step (crop, flip, forward, backward, Padam):

- ours: `Trainer.train_steps` as `padam run` calls it, a loop of steps on data that lives on the device: over a whole
  epoch of 50,000 images, on a CPU over 1,024 (--examples);
- without Padam: the same loop with plain SGD, the cheapest optimizer that needs the gradients. The difference of the
  two times is the cost of Padam inside the compiled step, where it needs no dispatch of its own;
- plain: the same step jitted at top level with XLA's own convolution gradients and one synchronisation a step; on a CPU
  the loop must not be slower than this;
- PyTorch, where torch is installed: the same network without augmentation, with torch's fused Adam with amsgrad, over
  100 steps (--torch-steps) without a synchronisation in between. It runs eagerly (TF32 on a GPU), and in its fastest
  form there: channels-last, torch.compile in its mode "reduce-overhead", which replays CUDA graphs, and a capturable
  optimizer. Both use autocast for bfloat16. On a CPU there are no CUDA graphs, and the script says so.

The share of the matrix peak is 3 times the operations of the forward pass a second, over the operations a second of a
large matrix product in the same dtype on the same device in this run. Run it on an idle machine.
"""

import argparse
import dataclasses
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from measuring import median_seconds, write

from padam_optax.experiments import find
from padam_optax.models import layers
from padam_optax.runner.programs import build_model, trainer_for
from padam_optax.training.loop import TrainState

BATCH = 128
EPOCH = 50_000


def plain_convolve(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """XLA's convolution with XLA's own gradients."""
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def forward_flops(experiment) -> float:
    """Floating-point operations of convolutions and matrix products of one image's forward pass."""
    from flax import nnx

    model = nnx.eval_shape(lambda: build_model(experiment, 10, nnx.Rngs(0)))
    graph, state = nnx.split(model)
    original = layers.convolve
    layers.convolve = plain_convolve
    try:
        jaxpr = jax.make_jaxpr(lambda state, images: nnx.merge(graph, state)(images, train=False))(
            state, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        )
    finally:
        layers.convolve = original

    def count(jaxpr) -> float:
        total = 0.0
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            if name == "conv_general_dilated":
                kernel = equation.invars[1].aval.shape
                total += 2 * np.prod(equation.outvars[0].aval.shape) * np.prod(kernel[:3])
            elif name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                inner = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
                total += 2 * np.prod(equation.outvars[0].aval.shape) * inner
            for value in equation.params.values():
                inner_jaxpr = getattr(value, "jaxpr", value)
                if hasattr(inner_jaxpr, "eqns"):
                    total += count(inner_jaxpr)
        return float(total)

    return count(jaxpr.jaxpr)


def matrix_peak(dtype: str, repeats: int) -> float:
    """Floating-point operations a second of a large matrix product."""
    size = 8192 if jax.default_backend() != "cpu" else 1536
    matrix = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(lambda a, b: a @ b)
    return 2 * size**3 / median_seconds(lambda: product(matrix, matrix).block_until_ready(), repeats)


def data(examples: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "images": generator.integers(0, 256, (examples, 32, 32, 3), np.uint8),
        "labels": generator.integers(0, 10, examples).astype(np.int32),
    }


def spec(model: str, dtype: str):
    return dataclasses.replace(find(f"cifar10-{model}-padam"), compute_dtype=dtype).with_task(keep_last_batch=False)


def ours(model: str, dtype: str, repeats: int, examples: int, *, optimizer: bool = True) -> tuple[float, float]:
    """Seconds a step in the loop, and seconds of the first call (compilation above all).

    Args:
      model: Name of the network.
      dtype: What it computes in.
      repeats: How often the loop is timed.
      examples: Images of the loop.
      optimizer: Whether the step has Padam, or plain SGD.
    """
    experiment = spec(model, dtype)
    trainer = trainer_for(experiment, examples, 10)
    if not optimizer:
        trainer = dataclasses.replace(
            trainer, make_optimizer=lambda settings, factor: optax.sgd(settings["learning_rate"] * factor)
        )
    hyperparameters = {name: jnp.asarray(value) for name, value in experiment.hyperparameters.items()}
    seed = jnp.int32(0)
    state = trainer.init(seed, hyperparameters)
    arrays = jax.tree.map(jnp.asarray, data(examples))

    def train(state: TrainState, stop: int) -> TrainState:
        state = trainer.train_steps(state, seed, hyperparameters, arrays, 0, 0, stop, check_gradients=False)
        return jax.block_until_ready(state)

    began = time.perf_counter()
    state = train(state, 0)
    compiling = time.perf_counter() - began
    steps = examples // BATCH

    def call() -> None:
        nonlocal state
        state = train(state, steps)

    return median_seconds(call, repeats) / steps, compiling


def plain(model: str, dtype: str, repeats: int) -> float:
    """Seconds a step jitted at top level with XLA's own gradients."""
    experiment = dataclasses.replace(spec(model, dtype), name="plain", epochs=201)
    original = layers.convolve
    layers.convolve = plain_convolve
    try:
        trainer = trainer_for(experiment, BATCH, 10)
        hyperparameters = {name: jnp.asarray(value) for name, value in experiment.hyperparameters.items()}
        seed = jnp.int32(0)
        state = trainer.init(seed, hyperparameters)
        batch = jax.tree.map(jnp.asarray, data(BATCH))

        def call() -> None:
            nonlocal state
            state = trainer.train_batch(state, seed, hyperparameters, batch)
            state.step.block_until_ready()

        return median_seconds(call, repeats)
    finally:
        layers.convolve = original


def torch_network(model: str):
    """The authors' networks in PyTorch."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, features_in: int, features: int, stride: int):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(features_in, features, 3, stride, 1, bias=False),
                nn.BatchNorm2d(features),
                nn.ReLU(),
                nn.Conv2d(features, features, 3, 1, 1, bias=False),
                nn.BatchNorm2d(features),
            )
            self.shortcut = nn.Sequential()
            if stride != 1 or features_in != features:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(features_in, features, 1, stride, bias=False), nn.BatchNorm2d(features)
                )

        def forward(self, images):
            return nn.functional.relu(self.body(images) + self.shortcut(images))

    if model == "vgg16":
        parts, features = [], 3
        for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
            if width:
                parts += [nn.Conv2d(features, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                features = width
            else:
                parts.append(nn.MaxPool2d(2, 2))
        return nn.Sequential(*parts, nn.Flatten(), nn.Linear(512, 10))
    widths = {"resnet18": (64, 128, 256, 512), "wrn16-4": (64, 128, 256)}[model]
    parts = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    features = 64
    for stage, width in enumerate(widths):
        for block in range(2):
            parts.append(Block(features, width, 2 if stage and not block else 1))
            features = width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 10))


def pytorch(model: str, dtype: str, repeats: int, steps: int, *, tuned: bool) -> float:
    """Seconds a step of a PyTorch loop (torch's Adam with amsgrad; no augmentation).

    Args:
      model: Name of the network.
      dtype: "bfloat16" for autocast.
      repeats: How often the loop is timed.
      steps: Steps of the loop, at whose end alone the host waits for the device.
      tuned: Whether it is compiled, in channels-last and with CUDA graphs, or eager.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    network = torch_network(model).to(device)
    images = torch.randn(BATCH, 3, 32, 32, device=device)
    if tuned:
        network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
        network = torch.compile(network, mode="reduce-overhead")
    labels = torch.randint(0, 10, (BATCH,), device=device)
    optimizer = torch.optim.Adam(
        network.parameters(), 1e-3, amsgrad=True, fused=True, capturable=tuned and device == "cuda"
    )

    def call() -> None:
        for _ in range(steps):
            # The graphs of the step before may write over its outputs from here on.
            torch.compiler.cudagraph_mark_step_begin()
            with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return median_seconds(call, repeats) / steps


def torch_lacks() -> str | None:
    """What keeps PyTorch's loop from being the one to beat; None if nothing does."""
    try:
        import torch
    except ImportError:
        return "torch is not installed, so there is no loop to compare with"
    if not torch.cuda.is_available():
        return "torch sees no GPU, so its compiled loop has no CUDA graphs"
    if jax.default_backend() != "gpu":
        return "torch sees a GPU but jax does not, so the two run on different devices"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet18,vgg16,wrn16-4")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--examples", type=int, help=f"images of our loop; {EPOCH:,} by default, 1,024 on a CPU")
    parser.add_argument("--torch-steps", type=int, help="steps of PyTorch's loop; 100 by default, 8 on a CPU")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()

    on_cpu = jax.default_backend() == "cpu"
    examples = arguments.examples or (8 * BATCH if on_cpu else EPOCH)
    if examples < BATCH:
        parser.error(f"argument --examples: must be at least {BATCH}, a batch; got {examples}.")
    torch_steps = arguments.torch_steps or (8 if on_cpu else 100)
    lacks = torch_lacks()
    if lacks is not None and not arguments.no_torch:
        print(lacks, flush=True)
    rows = []
    for dtype in arguments.dtypes.split(","):
        peak = matrix_peak(dtype, arguments.repeats)
        print(f"matrix product in {dtype}: {peak / 1e9:,.0f} GFLOP/s", flush=True)
        for model in arguments.models.split(","):
            flops = 3 * forward_flops(spec(model, "float32")) * BATCH
            seconds, compiling = ours(model, dtype, arguments.repeats, examples)
            without, _ = ours(model, dtype, arguments.repeats, examples, optimizer=False)
            entry = {
                "model": model,
                "dtype": dtype,
                "images_per_second": BATCH / seconds,
                "share_of_matrix_peak": flops / seconds / peak,
                "compile_seconds": compiling,
                "step_seconds": seconds,
                "step_seconds_with_sgd": without,
                "plain_images_per_second": BATCH / plain(model, dtype, arguments.repeats),
                "torch_images_per_second": None,
                "tuned_torch_images_per_second": None,
            }
            if not arguments.no_torch:
                try:
                    for name, tuned in (("torch", False), ("tuned_torch", True)):
                        if not (tuned and arguments.no_compile):
                            took = pytorch(model, dtype, arguments.repeats, torch_steps, tuned=tuned)
                            entry[f"{name}_images_per_second"] = BATCH / took
                except ImportError:
                    pass
            rows.append(entry)
            print(
                ", ".join(
                    f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                    for name, value in entry.items()
                ),
                flush=True,
            )
    if arguments.out is not None:
        write(
            arguments.out,
            batch=BATCH,
            repeats=arguments.repeats,
            examples=examples,
            torch_steps=torch_steps,
            torch_lacks=lacks,
            rows=rows,
        )


if __name__ == "__main__":
    main()
