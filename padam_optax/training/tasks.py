"""What the loop asks of a task, and image classification as one."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx

PyTree = Any


class Task(Protocol):
    """A model with its loss and its metrics, as pure functions of trees of arrays."""

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Returns initial parameters and the rest of the model's state (batch statistics, say)."""
        ...

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """Returns the mean training loss of a batch, the new model state, and scalar metrics."""
        ...

    def evaluate(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """Returns metrics, each with one entry an example."""
        ...


@dataclasses.dataclass(frozen=True)
class Classification:
    """Cross-entropy and top-1 error of a network that maps images to logits.

    Batches are dictionaries of `images` (N, H, W, C), uint8, and `labels` (N,), int32.

    Attributes:
      build: Builds the network, called `model(images, train=...)`, from its keys.
      augment: Maps a key and the raw images of a training batch to images.
      preprocess: Maps raw or augmented images to the network's input.
    """

    build: Callable[[nnx.Rngs], nnx.Module]
    augment: Callable[[jax.Array, jax.Array], jax.Array]
    preprocess: Callable[[jax.Array], jax.Array]

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        _, params, model_state = nnx.split(self.build(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return params, model_state

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        model = self._model(params, model_state)
        logits = model(self.preprocess(self.augment(key, batch["images"])), train=True)
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()
        return loss, (nnx.state(model, nnx.BatchStat), {"error": _errors(logits, batch["labels"]).mean()})

    def evaluate(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        logits = self._model(params, model_state)(self.preprocess(batch["images"]), train=False)
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return {"loss": loss, "error": _errors(logits, batch["labels"])}

    def _model(self, params: PyTree, model_state: PyTree) -> Any:
        structure = nnx.graphdef(nnx.eval_shape(lambda: self.build(nnx.Rngs(0))))
        # A copy: without it BatchNorm would write into variables of the enclosing trace.
        return nnx.merge(structure, params, model_state, copy=True)


def _errors(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (jnp.argmax(logits, axis=-1) != labels).astype(logits.dtype)
