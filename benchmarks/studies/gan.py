"""A generative adversarial network on the digits: every p beside Adam, AdamW and SGD (the paper's future work).

    python benchmarks/studies/gan.py [--out FILE] [--picture PNG] [--smoke]

Generator and discriminator are perceptrons of two hidden layers; they take steps in turn, with the same setting, on the
non-saturating loss of Goodfellow et al. (https://arxiv.org/abs/1406.2661, section 3). Data: the 8x8 digits that
scikit-learn ships, as `padam_optax.data.digits` splits them: 1,000 for training, 397 for tuning, and the last 400 for
the reported scores.

The score is the Frechet distance of Heusel et al. (https://arxiv.org/abs/1706.08500) between Gaussians fitted to 1,000
generated and to the held-out images, in the 32 features before the output of a digits classifier, which this script
trains once with a fixed seed. It is not comparable with distances in Inception's features. A training measures 20
distances. The score is the mean of the last five, because a GAN's distance goes up and down. Each method's setting is
chosen from a grid of 18, six rates times three b1 (SGD: momenta, and rates of its own; AdamW has a decay of .01), by
the score on the tuning images with other seeds. The setting that suits all p together is trained too. The methods share
initial weights, batches and noise. Ten minutes on one core.
"""

import argparse
import functools
import pathlib
from typing import Any

import comparing
import jax
import jax.numpy as jnp
import numpy as np
import optax
from comparing import SEEDS, TITLES, Grids, Setting
from flax import nnx

from padam_optax.data.digits import CLASSES, read_digits
from padam_optax.report.figures import new_figure, save

TUNING_SEEDS = (100, 101)
TUNING_IMAGES, GENERATED = 397, 1_000
PIXELS, NOISE, HIDDEN, FEATURES, BATCH = 64, 16, 64, 32, 64
EVALUATIONS, SCORED = 20, 5
GRIDS = Grids(
    rates=(2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    sgd_rates=(3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    b1=(0.0, 0.5, 0.9),
)


class Perceptron(nnx.Module):
    """Two hidden layers with leaky rectifiers.

    Args:
      sizes: Of the input, the two hidden layers and the output.
      rngs: Source of the keys for the parameters.
    """

    def __init__(self, sizes: tuple[int, int, int, int], *, rngs: nnx.Rngs):
        self.first = nnx.Linear(sizes[0], sizes[1], rngs=rngs)
        self.second = nnx.Linear(sizes[1], sizes[2], rngs=rngs)
        self.last = nnx.Linear(sizes[2], sizes[3], rngs=rngs)

    def features(self, inputs: jax.Array) -> jax.Array:
        """The last hidden layer, (N, sizes[2]), of `inputs` (N, sizes[0])."""
        return nnx.leaky_relu(self.second(nnx.leaky_relu(self.first(inputs), 0.2)), 0.2)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The output, (N, sizes[3])."""
        return self.last(self.features(inputs))


def generator(key: jax.Array) -> Perceptron:
    """From noise to the inverse hyperbolic tangent of pixels in [-1, 1]."""
    return Perceptron((NOISE, HIDDEN, HIDDEN, PIXELS), rngs=nnx.Rngs(key))


def discriminator(key: jax.Array) -> Perceptron:
    """From pixels to the logit of being real."""
    return Perceptron((PIXELS, HIDDEN, HIDDEN, 1), rngs=nnx.Rngs(key))


def flat(images: np.ndarray) -> jax.Array:
    """Images of values 0 to 16 as (N, 64) in [-1, 1]."""
    return jnp.asarray(images, jnp.float32).reshape(len(images), PIXELS) / 8 - 1


@functools.partial(jax.jit, static_argnames="steps")
def train_classifier(images: jax.Array, labels: jax.Array, steps: int) -> nnx.State:
    """Parameters of the classifier whose features the distance is of: Adam at 1e-3, batches of 64, seed 0."""
    definition, params = nnx.split(Perceptron((PIXELS, HIDDEN, FEATURES, CLASSES), rngs=nnx.Rngs(0)))
    tx = optax.adam(1e-3)

    def loss(params, batch):
        logits = nnx.merge(definition, params)(images[batch])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]))

    def step(carry, key):
        params, state = carry
        batch = jax.random.randint(key, (BATCH,), 0, len(images))
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(jax.random.key(0), steps))
    return params


def classifier(params: nnx.State) -> Perceptron:
    """The classifier with these parameters."""
    return nnx.merge(nnx.graphdef(Perceptron((PIXELS, HIDDEN, FEATURES, CLASSES), rngs=nnx.Rngs(0))), params)


def square_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric positive semidefinite matrix, float64."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def gaussian_distance(mean: np.ndarray, covariance: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), in float64.

    (C C')^(1/2) has the trace of the root of C^(1/2) C' C^(1/2), which is symmetric.
    """
    root = square_root(covariance)
    values = np.linalg.eigvalsh(root @ covariance2 @ root)
    traces = np.trace(covariance) + np.trace(covariance2) - 2 * np.sqrt(np.maximum(values, 0)).sum()
    return float(np.sum((mean - mean2) ** 2) + traces)


def frechet_distance(features: np.ndarray, features2: np.ndarray) -> float:
    """Between Gaussians fitted to features (N, d) and (M, d); not a number unless all are finite."""
    if not (np.isfinite(features).all() and np.isfinite(features2).all()):
        return float("nan")
    pairs = ((part.mean(axis=0), np.cov(part, rowvar=False)) for part in map(np.float64, (features, features2)))
    (mean, covariance), (mean2, covariance2) = pairs
    return gaussian_distance(mean, covariance, mean2, covariance2)


@functools.partial(jax.jit, static_argnames=("steps", "every"))
def train(
    setting: dict[str, Any], key: jax.Array, images: jax.Array, classifier_params: nnx.State, steps: int, every: int
) -> dict[str, jax.Array]:
    """One training.

    Args:
      setting: Of both optimizers; traced scalars.
      key: Of the initial weights, the batches and the noise.
      images: (N, 64), in [-1, 1].
      classifier_params: Of the features.
      steps: Of the generator and of the discriminator, a multiple of `every`.
      every: Steps between evaluations.

    Returns:
      By name: after each `every` steps the `features` (evaluations, 1000, 32) of images from the same noise, the mean
      `generator_loss` and `discriminator_loss` since the evaluation before, and the last 100 `images`.
    """
    generator_key, discriminator_key, noise_key, step_key = jax.random.split(key, 4)
    make, made = nnx.split(generator(generator_key))
    judge, judged = nnx.split(discriminator(discriminator_key))
    extract = classifier(classifier_params).features
    tx = comparing.optimizer(setting)
    shown_noise = jax.random.normal(noise_key, (GENERATED, NOISE))

    def generate(params, noise):
        return jnp.tanh(nnx.merge(make, params)(noise))

    def discriminator_loss(params, real, generated):
        discriminate = nnx.merge(judge, params)
        return jnp.mean(nnx.softplus(-discriminate(real))) + jnp.mean(nnx.softplus(discriminate(generated)))

    def generator_loss(params, judged, noise):
        return jnp.mean(nnx.softplus(-nnx.merge(judge, judged)(generate(params, noise))))

    def descend(loss, params, state, *arguments):
        value, gradients = jax.value_and_grad(loss)(params, *arguments)
        updates, state = tx.update(gradients, state, params)
        return value, optax.apply_updates(params, updates), state

    def step(carry, inputs):
        made, made_state, judged, judged_state = carry
        batch, noise = inputs
        real, generated = images[batch], generate(made, noise[0])
        judge_loss, judged, judged_state = descend(discriminator_loss, judged, judged_state, real, generated)
        make_loss, made, made_state = descend(generator_loss, made, made_state, judged, noise[1])
        return (made, made_state, judged, judged_state), (make_loss, judge_loss)

    def chunk(carry, key):
        batch_key, key = jax.random.split(key)
        batches = jax.random.randint(batch_key, (every, BATCH), 0, len(images))
        carry, losses = jax.lax.scan(step, carry, (batches, jax.random.normal(key, (every, 2, BATCH, NOISE))))
        make_loss, judge_loss = map(jnp.mean, losses)
        features = extract(generate(carry[0], shown_noise))
        return carry, {"features": features, "generator_loss": make_loss, "discriminator_loss": judge_loss}

    start = (made, tx.init(made), judged, tx.init(judged))
    end, found = jax.lax.scan(chunk, start, jax.random.split(step_key, steps // every))
    return {**found, "images": generate(end[0], shown_noise[:100])}


def compare(steps: int, classifier_steps: int, grids: Grids = GRIDS) -> dict[str, Any]:
    """Trains the classifier, tunes each method and trains the chosen settings with the reported seeds.

    Returns:
      What is recorded, and under "pictures" images of each method's first seed.
    """
    data = read_digits()
    images = flat(data.train.images)
    params = train_classifier(images, jnp.asarray(data.train.labels), classifier_steps)
    network = classifier(params)
    held_out = flat(data.test.images)
    predicted = np.argmax(np.asarray(network(held_out)), axis=1)
    features = np.asarray(network.features(held_out))
    tuning_features, test_features = features[:TUNING_IMAGES], features[TUNING_IMAGES:]

    def run(setting: Setting, seed: int, reference: np.ndarray) -> dict[str, Any]:
        values = {name: jnp.float32(value) for name, value in setting.items()}
        found = train(values, jax.random.key(seed), images, params, steps, steps // EVALUATIONS)
        distances = [frechet_distance(part, reference) for part in np.asarray(found["features"])]
        return {**found, "distances": distances, "score": float(np.mean(distances[-SCORED:]))}

    tuning, curves, scores, pictures = {}, {}, {}, {}
    for method in TITLES:
        settings = grids.settings(method)
        tried = np.array([[run(each, seed, tuning_features)["score"] for seed in TUNING_SEEDS] for each in settings])
        chosen = comparing.choose(tried, lowest=True)
        tuning[method] = comparing.tuning_record(settings, tried, chosen)
        runs = [run(settings[chosen], seed, test_features) for seed in SEEDS]
        scores[method] = [found["score"] for found in runs]
        curves[method] = {
            name: comparing.finite(np.array([found[name] for found in runs]))
            for name in ("distances", "generator_loss", "discriminator_loss")
        }
        pictures[method] = np.asarray(runs[0]["images"])
    common = comparing.common_setting(tuning, lowest=True)
    at_common = {
        name: [run({**common, "p": p}, seed, test_features)["score"] for seed in SEEDS]
        for name, p in comparing.P.items()
    }
    return {
        "data": {"name": data.label, "sha256": data.sha256, "train": len(images), "test": len(test_features)},
        "classifier": {
            "test_accuracy": float(np.mean(predicted == data.test.labels)),
            "test_images": len(held_out),
        },
        "distance_of_training_images": frechet_distance(np.asarray(network.features(images)), test_features),
        "tuning": tuning,
        "frechet_distance": comparing.comparison(scores),
        "common": {"setting": common, "scores": at_common},
        "curves": curves,
        "pictures": {**pictures, "digits": np.asarray(images[:100])},
    }


def draw(result: dict[str, Any], steps: int, path: pathlib.Path) -> None:
    """The distances along the training, mean and standard deviation over the seeds, and images of the first seed."""
    figure = new_figure(11, 6.4)
    grid = figure.add_gridspec(2, 4, width_ratios=(1.6, 0.05, 1, 1))
    axes = figure.add_subplot(grid[:, 0])
    places = np.arange(1, EVALUATIONS + 1) * (steps // EVALUATIONS)
    for method, curves in result["curves"].items():
        values = np.array(curves["distances"], float)
        mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
        text = f"{TITLES[method]}: {comparing.setting_text(result['tuning'][method]['chosen'])}"
        axes.plot(places, mean, color=comparing.COLORS[method], label=text)
        low = np.maximum(mean - deviation, values.min(axis=0))
        axes.fill_between(places, low, mean + deviation, color=comparing.COLORS[method], alpha=0.2)
    axes.axhline(result["distance_of_training_images"], color="black", linestyle=":", label="the training images")
    axes.set(xlabel="step", ylabel="Frechet distance to held-out digits", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    shown = {name: result["pictures"][name] for name in ("adam", "p=1/8", "p=1/2", "digits")}
    for place, (name, images) in zip(((0, 2), (0, 3), (1, 2), (1, 3)), shown.items(), strict=True):
        panel = figure.add_subplot(grid[place])
        framed = np.pad(images.reshape(10, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
        mosaic = framed.transpose(0, 2, 1, 3).reshape(100, 100)
        panel.imshow(mosaic, cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        panel.set(xticks=[], yticks=[])
        panel.set_title(TITLES.get(name, name), fontsize="medium")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2_000, help=f"a multiple of {EVALUATIONS}")
    parser.add_argument("--smoke", action="store_true", help=f"{EVALUATIONS} steps")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    parser.add_argument("--picture", type=pathlib.Path, help="draw it as a PNG")
    arguments = parser.parse_args()
    steps = EVALUATIONS if arguments.smoke else arguments.steps

    result = compare(steps, classifier_steps=steps)
    print(f"classifier's test accuracy {result['classifier']['test_accuracy']:.4f}")
    print(f"distance of the training images {result['distance_of_training_images']:.3f}")
    print(comparing.table_head("Frechet distance"))
    for method in TITLES:
        print(comparing.table_line("gan", result, "frechet_distance", method))
    if arguments.picture is not None:
        draw(result, steps, arguments.picture)
    del result["pictures"]
    if arguments.out is not None:
        settings = {
            "steps": steps,
            "batch": BATCH,
            "generated": GENERATED,
            "evaluations": EVALUATIONS,
            "evaluations_scored": SCORED,
            "tuning_seeds": TUNING_SEEDS,
            "tuning_images": TUNING_IMAGES,
        }
        comparing.write_comparison(arguments.out, ["scikit-learn"], settings, **result)


if __name__ == "__main__":
    main()
