"""An experiment as data: what is trained on what, how, and what the paper found."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

# The seven that the paper compares, in the order of its tables, with the names printed there.
OPTIMIZERS: dict[str, str] = {
    "sgdm": "SGD-Momentum",
    "adam": "Adam",
    "amsgrad": "AMSGrad",
    "adamw": "AdamW",
    "yogi": "Yogi",
    "adabound": "AdaBound",
    "padam": "Padam",
}


@dataclasses.dataclass(frozen=True)
class PaperResult:
    """A number printed in the paper: its metric, value and place ("Table 1")."""

    metric: str
    value: float
    source: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One cell of a table.

    Attributes:
      name: Unique, such as `cifar10-mini-padam`.
      model: A key of `run.MODELS`.
      dataset: A key of `run.DATASETS`.
      optimizer: A key of `OPTIMIZERS`.
      hyperparameters: The optimizer's, by name; numbers only, traced by the compiled program.
      epochs: Passes over the training set.
      milestones: Epochs after which the learning rate is multiplied by `factor`.
      factor: See `milestones`.
      batch_size: Examples a step; what does not fill a last batch is left out of its epoch.
      augmentation: Names of `run.AUGMENTATIONS`, applied in this order.
      seeds: Of the runs that a table is made from.
      train_examples: The first so many training images, or all.
      held_out: This share of the training images, the last ones, takes the place of the test set (for choosing
        settings); None for results.
      paper: The paper's number, if it has one.
    """

    name: str
    model: str
    dataset: Literal["cifar10", "digits"]
    optimizer: str
    hyperparameters: Mapping[str, float]
    epochs: int
    milestones: tuple[int, ...]
    factor: float = 0.1
    batch_size: int = 128
    augmentation: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    train_examples: int | None = None
    held_out: float | None = None
    paper: PaperResult | None = None

    def with_epochs(self, epochs: int) -> "Experiment":
        """The same with another length, the milestones at the same shares of it.

        Raises:
          ValueError: If `epochs` is below 1.
        """
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}.")
        milestones = tuple(round(milestone * epochs / self.epochs) for milestone in self.milestones)
        return dataclasses.replace(self, epochs=epochs, milestones=milestones)
