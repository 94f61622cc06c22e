"""An experiment as data: model, data, optimizer, schedule, and the paper's result."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from padam_optax import BiasCorrection
from padam_optax.experiments.methods import METHODS, MomentDtype, ParameterGroup


class Role(enum.Flag):
    """What changes with the value of a field; each field names its roles."""

    BESIDE = 0
    """Nothing in the training changes."""
    RESULT = enum.auto()
    """The result of the training changes, and a run with another value is another run."""
    PROGRAM = enum.auto()
    """The compiled program changes too; fields that change only the result are arguments of it."""
    COST = enum.auto()
    """The time of an epoch changes."""


def _is(role: Role, default: Any = dataclasses.MISSING) -> Any:
    """A field of a dataclass with its role; a class as default is called anew for each object."""
    metadata = {"role": role}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_PROGRAM = Role.RESULT | Role.PROGRAM
_ALL = Role.RESULT | Role.PROGRAM | Role.COST


@dataclasses.dataclass(frozen=True)
class PaperResult:
    """A number printed in the paper.

    Attributes:
      metric: The records' metric to compare with the number, such as `test_error`.
      value: The number as printed; accuracies are in percent.
      table: Number of the table that prints it.
    """

    metric: str
    value: float
    table: int


@dataclasses.dataclass(frozen=True)
class ImageClassification:
    """The settings that only experiments on images have.

    The fields from `keep_last_batch` on are choices of the authors' scripts beyond the paper's text; each can be
    switched off to see what it does.

    Attributes:
      augmentation: Names of `runner.programs.AUGMENTATIONS`, applied in this order.
      image_size: Height and width of the network's input if the data set's images differ in size, else None.
      held_out: Share of the training images (the last ones) that replaces the test set while settings are chosen; None
        for results.
      keep_last_batch: Whether the images left over make a smaller batch (CIFAR: the 391st, of 80) or are left out.
      statistics_updates: How often a training batch enters the running batch statistics; the authors' closure runs
        the network twice a step.
      reestimate_statistics: Whether each epoch ends with one more pass over the training set, parameters fixed, in
        training mode. This pass measures the train loss and error, and updates the statistics that the test uses.
    """

    augmentation: tuple[str, ...] = _is(_PROGRAM, ())
    image_size: int | None = _is(_ALL, None)
    held_out: float | None = _is(Role.RESULT, None)
    keep_last_batch: bool = _is(_PROGRAM, False)
    statistics_updates: int = _is(_PROGRAM, 1)
    reestimate_statistics: bool = _is(_ALL, False)


@dataclasses.dataclass(frozen=True)
class LanguageModelling:
    """The settings that only experiments on text have.

    Attributes:
      vocabulary: Number of most frequent words to keep, all others becoming `<unk>`; None for all.
      window: Steps of truncated back-propagation; the centre of their distribution if `random_window`.
      random_window: Whether each window draws its length anew.
      eval_columns: Numbers of columns in which the validation and the test text are read. If they differ, the test text
        is read in its own number only at the end of a run, and after each epoch in the validation text's.
      activation_regularization: Factor of the mean square of the last layer's output after dropout, in the objective.
      temporal_regularization: Factor of the mean square of the change of its raw output from step to step.
      gradient_clip: Greatest global norm of the gradient.
    """

    vocabulary: int | None = _is(_ALL, None)
    window: int = _is(_ALL, 70)
    random_window: bool = _is(_ALL, True)
    eval_columns: tuple[int, int] = _is(_ALL, (10, 1))
    activation_regularization: float = _is(_ALL, 2.0)
    temporal_regularization: float = _is(_ALL, 1.0)
    gradient_clip: float = _is(_ALL, 0.25)


Task: TypeAlias = ImageClassification | LanguageModelling


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One cell of a table.

    Attributes:
      name: Unique, such as `cifar10-mini-padam`.
      suite: Name that the experiments of one row of a table share, such as `cifar10-mini`.
      model: A key of `runner.programs.MODELS`.
      dataset: A key of `runner.datasets.DATASETS`.
      optimizer: A key of `methods.METHODS`.
      hyperparameters: The optimizer's settings by name; numbers only, traced by the compiled program.
      epochs: Passes over the training set.
      milestones: Epochs after which the learning rate is multiplied by `factor`.
      task: The kind of learning, with its own settings.
      factor: See `milestones`.
      batch_size: Examples a step; for text, columns.
      model_options: Arguments of the model's builder beside the number of classes or words: sizes, dropouts.
      train_examples: Number of training images or tokens to use, from the first on; None for all.
      compute_dtype: Dtype of activations and of the kernels they meet; parameters and statistics stay float32.
      moment_dtype: Dtype of the state of Padam and AMSGrad: "bfloat16" keeps all three moments in 6 bytes a parameter,
        the second ones rounded stochastically; "bfloat16-nearest" rounds them to nearest, for comparison.
      decay_everything: Whether weight decay acts on all parameters, or only on those with two or more axes.
      bias_correction: Padam's and AMSGrad's: "official", "none" or "debiased"; None for the default of
        `padam_optax.padam`.
      allow_unproven_p: Whether Padam's p may be above 1/2, up to 1.
      group: The parameters that have a p of their own, if the optimizer takes one for them.
      seeds: Seeds of the runs that a table shows.
      variant_of: Name of the experiment that this one is a variant of, if it is one.
      trial: The hyper-parameters that a search or a sweep chose for this run; empty for an experiment that stands for
        itself.
      assumed: Names of fields and hyper-parameters that no source gives.
      paper: The paper's numbers for this cell.
    """

    name: str = _is(Role.BESIDE)
    suite: str = _is(Role.BESIDE)
    model: str = _is(_ALL)
    dataset: str = _is(_ALL)
    optimizer: str = _is(_PROGRAM)
    hyperparameters: Mapping[str, float] = _is(Role.RESULT)
    epochs: int = _is(_PROGRAM)
    milestones: tuple[int, ...] = _is(_PROGRAM)
    task: Task = _is(Role.RESULT, ImageClassification)
    factor: float = _is(_PROGRAM, 0.1)
    batch_size: int = _is(_PROGRAM, 128)
    model_options: Mapping[str, Any] = _is(_ALL, dict)
    train_examples: int | None = _is(Role.RESULT | Role.COST, None)
    compute_dtype: Literal["float32", "bfloat16"] = _is(_ALL, "float32")
    moment_dtype: MomentDtype = _is(_PROGRAM, "float32")
    decay_everything: bool = _is(_PROGRAM, True)
    bias_correction: BiasCorrection | None = _is(_PROGRAM, None)
    allow_unproven_p: bool = _is(_PROGRAM, False)
    group: ParameterGroup | None = _is(_PROGRAM, None)
    seeds: tuple[int, ...] = _is(Role.BESIDE, (0,))
    variant_of: str | None = _is(Role.BESIDE, None)
    trial: tuple[str, ...] = _is(Role.BESIDE, ())
    assumed: tuple[str, ...] = _is(Role.BESIDE, ())
    paper: tuple[PaperResult, ...] = _is(Role.BESIDE, ())

    def __post_init__(self) -> None:
        method = METHODS.get(self.optimizer)
        if self.moment_dtype != "float32" and method is not None and not method.keeps_moments:
            able = " and ".join(name for name, each in METHODS.items() if each.keeps_moments)
            raise ValueError(
                f"moment_dtype {self.moment_dtype} is for {able}; {self.name} trains with {self.optimizer}."
            )

    @property
    def is_trial(self) -> bool:
        """Whether its runs only serve to choose settings, in a search or scored on held-out examples."""
        return bool(self.trial) or getattr(self.task, "held_out", None) is not None

    @property
    def score_metric(self) -> str:
        """The recorded metric that settings are compared by; lower is better."""
        return "valid_perplexity" if isinstance(self.task, LanguageModelling) else "test_error"

    def rate_factor(self, epoch: Any) -> Any:
        """Factor of the learning rate in `epoch`, counted from 0: a number, or an int32 scalar array, traced or not."""
        return self.factor ** sum(epoch >= milestone for milestone in self.milestones)

    def learning_rate(self, epoch: int) -> float:
        """The learning rate in `epoch`, counted from 1."""
        return self.hyperparameters["learning_rate"] * self.rate_factor(epoch - 1)

    def with_epochs(self, epochs: int) -> "Experiment":
        """The same experiment with another length and the milestones at the same shares of it, but at least 1.

        Raises:
          ValueError: If `epochs` is below 1.
        """
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}.")
        milestones = tuple(max(1, round(milestone * epochs / self.epochs)) for milestone in self.milestones)
        return dataclasses.replace(self, epochs=epochs, milestones=milestones)

    def with_task(self, **changes: Any) -> "Experiment":
        """The same experiment with other values of its task's fields."""
        return dataclasses.replace(self, task=dataclasses.replace(self.task, **changes))

    def fields(self, role: Role) -> dict[str, Any]:
        """The fields that have all roles in `role` (not `BESIDE`), by name; the task's fields are included."""
        return {
            field.name: getattr(owner, field.name)
            for owner in (self, self.task)
            for field in dataclasses.fields(owner)
            if field.name != "task" and role & field.metadata["role"] == role
        }


def static(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by name, as pairs that can be hashed."""
    for name, value in values.items():
        yield name, tuple(static(value)) if isinstance(value, Mapping) else value
