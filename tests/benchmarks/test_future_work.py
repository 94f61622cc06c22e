"""The paper's future work: the graph network and the GAN of `benchmarks/`, their measures, and what is recorded."""

import json
import math
import pathlib

import comparing
import gan
import gcn
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import optax
import pytest
import scipy.linalg
import scipy.stats

import padam_optax

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
MEASUREMENTS = BENCHMARKS / "records" / "measurements"
RECORDED = {name: json.loads((MEASUREMENTS / f"{name}.json").read_text()) for name in ("gcn", "gan")}
RNG = np.random.default_rng(0)


def test_renormalized_adjacency_of_a_path():
    """0 - 1 - 2, by hand: with loops the degrees are 2, 3, 2."""
    adjacency = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    side = 1 / math.sqrt(6)
    expected = [[1 / 2, side, 0], [side, 1 / 3, side], [0, side, 1 / 2]]
    np.testing.assert_allclose(gcn.renormalized_adjacency(adjacency), expected, rtol=1e-6)


def test_classes_of_the_karate_club():
    """The clubs have 17 members each; the greatest modularity is .420, with 4 communities (Brandes et al. 2008)."""
    graph = nx.karate_club_graph()
    assert np.bincount(gcn.clubs(graph)).tolist() == [17, 17]
    # The instructor and the president.
    assert gcn.clubs(graph)[[0, 33]].tolist() == [0, 1]
    classes = gcn.communities(graph)
    parts = [set(np.flatnonzero(classes == number).tolist()) for number in range(4)]
    assert set().union(*parts) == set(graph)
    assert nx.community.modularity(graph, parts, weight=None) == pytest.approx(0.4198, abs=5e-5)


@pytest.mark.parametrize("task", gcn.TASKS)
def test_one_node_of_each_class_is_labelled(task):
    classes = gcn.read_graph(task).classes
    masks = np.asarray(jax.vmap(lambda key: gcn.draw_labelled(key, classes))(jax.random.split(jax.random.key(0), 200)))
    for mask in masks:
        assert sorted(classes[mask]) == list(range(classes.max() + 1))
    assert masks.any(axis=0).sum() > len(classes) * 0.8


def test_graph_network():
    """softmax's input is A relu(A W) W'; dropout, of whole rows of W, only with a key."""
    graph = gcn.read_graph("karate-club")
    model = gcn.Gcn(34, 2, rngs=gcn.nnx.Rngs(0))
    first, second = np.asarray(model.first[...]), np.asarray(model.second[...])
    expected = graph.adjacency @ np.maximum(graph.adjacency @ first, 0) @ second
    np.testing.assert_allclose(model(graph.adjacency), expected, rtol=1e-4, atol=1e-6)
    dropped = np.asarray(model.feature_dropout(model.first[...], deterministic=False, rngs=jax.random.key(0)))
    ratio = dropped / first
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape))
    assert set(np.round(ratio[:, 0], 5)) == {0, 2}
    outputs = [model(graph.adjacency, key=jax.random.key(seed)) for seed in (0, 1)]
    assert not np.allclose(*outputs)


def test_graph_training_lowers_the_loss():
    run = gcn.trainer(gcn.read_graph("karate-club"), epochs=40, every=10)
    losses, accuracies = run([{"learning_rate": 0.03, "b1": 0.9, "p": 0.4}] * 8, gcn.draw_keys((0, 1), 4))
    assert losses.shape == accuracies.shape == (8, 4)
    assert losses[:, -1].mean() < losses[:, 0].mean() < math.log(2) + 0.1
    assert accuracies[:, -1].mean() > 0.6


def test_distance_of_equal_and_of_moved_features():
    features = RNG.normal(size=(50, 4))
    assert gan.frechet_distance(features, features) == pytest.approx(0, abs=1e-12)
    assert gan.frechet_distance(features, features + np.array([3, 0, 0, 4])) == pytest.approx(25)
    # Twice as wide: |m|^2 + tr C.
    expected = np.sum(features.mean(axis=0) ** 2) + np.trace(np.cov(features, rowvar=False))
    assert gan.frechet_distance(features, 2 * features) == pytest.approx(expected)
    assert math.isnan(gan.frechet_distance(features, np.where(features > 1, np.inf, features)))


def test_distance_of_gaussians():
    """Covariances diag(1, 4) and diag(9, 1): (1 - 3)^2 + (2 - 1)^2, and 1^2 for the means; others against SciPy."""
    distance = gan.gaussian_distance(np.zeros(2), np.diag([1.0, 4.0]), np.array([0.0, 1.0]), np.diag([9.0, 1.0]))
    assert distance == pytest.approx(4 + 1 + 1)
    one, other = (part @ part.T for part in RNG.normal(size=(2, 5, 5)))
    expected = np.trace(one + other - 2 * scipy.linalg.sqrtm(one @ other)).real
    assert gan.gaussian_distance(np.zeros(5), one, np.zeros(5), other) == pytest.approx(expected, rel=1e-6)


def test_gan_training_lowers_loss_and_distance():
    data = gan.read_digits()
    images = gan.flat(data.train.images)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    params = gan.train_classifier(images, jnp.asarray(data.train.labels), 100)
    network = gan.classifier(params)
    accuracy = np.mean(np.argmax(network(gan.flat(data.test.images)), axis=1) == data.test.labels)
    assert accuracy > 0.8
    setting = {"learning_rate": 5e-4, "b1": 0.5, "p": 0.25}
    found = gan.train(setting, jax.random.key(0), images, params, steps=60, every=20)
    distances = [gan.frechet_distance(part, np.asarray(network.features(images))) for part in found["features"]]
    assert distances[-1] < distances[0]
    assert found["discriminator_loss"][0] < 2 * math.log(2) + 0.1
    assert found["discriminator_loss"][1] < found["discriminator_loss"][0]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"learning_rate": 0.01, "b1": 0.8}, optax.adam(0.01, b1=0.8)),
        (
            {"learning_rate": 0.01, "b1": 0.8, "p": 0.125},
            padam_optax.padam(0.01, b1=0.8, p=0.125, reference_p=0.5),
        ),
        (
            {"learning_rate": 0.01, "b1": 0.8, "weight_decay": 0.1},
            optax.adamw(0.01, b1=0.8, weight_decay=0.1),
        ),
        ({"learning_rate": 0.01, "momentum": 0.8}, optax.sgd(0.01, 0.8)),
    ],
    ids=["adam", "padam", "adamw", "sgdm"],
)
def test_optimizers(setting, expected):
    gradients = [jnp.array([0.5, -2.0]), jnp.array([0.1, 1.0])]
    found = []
    for tx in (comparing.optimizer(setting), expected):
        params = jnp.ones(2)
        state = tx.init(params)
        for gradient in gradients:
            updates, state = tx.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        found.append(params)
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.parametrize("module", [gcn, gan], ids=lambda module: module.__name__)
def test_all_have_one_grid(module):
    """Every p and AdamW try the rates and the b1 that Adam tries; SGD as many rates of its own and as many momenta."""
    found = {method: module.GRIDS.settings(method) for method in comparing.TITLES}
    assert len(found["adam"]) == len({tuple(setting.items()) for setting in found["adam"]}) == 18
    for name, p in comparing.P.items():
        assert found[name] == [{**setting, "p": p} for setting in found["adam"]]
    assert found["adamw"] == [{**setting, "weight_decay": 0.01} for setting in found["adam"]]
    assert len(found["sgdm"]) == len({tuple(setting.items()) for setting in found["sgdm"]}) == 18
    assert {setting["momentum"] for setting in found["sgdm"]} == {setting["b1"] for setting in found["adam"]}
    assert list(comparing.P.values()) == [0, 1 / 16, 1 / 8, 1 / 4, 2 / 5, 1 / 2]
    assert not set(module.TUNING_SEEDS) & set(comparing.SEEDS)


def test_choice_and_comparison():
    scores = np.array([[1, 5], [2, np.nan], [2, 2], [4, 4]])
    assert comparing.choose(scores, lowest=True) == 2
    assert comparing.choose(scores, lowest=False) == 3
    with pytest.raises(ValueError, match="every setting diverged"):
        comparing.choose(scores[1:2], lowest=True)
    settings = [{"learning_rate": rate, "b1": 0.5} for rate in (0.1, 0.2, 0.3)] + [{"learning_rate": 9, "b1": 0.9}]
    record = comparing.tuning_record(settings, scores, 1)
    assert (record["diverged_runs"], record["diverged_settings"], record["at_edge_of_rates"]) == (1, 1, False)
    assert record["settings"][1] == {"learning_rate": 0.2, "b1": 0.5, "scores": [2, None]}
    assert comparing.at_edge(settings, 2)
    found = comparing.comparison({"adam": [1.0, 2.0, 3.0, math.nan], "p=0": [2.0, 2.0, 5.0, 9.0]})
    assert found["adam"] == {"n": 3, "diverged": 1, "mean": 2, "standard_deviation": 1}
    assert found["p=0"]["mean"] == 4.5
    difference = found["p=0"]["minus_adam"]
    assert (difference["n"], difference["differences"], difference["mean"]) == (3, [1, 0, 2], 1)
    # Student's t with two degrees of freedom: 4.303 standard errors.
    assert difference["interval"] == pytest.approx((1 - 4.303 / math.sqrt(3), 1 + 4.303 / math.sqrt(3)), rel=1e-3)


def test_common_setting():
    """The one whose worst score over p is the best; 0.1 suits some p better, but not all."""

    def scores(*pairs):
        return {
            "settings": [
                {"learning_rate": rate, "b1": 0.5, "scores": of} for rate, of in zip((0.1, 0.2), pairs, strict=True)
            ]
        }

    tuning = {name: scores([1.0, 1.0], [2.0, 2.0]) for name in comparing.P} | {"p=0": scores([9.0, 9.0], [3.0, 3.0])}
    assert comparing.common_setting(tuning, lowest=True) == {"learning_rate": 0.2, "b1": 0.5}
    tuning["p=1/2"] = scores([1.0, 1.0], [2.0, None])
    assert comparing.common_setting(tuning, lowest=True) == {"learning_rate": 0.1, "b1": 0.5}


def recorded_comparisons():
    """What is recorded, its module, the values of each method by seed, and the comparison of them."""
    for task, result in RECORDED["gcn"]["tasks"].items():
        values = {method: [run[-1] for run in curves["accuracy"]] for method, curves in result["curves"].items()}
        yield task, gcn, result, values, "accuracy"
    result = RECORDED["gan"]
    values = {
        method: np.mean([run[-gan.SCORED :] for run in curves["distances"]], axis=1).tolist()
        for method, curves in result["curves"].items()
    }
    yield "gan", gan, result, values, "frechet_distance"


def test_what_remains_after_holm():
    """Of all comparisons with Adam only SGD's on Les Miserables differs from 0 at .05, as benchmarks/README.md says."""
    differences = {
        (name, method): row["minus_adam"]["differences"]
        for name, _, result, _, metric in recorded_comparisons()
        for method, row in result[metric].items()
        if method != "adam"
    }
    assert len(differences) == 32
    values = sorted((scipy.stats.ttest_1samp(each, 0).pvalue, key) for key, each in differences.items())
    assert values[0][1] == ("les-miserables-communities", "sgdm")
    assert 32 * values[0][0] < 0.05 < 31 * values[1][0]


@pytest.mark.parametrize("record", list(recorded_comparisons()), ids=lambda record: record[0])
def test_recorded_results(record):
    """They follow from the recorded values and this grid, and are those of the table in benchmarks/README.md."""
    name, module, result, values, metric = record
    tuning = result["tuning"]
    page = (BENCHMARKS / "README.md").read_text()
    found = comparing.comparison(values)
    assert result["common"]["setting"] == comparing.common_setting(tuning, lowest=module is gan)
    assert list(result[metric]) == list(comparing.TITLES)
    for method, row in result[metric].items():
        tried = [{key: value for key, value in each.items() if key != "scores"} for each in tuning[method]["settings"]]
        assert tried == module.GRIDS.settings(method)
        scores = np.array([each["scores"] for each in tuning[method]["settings"]], float)
        assert tuning[method]["chosen"] == tried[comparing.choose(scores, lowest=module is gan)]
        assert (row["n"], row["diverged"]) == (found[method]["n"], found[method]["diverged"])
        assert row["mean"] == pytest.approx(found[method]["mean"])
        assert comparing.table_line(name, result, metric, method) in page
        if method != "adam":
            assert row["minus_adam"]["interval"] == pytest.approx(found[method]["minus_adam"]["interval"])
