"""Tokens per second of the paper's language models in training, beside torch.nn.LSTM on the same device.

    python benchmarks/speed/lm_throughput.py [--models ptb-lstm2,ptb-lstm3] [--dtypes float32,bfloat16] [--out FILE]

For each network and dtype, in one run, batch 20:

- ours: `Trainer.train_steps` as `padam run` calls it, all dropouts, regularisers and clipping on, windows of random
  length around 70, with Padam;
- PyTorch, where torch is installed: embedding, torch.nn.LSTM layers of the same sizes (cuDNN on a GPU), a tied decoder,
  locked dropouts, clipping and fused Adam with amsgrad on windows of 70. For bfloat16 the LSTM's own weights and states
  are bfloat16, so that cuDNN computes in it (TF32 in float32), and the rest is under autocast. This loop has no dropout
  of the recurrent weights and no regularisers, which is in its favour. The script says if torch or a shared GPU is
  missing;
- together: the time of several runs (--together) mapped over seeds and learning rates in one program, over the time of
  one run. If this ratio is below the number of runs, training together is faster than one after another.

Run it on an idle machine.
"""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from measuring import median_seconds, write

from padam_optax.experiments import find
from padam_optax.experiments.spec import Experiment, LanguageModelling
from padam_optax.runner.programs import trainer_for

VOCABULARY = 10_000
WINDOW = 70


def spec(name: str, dtype: str) -> Experiment:
    return dataclasses.replace(find(f"{name}-padam"), compute_dtype=dtype)


def language(experiment: Experiment) -> LanguageModelling:
    assert isinstance(experiment.task, LanguageModelling)
    return experiment.task


def vocabulary(experiment: Experiment) -> int:
    return language(experiment).vocabulary or VOCABULARY


def text(experiment: Experiment, steps: int) -> np.ndarray:
    """Random words, enough for so many windows, (rows, columns)."""
    shape = (steps * 2 * WINDOW, experiment.batch_size)
    return np.random.default_rng(0).integers(0, vocabulary(experiment), shape).astype(np.int32)


def ours(experiment: Experiment, repeats: int, steps: int, together: int) -> tuple[float, float]:
    """Tokens a second, over all runs, and seconds of the first call (compilation above all)."""
    tokens = text(experiment, steps)
    trainer = trainer_for(experiment, tokens.size, vocabulary(experiment))
    settings = {name: jnp.asarray(value) for name, value in experiment.hyperparameters.items()}
    seeds = jnp.int32(0)
    train, init = functools.partial(trainer.train_steps, check_gradients=False), trainer.init
    if together > 1:
        seeds = jnp.arange(together)
        settings = jax.tree.map(lambda value: value * jnp.linspace(0.5, 1.0, together), settings)
        # Lanes share the text, the epoch and the numbers of the steps.
        train = jax.jit(jax.vmap(train, (0, 0, 0, None, None, None, None)), donate_argnums=0)
        init = jax.vmap(init)
    data = {"tokens": jnp.asarray(tokens)}
    state = init(seeds, settings)
    began = time.perf_counter()
    state = train(state, seeds, settings, data, 0, 0, 0)
    jax.block_until_ready(state.step)
    compiling = time.perf_counter() - began

    def call() -> None:
        nonlocal state
        state = train(state, seeds, settings, data, 0, 0, steps)
        jax.block_until_ready(state.step)

    seconds = median_seconds(call, repeats)
    return together * trainer.batches.examples(0, 0, steps, data) / seconds, compiling


def pytorch(experiment: Experiment, dtype: str, repeats: int, steps: int) -> float:
    """Tokens a second of a plain PyTorch loop."""
    import torch
    from torch import nn
    from torch.nn import functional

    options = experiment.model_options
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    width = options["embedding"]
    sizes = [width, *[options["hidden"]] * (options["layers"] - 1), width]
    embedding = nn.Embedding(vocabulary(experiment), width, device=device)
    # Autocast would cast the LSTM's weights at each call and copy them to where cuDNN wants them.
    layers = nn.ModuleList(
        nn.LSTM(size_in, size, device=device, dtype=kind) for size_in, size in itertools.pairwise(sizes)
    )
    bias = nn.Parameter(torch.zeros(vocabulary(experiment), device=device))
    parameters = [*embedding.parameters(), *layers.parameters(), bias]
    optimizer = torch.optim.Adam(parameters, 1e-3, weight_decay=1.2e-6, amsgrad=True, fused=True)
    tokens = torch.as_tensor(text(experiment, steps).astype(np.int64), device=device)

    def locked(values, rate: float):
        return values * functional.dropout(torch.ones_like(values[:1]), rate)

    def call() -> None:
        hidden: list = [None] * len(layers)
        for step in range(steps):
            window = tokens[step * WINDOW : (step + 1) * WINDOW + 1]
            with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
                values = locked(embedding(window[:-1]), options["input_dropout"])
                for index, layer in enumerate(layers):
                    with torch.autocast(device, enabled=False):
                        values, state = layer(values.to(kind), hidden[index])
                    hidden[index] = tuple(part.detach() for part in state)
                    last = index == len(layers) - 1
                    values = locked(values, options["output_dropout" if last else "between_dropout"])
                logits = functional.linear(values, embedding.weight, bias)
                loss = functional.cross_entropy(logits.flatten(0, 1).float(), window[1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, language(experiment).gradient_clip)
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return steps * WINDOW * experiment.batch_size / median_seconds(call, repeats)


def torch_lacks() -> str | None:
    """What keeps PyTorch's loop from being cuDNN's on the device that ours runs on; None if nothing does."""
    try:
        import torch
    except ImportError:
        return "torch is not installed, so there is no loop to compare with"
    if not (torch.cuda.is_available() and torch.backends.cudnn.is_available()):
        return "torch sees no GPU with cuDNN, so its LSTM is not cuDNN's"
    if jax.default_backend() != "gpu":
        return "torch sees a GPU but jax does not, so the two run on different devices"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="ptb-lstm2,ptb-lstm3", help="suites, separated by commas; ptb-mini too")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="windows in one call")
    parser.add_argument("--together", type=int, default=8, help="runs to train together; 1 leaves that out")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()

    lacks = torch_lacks()
    if lacks is not None and not arguments.no_torch:
        print(lacks, flush=True)
    rows = []
    for dtype in arguments.dtypes.split(","):
        for model in arguments.models.split(","):
            experiment = spec(model, dtype)
            alone, compiling = ours(experiment, arguments.repeats, arguments.steps, 1)
            row = {
                "model": model,
                "dtype": dtype,
                "tokens_per_second": alone,
                "compile_seconds": compiling,
                "runs_together": arguments.together,
                "time_together_over_time_of_one": None,
                "torch_tokens_per_second": None,
            }
            if arguments.together > 1:
                tokens, _ = ours(experiment, arguments.repeats, arguments.steps, arguments.together)
                row["time_together_over_time_of_one"] = arguments.together * alone / tokens
            if not arguments.no_torch:
                with contextlib.suppress(ImportError):
                    row["torch_tokens_per_second"] = pytorch(experiment, dtype, arguments.repeats, arguments.steps)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if arguments.out is not None:
        write(arguments.out, batch=20, steps=arguments.steps, repeats=arguments.repeats, torch_lacks=lacks, rows=rows)


if __name__ == "__main__":
    main()
