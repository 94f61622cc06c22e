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

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scalars that `loss` returns besides it."""
        ...

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Returns initial parameters and the rest of the model's state (batch statistics, say)."""
        ...

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, *, updates: int | None = None
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """Returns the mean training loss of a batch, the new model state, and scalar metrics.

        `updates`: how often the model's statistics see the batch; by default as often as in a training step.
        """
        ...

    def evaluate(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """Returns metrics, each with one entry an example."""
        ...


@dataclasses.dataclass(frozen=True)
class Classification:
    """Cross-entropy and top-1 (and top-5) error of a network that maps images to logits.

    Batches are dictionaries of `images` (N, H, W, C), uint8, and `labels` (N,), int32.

    Attributes:
      build: Builds the network, called `model(images, train=..., key=...)`, from its keys.
      augment: Maps a key and the raw images of a training batch to images.
      preprocess: Maps raw or augmented images to the network's input.
      top5: Whether the top-5 error is measured too.
      statistics_updates: How often the batch statistics of a training step enter the running ones.
      statistics_momentum: What the running statistics keep of themselves at each update.
    """

    build: Callable[[nnx.Rngs], nnx.Module]
    augment: Callable[[jax.Array, jax.Array], jax.Array]
    preprocess: Callable[[jax.Array], jax.Array]
    top5: bool = False
    statistics_updates: int = 1
    statistics_momentum: float = 0.9

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("error", "error_top5") if self.top5 else ("error",)

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        _, params, model_state = nnx.split(self.build(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return params, model_state

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, *, updates: int | None = None
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        model = self._model(params, model_state)
        images = self.preprocess(self.augment(key, batch["images"]))
        logits = model(images, train=True, key=jax.random.fold_in(key, 0xD0))
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        errors = jax.tree.map(jnp.mean, self._errors(logits, batch["labels"]))
        new_state = self._repeat(model_state, nnx.state(model, nnx.BatchStat), updates or self.statistics_updates)
        return losses.mean(), (new_state, errors)

    def evaluate(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        logits = self._model(params, model_state)(self.preprocess(batch["images"]), train=False)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return {"loss": losses, **self._errors(logits, batch["labels"])}

    def _model(self, params: PyTree, model_state: PyTree) -> Any:
        structure = nnx.graphdef(nnx.eval_shape(lambda: self.build(nnx.Rngs(0))))
        # A copy: without it BatchNorm would write into variables of the enclosing trace.
        return nnx.merge(structure, params, model_state, copy=True)

    def _errors(self, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        errors = {"error": (jnp.argmax(logits, axis=-1) != labels).astype(logits.dtype)}
        if self.top5:
            _, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
            errors["error_top5"] = jnp.all(best != labels[:, None], axis=-1).astype(logits.dtype)
        return errors

    def _repeat(self, old: PyTree, new: PyTree, updates: int) -> PyTree:
        """The running statistics after the same batch entered `updates` times, from those after the first time.

        With momentum m, k updates give m^k r + (1 - m^k) b, which lies on the line from r through m r + (1 - m) b.
        """
        if updates == 1:
            return new
        momentum = self.statistics_momentum
        stretch = (1 - momentum**updates) / (1 - momentum)
        return jax.tree.map(lambda before, after: before + stretch * (after - before), old, new)
