"""An experiment as data: what is trained on what, how, and what the paper found."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from padam_optax import BiasCorrection
from padam_optax.experiments.methods import METHODS, MomentDtype, ParameterGroup


class Role(enum.Flag):
    """What another value of a field changes; it is said where the field is defined."""

    BESIDE = 0
    """Nothing that is trained."""
    RESULT = enum.auto()
    """What is trained, so that a run with another value is another run."""
    PROGRAM = enum.auto()
    """The compiled program too; what has this role no less is an argument of it."""
    COST = enum.auto()
    """How long an epoch takes."""


def _is(role: Role, default: Any = dataclasses.MISSING) -> Any:
    """A field of a dataclass with its role; a default that is a class is called for each object."""
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
      metric: Name of the metric of the records that it compares with, such as `test_error`.
      value: As printed: percent for accuracies.
      table: Number of the table that prints it.
    """

    metric: str
    value: float
    table: int


@dataclasses.dataclass(frozen=True)
class ImageClassification:
    """What an experiment on images has beside what all have.

    The fields from `keep_last_batch` on are choices of the authors' scripts beyond the paper's text; each can be
    switched off to see what it does.

    Attributes:
      augmentation: Names of `runner.programs.AUGMENTATIONS`, applied in this order.
      image_size: Height and width of the network's input where the data set's images differ in size, else None.
      held_out: This share of the training images, the last ones, takes the place of the test set (for choosing
        settings); None for results.
      keep_last_batch: Whether what does not fill a batch makes a smaller one (CIFAR: the 391st, of 80) or is left out.
      statistics_updates: How often a training batch enters the running batch statistics; the authors' closure runs
        the network twice a step.
      reestimate_statistics: Whether each epoch ends with one more pass over the training set, parameters fixed, in
        training mode: the train loss and error are measured in it, and the statistics that the test uses follow it.
    """

    augmentation: tuple[str, ...] = _is(_PROGRAM, ())
    image_size: int | None = _is(_ALL, None)
    held_out: float | None = _is(Role.RESULT, None)
    keep_last_batch: bool = _is(_PROGRAM, False)
    statistics_updates: int = _is(_PROGRAM, 1)
    reestimate_statistics: bool = _is(_ALL, False)


@dataclasses.dataclass(frozen=True)
class LanguageModelling:
    """What an experiment on text has beside what all have.

    Attributes:
      vocabulary: So many most frequent words, all others becoming `<unk>`; None for all.
      window: Steps of truncated back-propagation, or around which they are drawn.
      random_window: Whether each window draws its length anew.
      eval_columns: In how many columns the validation and the test text are read. A run whose test text has another
        number reads it so at its end only, and after each epoch in as many columns as the validation text.
      activation_regularization: Factor of the mean square of the last layer's dropped output in what is minimised.
      temporal_regularization: Factor of the mean square of its change from step to step.
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
      suite: What the experiments of one row of a table share, such as `cifar10-mini`.
      model: A key of `runner.programs.MODELS`.
      dataset: A key of `runner.datasets.DATASETS`.
      optimizer: A key of `methods.METHODS`.
      hyperparameters: The optimizer's, by name; numbers only, traced by the compiled program.
      epochs: Passes over the training set.
      milestones: Epochs after which the learning rate is multiplied by `factor`.
      task: What is learnt, and what belongs to that.
      factor: See `milestones`.
      batch_size: Examples a step; for text, columns.
      model_options: What the model's builder takes beside the number of classes or words: sizes, dropouts.
      train_examples: The first so many training images or tokens, or all.
      compute_dtype: Dtype of activations and of the kernels they meet; parameters and statistics stay float32.
      moment_dtype: Dtype of the state of Padam and AMSGrad: "bfloat16" keeps all three moments in 6 bytes a parameter,
        the second ones rounded stochastically; "bfloat16-nearest" rounds them to nearest, to compare with.
      decay_everything: Whether weight decay is on every parameter, or on those of two or more axes only.
      bias_correction: That of Padam and AMSGrad: "official", "none" or "debiased"; None for what a user of
        `padam_optax.padam` gets by default.
      allow_unproven_p: Whether Padam's p may be above 1/2, up to 1.
      group: The parameters that have a p of their own, where the optimizer takes one for them.
      seeds: Seeds of the runs that a table is made from.
      variant_of: Name of the experiment that this one changes something in, if it does.
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
        """Whether a run of it serves a choice and is no result, as in a search or where held-out examples score it."""
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
        """The same with another length, the milestones at the same shares of it, after the first epoch at least.

        Raises:
          ValueError: If `epochs` is below 1.
        """
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}.")
        milestones = tuple(max(1, round(milestone * epochs / self.epochs)) for milestone in self.milestones)
        return dataclasses.replace(self, epochs=epochs, milestones=milestones)

    def with_task(self, **changes: Any) -> "Experiment":
        """The same with other values of its task's fields."""
        return dataclasses.replace(self, task=dataclasses.replace(self.task, **changes))

    def fields(self, role: Role) -> dict[str, Any]:
        """The fields, those of the task among them, whose role has all of `role` (which is not `BESIDE`), by name."""
        return {
            field.name: getattr(owner, field.name)
            for owner in (self, self.task)
            for field in dataclasses.fields(owner)
            if field.name != "task" and role & field.metadata["role"] == role
        }


def static(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by name as pairs that can be hashed."""
    for name, value in values.items():
        yield name, tuple(static(value)) if isinstance(value, Mapping) else value
