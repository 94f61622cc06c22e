"""The trainer on a task small enough to see each example pass, the classification task, and checkpoints."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from padam_optax.models.layers import BatchNorm, Conv, Linear
from padam_optax.training.batches import Shuffled
from padam_optax.training.checkpoint import Checkpoints
from padam_optax.training.epoch import ResidentData
from padam_optax.training.loop import Trainer, TrainState, free_programs
from padam_optax.training.tasks import Classification, mean_over_examples

EXAMPLES, BATCH = 11, 3
STEPS = EXAMPLES // BATCH


@dataclasses.dataclass(eq=False)
class Recorder:
    """Fits one weight to 2. The model state keeps the examples and a random number of each step of the last epoch.

    Where the model state's `spoilt` is true, at a step of the first two epochs, the loss is infinite, and where `steep`
    is, the gradient NaN. `traces` counts how often the loss is traced.
    """

    traces: int = 0
    metrics: tuple[str, ...] = ("loss", "first")
    batch_axis: int = 0
    eval_batch_size: int = 4

    def init(self, key):
        state = {
            "step": jnp.zeros([], jnp.int32),
            "order": jnp.full((STEPS, BATCH), -1),
            "draws": jnp.zeros(STEPS),
            "spoilt": jnp.zeros(2 * STEPS, bool),
            "steep": jnp.zeros(2 * STEPS, bool),
        }
        return jax.random.normal(key), state

    def loss(self, params, model_state, batch, key, *, updates=None):
        self.traces += 1
        step = model_state["step"]
        # The root of 0 is 0, and its slope infinite: times 0, NaN.
        under = jnp.where(model_state["steep"][step], 0.0, 1.0)
        loss = (
            jnp.sqrt(0 * params + under)
            - under
            + jnp.mean(batch["weight"]) * (params - 2.0) ** 2
            + jnp.where(model_state["spoilt"][step], jnp.inf, 0.0)
        )
        state = model_state | {
            "step": step + 1,
            "order": model_state["order"].at[step % STEPS].set(batch["index"]),
            "draws": model_state["draws"].at[step % STEPS].set(jax.random.uniform(key)),
        }
        return loss, (state, {"loss": loss, "first": batch["index"][0].astype(float)})

    def next_epoch(self, model_state):
        return model_state

    def evaluate(self, params, model_state, data, split):
        def metrics(batch):
            return {"index": batch["index"].astype(float), "one": jnp.ones(len(batch["index"])), "params": params}

        return mean_over_examples(metrics, data, self.eval_batch_size, split)


def train_epoch(trainer: Trainer, state: TrainState, seed, settings, data):
    """One epoch in one call, with the metrics and the step that was not finite."""
    state = trainer.train_steps(state, seed, settings, data, state.epoch + 0, 0, STEPS)
    state, means, nonfinite = trainer.finish_epoch(state, seed, settings, data, STEPS)
    return state, {**means, "nonfinite_step": nonfinite}


def settings(learning_rate: float = 0.1) -> dict[str, jax.Array]:
    return {"learning_rate": jnp.asarray(learning_rate)}


def examples(count: int = EXAMPLES) -> dict[str, jax.Array]:
    return {"index": jnp.arange(count), "weight": jnp.linspace(0.5, 1.5, count)}


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    """One for all tests, which compile its functions once."""
    return Trainer(
        Recorder(),
        lambda settings, factor: optax.sgd(settings["learning_rate"] * factor),
        lambda epoch: 1.0,
        Shuffled(BATCH),
    )


def epochs(trainer: Trainer, count: int, seed: int = 0, learning_rate: float = 0.1, **faults: tuple[int, ...]):
    """Model states and metrics of so many epochs, and the last state; `faults` by name with their steps."""
    seed = jnp.asarray(seed, jnp.int32)
    state, seen, metrics = trainer.init(seed, settings(learning_rate)), [], []
    masks = {name: jnp.asarray(np.isin(np.arange(2 * STEPS), steps)) for name, steps in faults.items()}
    state = dataclasses.replace(state, model_state=state.model_state | masks)
    for _ in range(count):
        state, means = train_epoch(trainer, state, seed, settings(learning_rate), examples())
        seen.append(jax.tree.map(np.array, state.model_state))
        metrics.append(jax.device_get(means))
    return seen, metrics, state


def test_epoch_visits_examples_at_most_once(trainer):
    """11 examples in 3 batches of 3: nine of them, each once; over the epochs all get their turn."""
    seen, _, state = epochs(trainer, 5)
    orders = [epoch["order"] for epoch in seen]
    for order in orders:
        assert order.shape == (STEPS, BATCH)
        assert len(np.unique(order)) == STEPS * BATCH
        assert set(order.ravel()) <= set(range(EXAMPLES))
    assert set(np.concatenate(orders).ravel()) == set(range(EXAMPLES))
    assert (state.epoch, state.model_state["step"]) == (5, 5 * STEPS)


@pytest.mark.parametrize("what", ["order", "draws"])
def test_seed_and_epoch_determine_the_randomness(trainer, what):
    first, again, other = ([epoch[what] for epoch in epochs(trainer, 2, seed)[0]] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first[0] != other[0]).any()
    assert (first[1] != other[1]).any()


def test_nothing_else_determines_it(trainer):
    """As it must be for a resumed run: the second epoch alone, from other parameters at another rate."""
    state = dataclasses.replace(trainer.init(jnp.int32(5), settings()), epoch=jnp.asarray(1, jnp.int32))
    state, _ = train_epoch(trainer, state, jnp.asarray(0, jnp.int32), settings(0.3), examples())
    for what in ("order", "draws"):
        np.testing.assert_array_equal(state.model_state[what], epochs(trainer, 2)[0][1][what])


def test_each_step_has_its_own_key(trainer):
    draws = [epoch["draws"] for seed in (0, 1) for epoch in epochs(trainer, 3, seed)[0]]
    assert len(np.unique(draws)) == 2 * 3 * STEPS


def test_seed_determines_the_first_parameters(trainer):
    first, again, other = (trainer.init(jnp.asarray(seed, jnp.int32), settings()).params for seed in (0, 0, 1))
    assert first == again != other


def test_trains(trainer):
    _, metrics, state = epochs(trainer, 20)
    assert abs(float(state.params) - 2) < 1e-3
    assert metrics[-1]["loss"] < metrics[0]["loss"] / 100


def test_metrics_are_means_over_the_batches(trainer):
    """At rate 0 nothing moves: the mean weight of the nine examples times the squared distance to 2."""
    (seen,), (metrics,), state = epochs(trainer, 1, learning_rate=0.0)
    weight = np.asarray(examples()["weight"])[seen["order"]].mean()
    assert metrics["loss"] == pytest.approx(weight * (float(state.params) - 2) ** 2, rel=1e-6)
    assert metrics["first"] == pytest.approx(seen["order"][:, 0].mean(), rel=1e-6)


def test_settings_and_seeds_are_traced(trainer):
    epochs(trainer, 1)
    traces = trainer.task.traces
    results = {
        float(epochs(trainer, 2, seed, learning_rate)[2].params) for learning_rate in (0.1, 0.2) for seed in (0, 1)
    }
    assert len(results) == 4
    assert trainer.task.traces == traces > 0


def test_equal_trainers_share_their_programs(trainer):
    epochs(trainer, 1)
    traces = trainer.task.traces
    epochs(dataclasses.replace(trainer), 1)
    assert trainer.task.traces == traces


def test_under_vmap(trainer):
    """Seeds and rates as lanes equal the runs one by one."""
    seeds, rates = jnp.asarray([0, 1, 2], jnp.int32), {"learning_rate": jnp.asarray([0.1, 0.2, 0.3])}
    state = jax.vmap(trainer.init)(seeds, rates)
    state, metrics = jax.vmap(functools.partial(train_epoch, trainer), (0, 0, 0, None))(state, seeds, rates, examples())
    for lane in range(3):
        (seen,), (expected,), alone = epochs(trainer, 1, lane, float(rates["learning_rate"][lane]))
        np.testing.assert_array_equal(state.model_state["order"][lane], seen["order"])
        np.testing.assert_allclose(state.params[lane], alone.params, rtol=1e-6)
        np.testing.assert_allclose(metrics["loss"][lane], expected["loss"], rtol=1e-6)


@pytest.mark.parametrize(
    ("spoilt", "found"), [((), [-1, -1]), ((1,), [1, -1]), ((1, 2), [1, -1]), ((0,), [0, -1]), ((4,), [-1, 1])]
)
def test_nonfinite_step(trainer, spoilt, found):
    _, metrics, _ = epochs(trainer, 2, spoilt=spoilt)
    assert [means["nonfinite_step"] for means in metrics] == found


def test_a_gradient_that_is_not_finite_is_told_at_its_step(trainer):
    """The loss of that step is finite, and the epoch has no further one that would not be."""
    _, (means,), state = epochs(trainer, 1, steep=(STEPS - 1,))
    assert np.isfinite(means["loss"])
    assert np.isnan(state.params)
    assert means["nonfinite_step"] == STEPS - 1


# A NaN shows in the parameters, or in the optimizer's state alone. The infinity is there from the start.
KEEPING = {
    "parameters": optax.sgd,
    "state": lambda rate: optax.chain(optax.trace(0.9), optax.zero_nans(), optax.sgd(rate)),
    "infinity": lambda rate: optax.chain(
        optax.GradientTransformation(lambda params: jnp.inf, lambda updates, state, params: (updates, state)),
        optax.sgd(rate),
    ),
}


@pytest.fixture(scope="module", params=KEEPING)
def keeping(request, trainer) -> Trainer:
    make = KEEPING[request.param]
    return dataclasses.replace(
        trainer, make_optimizer=lambda settings, factor: make(settings["learning_rate"] * factor)
    )


@pytest.mark.parametrize(
    ("faults", "found"),
    [({}, None), ({"steep": (0,)}, 0), ({"steep": (STEPS - 1,)}, STEPS - 1), ({"steep": (1,), "spoilt": (2,)}, 1)],
)
def test_the_host_tells_the_step_whose_gradient_alone_was_not_finite(keeping, faults, found):
    """The calls look at the loss only; that of the last step is finite, and there is no further one."""
    source = ResidentData(keeping, examples(), {})
    state = keeping.init(jnp.int32(0), settings())
    masks = {name: jnp.asarray(np.isin(np.arange(2 * STEPS), steps)) for name, steps in faults.items()}
    state = dataclasses.replace(state, model_state=state.model_state | masks)
    whole = keeping.train_steps(jax.tree.map(jnp.copy, state), 0, settings(), examples(), 0, 0, STEPS)
    quick = keeping.train_steps(
        jax.tree.map(jnp.copy, state), 0, settings(), examples(), 0, 0, STEPS, check_gradients=False
    )
    assert (int(quick.nonfinite_step) >= 0) == (found is not None)
    result = source.train_epoch(state, jnp.int32(0), settings())
    assert result.nonfinite_step == found
    assert (result.metrics is None) == (found is not None)
    for one, other in zip(jax.tree.leaves(quick.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("count", "batch"), [(11, 4), (11, 11), (11, 20), (12, 4), (1, 4)])
def test_evaluation_counts_each_example_once(trainer, count, batch):
    state = trainer.init(jnp.int32(0), settings())
    other = dataclasses.replace(trainer, task=Recorder(eval_batch_size=batch))
    metrics = other.evaluate(state, {"index": jnp.arange(count)})
    assert metrics["one"] == 1
    assert metrics["index"] == pytest.approx((count - 1) / 2, rel=1e-6)


def test_evaluation_keeps_padding_out_even_if_it_is_nan():
    """The last example fills up the last batch; its metric counts once, and a NaN elsewhere shows."""
    values = jnp.arange(10.0)

    def mean(values):
        return mean_over_examples(lambda batch: batch, {"value": values}, 4)["value"]

    assert mean(values.at[9].set(100.0)) == pytest.approx(13.6)
    assert jnp.isnan(mean(values.at[3].set(jnp.nan)))


class Network(nnx.Module):
    """A convolution, a batch norm and a linear layer for 4x4 images."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv = Conv(1, 4, rngs=rngs)
        self.norm = BatchNorm(4, rngs=rngs)
        self.head = Linear(4, 3, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        return self.head(nnx.relu(self.norm(self.conv(images), train=train)).mean((1, 2)))


def classification(augment=lambda key, images: images) -> Classification:
    return Classification(lambda rngs: Network(rngs=rngs), augment, lambda images: images / 255.0)


@pytest.fixture(scope="module")
def pictures() -> dict[str, jax.Array]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 4, 4, 1), dtype=np.uint8)
    return {"images": jnp.asarray(images), "labels": jnp.asarray(random.integers(0, 3, 8), jnp.int32)}


@pytest.fixture(scope="module")
def model():
    return jax.jit(classification().init)(jax.random.key(0))


@pytest.fixture(scope="module")
def trained(model, pictures):
    """Loss and gradient of one batch, with what else the task returns."""
    return jax.jit(jax.value_and_grad(classification().loss, has_aux=True))(*model, pictures, jax.random.key(1))


def logits_of(model, pictures, train: bool) -> np.ndarray:
    @jax.jit
    def logits(model, images):
        return nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: Network(rngs=nnx.Rngs(0)))), *model, copy=True)(
            images / 255.0, train=train
        )

    return np.asarray(logits(model, pictures["images"]), np.float64)


def cross_entropy(logits: np.ndarray, labels: jax.Array) -> np.ndarray:
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), np.asarray(labels)]


def test_classification_loss_and_error(model, pictures, trained):
    (loss, (_, metrics)), _ = trained
    logits = logits_of(model, pictures, train=True)
    assert loss == pytest.approx(cross_entropy(logits, pictures["labels"]).mean(), rel=1e-5)
    assert metrics["error"] == np.mean(logits.argmax(1) != np.asarray(pictures["labels"]))


def test_classification_gradient(model, trained):
    """Finite, not 0, and of parameters only."""
    _, gradient = trained
    assert jax.tree.structure(gradient) == jax.tree.structure(model[0])
    for leaf in jax.device_get(jax.tree.leaves(gradient)):
        assert np.isfinite(leaf).all()
        assert (leaf != 0).any()


def test_batch_statistics_move_in_training(model, trained):
    (_, (state, _)), _ = trained
    assert set(nnx.to_pure_dict(state)["norm"]) == {"mean", "var"}
    assert jax.tree.structure(state) == jax.tree.structure(model[1])
    for before, after in zip(*jax.device_get((jax.tree.leaves(model[1]), jax.tree.leaves(state))), strict=True):
        assert (before != after).all()


@pytest.fixture(scope="module")
def evaluate_examples():
    return jax.jit(classification().evaluate_examples)


def test_batch_statistics_rest_in_evaluation(model, pictures, evaluate_examples):
    """The running ones are used: an example's metrics do not depend on its batch, and the state stays."""
    before = jax.tree.map(np.array, model[1])
    whole = evaluate_examples(*model, pictures)
    part = evaluate_examples(*model, jax.tree.map(lambda array: array[:2], pictures))
    jax.tree.map(np.testing.assert_array_equal, before, model[1])
    logits = logits_of(model, pictures, train=False)
    np.testing.assert_allclose(whole["loss"], cross_entropy(logits, pictures["labels"]), rtol=1e-5)
    np.testing.assert_array_equal(whole["error"], logits.argmax(1) != np.asarray(pictures["labels"]))
    np.testing.assert_allclose(part["loss"], whole["loss"][:2], rtol=1e-6)


def test_augmentation_is_for_training_only(model, pictures, evaluate_examples):
    """Images made black leave nothing to tell apart in training; evaluation sees them as they are."""
    black = classification(lambda key, images: jnp.zeros_like(images))
    loss, _ = jax.jit(black.loss)(*model, pictures, jax.random.key(0))
    zeros = {**pictures, "images": jnp.zeros_like(pictures["images"])}
    assert loss == jax.jit(classification().loss)(*model, zeros, jax.random.key(0))[0]
    np.testing.assert_array_equal(
        jax.jit(black.evaluate_examples)(*model, pictures)["loss"],
        evaluate_examples(*model, pictures)["loss"],
    )


def state_at(epoch: int) -> TrainState:
    """Leaves of several dtypes, with values that no rounding keeps."""
    random = np.random.default_rng(epoch)

    def draw(shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return jnp.asarray(random.standard_normal(shape), dtype)

    params = {"w": draw((3, 2)), "b": draw((4,), jnp.bfloat16)}
    state = optax.adam(0.1).init(params)
    state = jax.tree.map(lambda leaf: leaf + draw(leaf.shape).astype(leaf.dtype), state)
    count = jnp.asarray(epoch, jnp.int32)
    return TrainState(count, count + 1, params, {"mean": draw((2,)) / 3}, state, {"loss": draw(()) / 3}, count - 1)


def like() -> TrainState:
    return jax.tree.map(jnp.zeros_like, state_at(0))


def assert_bit_equal(one: TrainState, other: TrainState):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_checkpoint_comes_back_bit_equal(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state_at(3), "there")
        assert_bit_equal(checkpoints.restore(like())[0], state_at(3))
    with Checkpoints(tmp_path) as checkpoints:
        state, position = checkpoints.restore(like())
        assert_bit_equal(state, state_at(3))
        assert position == "there"


def test_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(like()) is None


def test_two_checkpoints_are_kept_and_the_newest_is_taken(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for epoch in (5, 10, 15, 20):
            checkpoints.save(epoch, state_at(epoch))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["15", "20"]
    with Checkpoints(tmp_path) as checkpoints:
        assert_bit_equal(checkpoints.restore(like())[0], state_at(20))


def test_programs_are_freed(trainer, caplog):
    """Last in this file: from here on the trainer that all tests share compiles anew."""
    state = trainer.init(jnp.int32(0), settings())

    def compilations() -> int:
        caplog.clear()
        with jax.log_compiles(True), caplog.at_level("WARNING"):
            trainer.evaluate(state, examples())
        return sum("Finished XLA compilation of jit(evaluate)" in message for message in caplog.messages)

    compilations()
    assert compilations() == 0
    free_programs()
    assert compilations() == 1
