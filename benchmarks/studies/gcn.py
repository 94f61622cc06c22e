"""A graph convolutional network on small named graphs: every p beside Adam, AdamW and SGD (the paper's future work).

    python benchmarks/studies/gcn.py [--out FILE] [--picture PNG] [--smoke]

Kipf and Welling's network and recipe (https://arxiv.org/abs/1609.02907, sections 3.1 and 5.2): two layers with the
renormalised adjacency, identity features, 16 hidden units, dropout of 1/2, L2 of 5e-4 on the first layer, Glorot's
initial weights, 200 epochs of the whole graph. One node of each class is labelled, as in their appendix A.1. The score
is the accuracy on all other nodes after the last epoch. There are three tasks, on graphs that NetworkX ships:

- karate-club: Zachary's karate club, 34 nodes; the 2 classes are the clubs that the members joined;
- karate-communities: the same graph; the 4 classes are its communities of greatest modularity, as in that appendix;
- les-miserables-communities: Knuth's graph of the novel's 77 characters; its 6 communities of greatest modularity.

Communities are the best of 20 runs of `networkx.community.louvain_communities`. The choice of labelled nodes decides
most of the accuracy, so a seed's value is its mean over many draws of them. The methods share draws, initial weights
and dropout. Each method's setting is chosen from a grid of 18, six rates times three b1 (SGD: momenta, and rates of its
own; AdamW has a decay of .01), by the accuracy on draws of other seeds. The setting that suits all p together is
trained too. Six minutes on one CPU core.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import comparing
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import optax
from comparing import SEEDS, TITLES, Grids, Setting
from flax import nnx

from padam_optax.report.figures import new_figure, save

TUNING_SEEDS = (100, 101, 102)
HIDDEN, DROPOUT, L2 = 16, 0.5, 5e-4
GRIDS = Grids(
    rates=(3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    sgd_rates=(3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0),
    b1=(0.0, 0.5, 0.9),
)


class Graph(NamedTuple):
    """A graph whose nodes have classes.

    Attributes:
      adjacency: Renormalised, (N, N), float32.
      classes: Of the nodes, (N,), int32, from 0.
    """

    adjacency: np.ndarray
    classes: np.ndarray


def renormalized_adjacency(adjacency: np.ndarray) -> np.ndarray:
    """D^(-1/2) (A + I) D^(-1/2), where D are the degrees of A + I (Kipf and Welling, section 2.2)."""
    with_loops = np.asarray(adjacency, np.float64) + np.eye(len(adjacency))
    roots = np.sqrt(with_loops.sum(axis=1))
    return (with_loops / np.outer(roots, roots)).astype(np.float32)


def communities(graph: nx.Graph) -> np.ndarray:
    """The community of each node, int32: of 20 runs of Louvain's method that of greatest modularity."""
    found = max(
        (nx.community.louvain_communities(graph, weight=None, seed=seed) for seed in range(20)),
        key=lambda parts: nx.community.modularity(graph, parts, weight=None),
    )
    by_node = {node: number for number, part in enumerate(found) for node in part}
    return np.array([by_node[node] for node in graph], np.int32)


def clubs(graph: nx.Graph) -> np.ndarray:
    """0 for the members who joined Mr. Hi's club, 1 for the others, int32."""
    return np.array([graph.nodes[node]["club"] != "Mr. Hi" for node in graph], np.int32)


TASKS: dict[str, tuple[Callable[[], nx.Graph], Callable[[nx.Graph], np.ndarray]]] = {
    "karate-club": (nx.karate_club_graph, clubs),
    "karate-communities": (nx.karate_club_graph, communities),
    "les-miserables-communities": (nx.les_miserables_graph, communities),
}


def read_graph(task: str) -> Graph:
    """The graph of a task, its edges without weights."""
    make, classes = TASKS[task]
    graph = make()
    return Graph(renormalized_adjacency(nx.to_numpy_array(graph, weight=None)), classes(graph))


class Gcn(nnx.Module):
    """Two graph convolutions without biases, for identity features.

    Args:
      nodes: Of the graph.
      classes: Outputs.
      rngs: Source of the keys for the parameters.
    """

    def __init__(self, nodes: int, classes: int, *, rngs: nnx.Rngs):
        glorot = nnx.initializers.glorot_uniform()
        self.first = nnx.Param(glorot(rngs.params(), (nodes, HIDDEN)))
        self.second = nnx.Param(glorot(rngs.params(), (HIDDEN, classes)))
        # Of identity features, dropout leaves or takes a whole row of the first kernel.
        self.feature_dropout = nnx.Dropout(DROPOUT, broadcast_dims=(1,))
        self.hidden_dropout = nnx.Dropout(DROPOUT)

    def __call__(self, adjacency: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Logits (N, classes); dropout with `key`, none without."""
        keys = (None, None) if key is None else jax.random.split(key)
        first = self.feature_dropout(self.first[...], deterministic=key is None, rngs=keys[0])
        hidden = nnx.relu(adjacency @ first)
        hidden = self.hidden_dropout(hidden, deterministic=key is None, rngs=keys[1])
        return adjacency @ (hidden @ self.second[...])


def draw_labelled(key: jax.Array, classes: np.ndarray) -> jax.Array:
    """A mask of the nodes, True for one of each class, drawn uniformly."""
    noise = jax.random.uniform(key, classes.shape)
    masked = [jnp.where(classes == number, noise, -1.0) for number in range(classes.max() + 1)]
    return jnp.zeros(classes.shape, bool).at[jnp.stack([jnp.argmax(noise) for noise in masked])].set(True)


def train(
    graph: Graph, epochs: int, every: int, setting: dict[str, Any], key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One training.

    Args:
      graph: What it is of.
      epochs: Updates, a multiple of `every`.
      every: Updates between evaluations.
      setting: Of the optimizer; numbers or traced scalars.
      key: Of the labelled nodes, the initial weights and the dropout.

    Returns:
      After each `every` updates the cross-entropy of the labelled nodes (nats, without dropout and decay), and the
      accuracy of the others.
    """
    label_key, model_key, dropout_key = jax.random.split(key, 3)
    adjacency, classes = jnp.asarray(graph.adjacency), jnp.asarray(graph.classes)
    labelled = draw_labelled(label_key, graph.classes)
    model = Gcn(len(classes), int(graph.classes.max()) + 1, rngs=nnx.Rngs(model_key))
    definition, params, rest = nnx.split(model, nnx.Param, ...)
    tx = comparing.optimizer(setting)

    def cross_entropy(logits):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, classes), where=labelled)

    def loss(params, key):
        logits = nnx.merge(definition, params, rest)(adjacency, key=key)
        return cross_entropy(logits) + L2 / 2 * jnp.sum(params["first"][...] ** 2)

    def step(carry, key):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, key), state, params)
        return (optax.apply_updates(params, updates), state), None

    def chunk(carry, keys):
        carry, _ = jax.lax.scan(step, carry, keys)
        logits = nnx.merge(definition, carry[0], rest)(adjacency)
        return carry, (cross_entropy(logits), jnp.mean(jnp.argmax(logits, -1) == classes, where=~labelled))

    keys = jax.random.split(dropout_key, (epochs // every, every))
    return jax.lax.scan(chunk, (params, tx.init(params)), keys)[1]


Trainer = Callable[[list[Setting], jax.Array], tuple[np.ndarray, np.ndarray]]


def trainer(graph: Graph, epochs: int, every: int) -> Trainer:
    """Trainings together: a function of their settings and keys that returns their losses and accuracies.

    Both are (trainings, evaluations); where a loss is not finite, neither is the accuracy. As many trainings with
    settings of the same names share a compiled program.
    """
    mapped = jax.jit(jax.vmap(functools.partial(train, graph, epochs, every)))

    def run(settings: list[Setting], keys: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        values = {name: jnp.array([setting[name] for setting in settings]) for name in settings[0]}
        losses, accuracies = (np.asarray(part, np.float64) for part in mapped(values, keys))
        return losses, np.where(np.isfinite(losses), accuracies, np.nan)

    return run


def draw_keys(seeds: tuple[int, ...], draws: int) -> jax.Array:
    """Keys of the draws of each seed, one seed after another."""
    return jnp.concatenate([jax.random.split(jax.random.key(seed), draws) for seed in seeds])


def compare(task: str, draws: int, tuning_draws: int, epochs: int, every: int, grids: Grids = GRIDS) -> dict[str, Any]:
    """Tunes each method on a task and trains the chosen settings with the reported seeds."""
    graph = read_graph(task)
    run = trainer(graph, epochs, every)
    tuning_keys, keys = draw_keys(TUNING_SEEDS, tuning_draws), draw_keys(SEEDS, draws)
    tuning, curves, final = {}, {}, {}
    for method in TITLES:
        settings = grids.settings(method)
        lanes = [setting for setting in settings for _ in tuning_keys]
        _, accuracies = run(lanes, jnp.tile(tuning_keys, len(settings)))
        scores = accuracies[:, -1].reshape(len(settings), len(TUNING_SEEDS), tuning_draws).mean(axis=2)
        chosen = comparing.choose(scores, lowest=False)
        tuning[method] = comparing.tuning_record(settings, scores, chosen)
        losses, accuracies = (
            part.reshape(len(SEEDS), draws, -1).mean(axis=1) for part in run([settings[chosen]] * len(keys), keys)
        )
        final[method] = accuracies[:, -1].tolist()
        curves[method] = {"train_loss": comparing.finite(losses), "accuracy": comparing.finite(accuracies)}
    common = comparing.common_setting(tuning, lowest=False)
    at_common = {}
    for name, p in comparing.P.items():
        _, accuracies = run([{**common, "p": p}] * len(keys), keys)
        at_common[name] = accuracies[:, -1].reshape(len(SEEDS), draws).mean(axis=1).tolist()
    return {
        "nodes": len(graph.classes),
        "class_sizes": np.bincount(graph.classes).tolist(),
        "tuning": tuning,
        "accuracy": comparing.comparison(final),
        "common": {"setting": common, "scores": at_common},
        "curves": curves,
    }


def draw(results: dict[str, Any], epochs: list[int], path: pathlib.Path) -> None:
    """Accuracy and train loss against epochs: mean and standard deviation over the seeds, a column a task."""
    figure = new_figure(4 * len(results), 6)
    panels = figure.subplots(2, len(results), sharex=True, squeeze=False)
    for column, (task, result) in enumerate(results.items()):
        for axes, (name, label) in zip(
            panels[:, column],
            {"accuracy": "accuracy of the unlabelled nodes", "train_loss": "cross-entropy, labelled"}.items(),
            strict=True,
        ):
            for method, curves in result["curves"].items():
                values = np.array(curves[name], float)
                mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
                text = f"{TITLES[method]}: {comparing.setting_text(result['tuning'][method]['chosen'])}"
                # Dashed where two methods may coincide.
                style = "--" if method == "p=1/2" else "-"
                axes.plot(epochs, mean, style, color=comparing.COLORS[method], label=text)
                axes.fill_between(epochs, mean - deviation, mean + deviation, color=comparing.COLORS[method], alpha=0.2)
            axes.grid(alpha=0.3)
            axes.set_ylabel(label)
        panels[0, column].set_title(task)
        panels[0, column].legend(fontsize=6.5)
        panels[1, column].set_yscale("log")
        panels[1, column].set_xlabel("epoch")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=216, help="draws of the labelled nodes, for each seed")
    parser.add_argument("--tuning-draws", type=int, default=20, help="the same for each seed of the tuning")
    parser.add_argument("--epochs", type=int, default=200, help="updates, a multiple of 10")
    parser.add_argument("--smoke", action="store_true", help="few draws and 20 epochs")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    parser.add_argument("--picture", type=pathlib.Path, help="draw it as a PNG")
    arguments = parser.parse_args()
    draws, tuning_draws, epochs, every = arguments.draws, arguments.tuning_draws, arguments.epochs, 10
    if arguments.smoke:
        draws, tuning_draws, epochs = 4, 2, 20

    print(comparing.table_head("accuracy"))
    results = {}
    for task in TASKS:
        result = results[task] = compare(task, draws, tuning_draws, epochs, every)
        for method in TITLES:
            print(comparing.table_line(task, result, "accuracy", method), flush=True)
    if arguments.picture is not None:
        draw(results, list(range(every, epochs + 1, every)), arguments.picture)
    if arguments.out is not None:
        settings = {
            "draws": draws,
            "tuning_draws": tuning_draws,
            "epochs": epochs,
            "evaluated_every": every,
            "tuning_seeds": TUNING_SEEDS,
        }
        comparing.write_comparison(arguments.out, ["networkx"], settings, tasks=results)


if __name__ == "__main__":
    main()
