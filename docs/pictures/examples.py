"""Draws the pictures of docs/examples.md from the page's own code: `python docs/pictures/examples.py FOLDER`."""

import pathlib
import re
import sys
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from padam_optax import diagnostics

PAGE = pathlib.Path(__file__).parents[1] / "examples.md"
DEVICES = 8
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def compare_losses(axes: Any, names: dict[str, Any]) -> None:
    """Padam beside AdamW, at one rate."""
    axes.semilogy(names["losses"], label="Padam, p = 1/8", color=BLUE)
    axes.semilogy(names["losses_of_adamw"], "--", label="AdamW", color=ORANGE)
    axes.set(xlabel="Step", ylabel="Loss", title="CNN: both at AdamW's learning rate")


def perplexity(axes: Any, names: dict[str, Any]) -> None:
    """From guessing to knowing."""
    axes.semilogy(np.exp(names["losses"]), label="Padam, p = 1/8", color=BLUE)
    axes.axhline(12, linestyle=":", label="guessing one of 12 words", color="gray")
    axes.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    axes.minorticks_off()
    axes.set(xlabel="Step", ylabel="Perplexity", title="Language model: perplexity")


def losses_by_p(axes: Any, names: dict[str, Any]) -> None:
    """Three values of p at one schedule."""
    for (p, losses), style, color in zip(
        names["losses_by_p"].items(), ("-", "--", ":"), (BLUE, ORANGE, GREEN), strict=True
    ):
        axes.semilogy(losses, style, label=f"p = 1/{round(1 / p)}", color=color)
    axes.set(xlabel="Step", ylabel="Loss", title="Transformer: one schedule for every p")


def rates_by_group(axes: Any, names: dict[str, Any]) -> None:
    """Where the effective learning rates of each group lie: median, and from the 5th to the 95th percentile."""
    model, optimizer = nnx.split(names["Bigrams"](nnx.Rngs(0))), names["by_group"]
    groups = {"rest": (1 / 8, "-", BLUE, "head"), "words": (1 / 2, "--", ORANGE, "embedding")}

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            return names["cross_entropy"](nnx.merge(model[0], params), names["words"], names["following"])

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        found = {
            name: diagnostics.summarize(inner, 1e-2, p=groups[name][0], reference_p=1 / 2, quantiles=(0.05, 0.5, 0.95))
            for name, inner in state.inner_states.items()
        }
        return optax.apply_updates(params, updates), state, {name: each.quantiles for name, each in found.items()}

    params, state, found = model[1], optimizer.init(model[1]), []
    for _ in range(60):
        params, state, quantiles = step(params, state)
        found.append(quantiles)
    steps = np.arange(1, 61)
    for name, (p, style, color, label) in groups.items():
        # diagnostics leaves out the correction of the second moment's bias, which these steps have.
        low, median, high = np.array([each[name] for each in found]).T * (1 - 0.999**steps) ** p
        axes.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
        axes.semilogy(steps, median, style, label=f"{label}, p = 1/{round(1 / p)}", color=color)
    axes.set(xlabel="Step", ylabel="Effective learning rate", title="Two groups, one learning rate")


def falling_p(axes: Any, names: dict[str, Any]) -> None:
    """How far a coordinate goes, by the size of its gradients."""
    steps = np.arange(201)
    p = np.array([float(names["falling"](step)) for step in steps])
    for size, style, color in ((0.01, "-", BLUE), (0.1, "--", ORANGE), (1, ":", GREEN)):
        axes.semilogy(steps, size ** (1 - 2 * p), style, label=f"gradients of size {size:g}", color=color)
    axes.set(xlabel="Step", ylabel="Update over the largest", title="p falls from 1/2 to 0")


def shards(axes: Any, names: dict[str, Any]) -> None:
    """The rows that each device holds, of the parameters and of each moment."""
    (moments,) = (each for each in jax.tree.leaves(names["state"], is_leaf=has_moments) if has_moments(each))
    arrays = {"w": names["params"], "mu": moments.mu, "nu": moments.nu, "nu_max": moments.nu_max}
    for column, tree in enumerate(arrays.values()):
        (array,) = jax.tree.leaves(tree)
        for device, (rows, _) in array.sharding.devices_indices_map(array.shape).items():
            first, stop, _ = rows.indices(array.shape[0])
            axes.bar(column, stop - first, 0.8, first, color=plt.get_cmap("tab10")(device.id), edgecolor="white")
            axes.text(
                column, (first + stop) / 2, f"device {device.id}", ha="center", va="center", color="white", fontsize=8
            )
    axes.set_xticks(range(len(arrays)), arrays)
    axes.set(ylabel="Row", title=f"{DEVICES} devices, a share of the rows each")
    axes.set_yticks(range(0, 8 * DEVICES + 1, 16))
    axes.invert_yaxis()


def has_moments(node: Any) -> bool:
    """Whether a node of a state is Padam's."""
    return hasattr(node, "nu_max")


# The page's sections, in their order.
PICTURES = {
    "cnn": compare_losses,
    "language-model": perplexity,
    "transformer": losses_by_p,
    "by-group": rates_by_group,
    "falling-p": falling_p,
    "sharded": shards,
}


def main(folder: pathlib.Path) -> None:
    """Runs each section's code, which may overwrite the names of those before, and draws its picture."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    # Small programs are compiled for longer than they run.
    jax.config.update("jax_disable_most_optimizations", True)
    _, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names: dict[str, Any] = {}
    for section, (picture, draw) in zip(sections, PICTURES.items(), strict=True):
        for block in re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
            exec(block, names)
        # As wide as a card on a wide screen, so that letters keep their size.
        figure, axes = plt.subplots(figsize=(4.2, 2.8), layout="constrained")
        draw(axes, names)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize="small")
        figure.savefig(folder / f"example-{picture}.svg")
        plt.close(figure)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
