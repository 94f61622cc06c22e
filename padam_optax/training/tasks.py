"""The interface of a task, and two tasks: image classification and language modelling."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx

PyTree = Any
# Divides a batch among devices.
Split = Callable[[PyTree], PyTree]


class Task(Protocol):
    """A model with its loss and its metrics, as pure functions of trees of arrays."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scalars that `loss` returns; "loss" is among them."""
        ...

    @property
    def batch_axis(self) -> int:
        """The axis of a batch's arrays along which devices divide it."""
        ...

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Returns initial parameters and the rest of the model's state (batch statistics, say)."""
        ...

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, *, updates: int | None = None
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """Returns what is minimised on a batch, the new model state, and scalar metrics.

        Args:
          params: Parameters.
          model_state: The rest of the model's state.
          batch: A batch in the task's own form.
          key: For augmentation and dropout.
          updates: How often the model's statistics see the batch; by default as often as in a training step.
        """
        ...

    def next_epoch(self, model_state: PyTree) -> PyTree:
        """Returns the model's state at the start of an epoch, from its state at the end of the epoch before."""
        ...

    def evaluate(self, params: PyTree, model_state: PyTree, data: PyTree, split: Split) -> dict[str, jax.Array]:
        """Returns metrics over all of `data`; `split` divides each batch among devices."""
        ...


class StreamedTask(Task, Protocol):
    """A task that can be evaluated batch by batch."""

    def evaluate_examples(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """Returns metrics, each with one entry an example."""
        ...


def _structure(build: Callable[[nnx.Rngs], nnx.Module]) -> Any:
    return nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))


def mean_over_examples(
    evaluate: Callable[[PyTree], dict[str, jax.Array]],
    data: PyTree,
    batch_size: int,
    split: Split = lambda batch: batch,
) -> dict[str, jax.Array]:
    """Returns the mean of each metric over all examples of `data`, each counted once.

    Args:
      evaluate: Maps a batch to metrics with one entry an example.
      data: Tree of arrays with one leading axis, the examples.
      batch_size: Examples of a batch; the last batch is filled up with examples that do not count.
      split: Divides a batch among devices.
    """
    examples = jax.tree.leaves(data)[0].shape[0]
    steps = -(-examples // batch_size)
    indices = jnp.arange(steps * batch_size).reshape(steps, batch_size)

    def sums(batch_indices: jax.Array) -> dict[str, jax.Array]:
        batch = jax.tree.map(lambda array: array[jnp.minimum(batch_indices, examples - 1)], data)
        metrics = evaluate(split(batch))
        return jax.tree.map(lambda values: jnp.sum(jnp.where(batch_indices < examples, values, 0)), metrics)

    return jax.tree.map(lambda values: jnp.sum(values) / examples, jax.lax.map(sums, indices))


@dataclasses.dataclass(frozen=True)
class Classification(StreamedTask):
    """Cross-entropy and top-1 (and top-5) error of a network that maps images to logits.

    Batches are dictionaries of `images` (N, H, W, C), uint8, and `labels` (N,), int32.

    Attributes:
      build: Builds the network from its keys. The network is called `model(images, train=..., key=...)`.
      augment: Maps a key and the raw images of a training batch to images.
      preprocess: Maps raw or augmented images to the network's input.
      top5: Whether the top-5 error is measured too.
      statistics_updates: How often the batch statistics of a training step enter the running ones.
      statistics_momentum: Weight of the running statistics' old value at each update.
      eval_batch_size: Examples a step of the evaluation, which sees every example once.
    """

    build: Callable[[nnx.Rngs], nnx.Module]
    augment: Callable[[jax.Array, jax.Array], jax.Array]
    preprocess: Callable[[jax.Array], jax.Array]
    top5: bool = False
    statistics_updates: int = 1
    statistics_momentum: float = 0.9
    eval_batch_size: int = 500

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "error", "error_top5") if self.top5 else ("loss", "error")

    @property
    def batch_axis(self) -> int:
        return 0

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        _, params, model_state = nnx.split(self.build(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return params, model_state

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, *, updates: int | None = None
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        model = self._model(params, model_state)
        images = self.preprocess(self.augment(key, batch["images"]))
        logits = model(images, train=True, key=jax.random.fold_in(key, 0xD0))
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()
        errors = jax.tree.map(jnp.mean, self._errors(logits, batch["labels"]))
        new_state = self._repeat(model_state, nnx.state(model, nnx.BatchStat), updates or self.statistics_updates)
        return loss, (new_state, {"loss": loss, **errors})

    def next_epoch(self, model_state: PyTree) -> PyTree:
        return model_state

    def evaluate(self, params: PyTree, model_state: PyTree, data: PyTree, split: Split) -> dict[str, jax.Array]:
        """Returns the mean of each metric over all examples."""
        return mean_over_examples(
            lambda batch: self.evaluate_examples(params, model_state, batch), data, self.eval_batch_size, split
        )

    def evaluate_examples(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        logits = self._model(params, model_state)(self.preprocess(batch["images"]), train=False)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return {"loss": losses, **self._errors(logits, batch["labels"])}

    def _model(self, params: PyTree, model_state: PyTree) -> Any:
        # A copy: without it BatchNorm would write into variables of the enclosing trace.
        return nnx.merge(_structure(self.build), params, model_state, copy=True)

    def _errors(self, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        errors = {"error": (jnp.argmax(logits, axis=-1) != labels).astype(logits.dtype)}
        if self.top5:
            _, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
            errors["error_top5"] = jnp.all(best != labels[:, None], axis=-1).astype(logits.dtype)
        return errors

    def _repeat(self, old: PyTree, new: PyTree, updates: int) -> PyTree:
        """The running statistics after a batch has entered `updates` times, from those after the first time.

        With momentum m, k updates give m^k r + (1 - m^k) b, which lies on the line from r through m r + (1 - m) b.
        """
        if updates == 1:
            return new
        momentum = self.statistics_momentum
        stretch = (1 - momentum**updates) / (1 - momentum)
        return jax.tree.map(lambda before, after: before + stretch * (after - before), old, new)


@dataclasses.dataclass(frozen=True)
class LanguageModelling(Task):
    """Cross-entropy, in nats a token, of a recurrent network that reads a text in columns.

    Batches are those of `batches.Windows`. The hidden state after a batch starts the next batch. It belongs to the
    model's state, and so to checkpoints, and is zero at the start of an epoch. The objective is the cross-entropy plus
    AWD-LSTM's two regularisers of the last layer: `activation` times the mean square of its output after dropout,
    `temporal` times the mean square of the change of its raw output from step to step (Merity et al., 2018).

    Attributes:
      build: Builds the network from its keys. The network is called `model(tokens, hidden, train=..., key=...,
        length=...)`, returns `logits`, `raw`, `dropped` and `hidden`, and has `initial_hidden(columns)`.
      columns: Columns of the training text.
      activation: Factor of the first regulariser.
      temporal: Factor of the second one.
      eval_length: Steps of an evaluation's window; the result does not depend on it.
    """

    build: Callable[[nnx.Rngs], nnx.Module]
    columns: int
    activation: float = 0.0
    temporal: float = 0.0
    eval_length: int = 70

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "objective")

    @property
    def batch_axis(self) -> int:
        return 1

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        model: Any = self.build(nnx.Rngs(key))
        return nnx.state(model, nnx.Param), model.initial_hidden(self.columns)

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, *, updates: int | None = None
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """See `Task`; the metric "loss" is the cross-entropy alone, "objective" what is minimised."""
        del updates
        length = batch["length"]
        out = self._model(params)(batch["inputs"], model_state, train=True, key=key, length=length)
        counts = (jnp.arange(out.logits.shape[0]) < length)[:, None]
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(out.logits, batch["targets"])
        loss = jnp.sum(jnp.where(counts, losses, 0)) / (length * losses.shape[1])
        objective = loss
        if self.activation:
            squares = jnp.where(counts[..., None], out.dropped**2, 0)
            objective += self.activation * jnp.sum(squares) / (length * squares[0].size)
        if self.temporal:
            changes = jnp.where(counts[1:, :, None], (out.raw[1:] - out.raw[:-1]) ** 2, 0)
            objective += self.temporal * jnp.sum(changes) / (jnp.maximum(length - 1, 1) * changes[0].size)
        return objective, (out.hidden, {"loss": loss, "objective": objective})

    def next_epoch(self, model_state: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, model_state)

    def evaluate(self, params: PyTree, model_state: PyTree, data: PyTree, split: Split) -> dict[str, jax.Array]:
        """Reads `data["tokens"]` (rows, columns) from a zero state, without dropout.

        Returns:
          "loss", the mean cross-entropy of the rows - 1 targets of each column; "perplexity", its exponential; and
          "perplexity_rows", slightly lower: as in the public AWD-LSTM code, it divides the sum by the rows.
        """
        del model_state
        tokens = data["tokens"]
        rows, columns = tokens.shape
        model = self._model(params)
        starts = jnp.arange(0, rows - 1, self.eval_length)

        def window(hidden: PyTree, start: jax.Array) -> tuple[PyTree, jax.Array]:
            times = start + jnp.arange(self.eval_length + 1)
            length = jnp.minimum(self.eval_length, rows - 1 - start)
            part = split(tokens[jnp.minimum(times, rows - 1)])
            out = model(part[:-1], hidden, train=False, length=length)
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(out.logits, part[1:])
            return out.hidden, jnp.sum(jnp.where((times[:-1] < rows - 1)[:, None], losses, 0))

        _, sums = jax.lax.scan(window, model.initial_hidden(columns), starts)
        loss, by_rows = jnp.sum(sums) / ((rows - 1) * columns), jnp.sum(sums) / (rows * columns)
        return {"loss": loss, "perplexity": jnp.exp(loss), "perplexity_rows": jnp.exp(by_rows)}

    def _model(self, params: PyTree) -> Any:
        return nnx.merge(_structure(self.build), params, copy=True)
