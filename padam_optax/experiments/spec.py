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
    """A number printed in the paper.

    Attributes:
      metric: Name of the metric of the records that it compares with, such as `test_error`.
      value: As printed: percent for accuracies.
      source: Where it stands, such as "Table 1".
    """

    metric: str
    value: float
    source: str


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper.

    Attributes:
      suite: What the names of the row's experiments share, such as `cifar10-vgg16`.
      title: The model as printed.
      metric: The records' metric that the row compares with: `test_error`, `test_error_top5` (printed as accuracies,
        in percent) or `test_perplexity`.
      values: As printed, in the order of `OPTIMIZERS`.
    """

    suite: str
    title: str
    metric: str
    values: tuple[float, ...]

    def value(self, optimizer: str) -> float:
        """What is printed for `optimizer`, a key of `OPTIMIZERS`."""
        return self.values[tuple(OPTIMIZERS).index(optimizer)]


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of the paper: what it shows, and its rows."""

    title: str
    rows: tuple[PaperRow, ...]


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """What an experiment on text has beside what all have.

    Attributes:
      layers: Of the LSTM.
      embedding: Size of the embedding and of the last layer, which share a matrix with the output.
      hidden: Size of the other layers.
      vocabulary: So many most frequent words, all others becoming `<unk>`; None for all.
      window: Steps of truncated back-propagation, or around which they are drawn.
      random_window: Whether each window draws its length anew.
      eval_columns: In how many columns the validation and the test text are read.
      word_dropout: Rate of the dropout of whole words of the embedding.
      input_dropout: Of the embedded input, one mask for all steps, as the two that follow.
      between_dropout: Of the output of every layer but the last.
      output_dropout: Of the last layer's output.
      weight_dropout: Of single entries of the hidden-to-hidden matrices.
      activation_regularization: Factor of the mean square of the last layer's dropped output in what is minimised.
      temporal_regularization: Factor of the mean square of its change from step to step.
      gradient_clip: Greatest global norm of the gradient.
    """

    layers: int
    embedding: int = 400
    hidden: int = 1150
    vocabulary: int | None = None
    window: int = 70
    random_window: bool = True
    eval_columns: tuple[int, int] = (10, 1)
    word_dropout: float = 0.1
    input_dropout: float = 0.4
    between_dropout: float = 0.25
    output_dropout: float = 0.4
    weight_dropout: float = 0.5
    activation_regularization: float = 2.0
    temporal_regularization: float = 1.0
    gradient_clip: float = 0.25


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One cell of a table.

    The fields from `keep_last_batch` to `bias_correction` are choices of the authors' scripts beyond the paper's text;
    each can be switched off to see what it does.

    Attributes:
      name: Unique, such as `cifar10-mini-padam`.
      model: A key of `programs.MODELS`.
      dataset: A key of `programs.DATASETS`.
      optimizer: A key of `OPTIMIZERS`.
      hyperparameters: The optimizer's, by name; numbers only, traced by the compiled program.
      epochs: Passes over the training set.
      milestones: Epochs after which the learning rate is multiplied by `factor`.
      factor: See `milestones`.
      batch_size: Examples a step; for text, columns.
      augmentation: Names of `programs.AUGMENTATIONS`, applied in this order.
      seeds: Of the runs that a table is made from.
      train_examples: The first so many training images or tokens, or all.
      held_out: This share of the training images, the last ones, takes the place of the test set (for choosing
        settings); None for results.
      image_size: Height and width of the network's input where the data set's images differ in size, else None.
      compute_dtype: Of activations and of the kernels they meet; parameters and statistics stay float32.
      moment_dtype: Of the state of Padam and AMSGrad: "bfloat16" keeps all three moments in 6 bytes a parameter, the
        second ones rounded stochastically; "bfloat16-nearest" rounds them to nearest, to compare with.
      keep_last_batch: Whether what does not fill a batch makes a smaller one (CIFAR: the 391st, of 80) or is left out.
      statistics_updates: How often a training batch enters the running batch statistics; the authors' closure runs
        the network twice a step.
      reestimate_statistics: Whether each epoch ends with one more pass over the training set, parameters fixed, in
        training mode: the train loss and error are measured in it, and the statistics that the test uses follow it.
      norm_scale_init: Initial scale of batch normalisation, "ones" or "uniform" (U(0, 1), PyTorch's up to 1.1).
      decay_everything: Whether weight decay is on every parameter, or on those of two or more axes only.
      bias_correction: Of Padam and AMSGrad: "official", "none" or "debiased".
      allow_unproven_p: Whether Padam's p may be above 1/2, up to 1.
      language: Of experiments on text.
      assumed: Names of fields and hyper-parameters that no source gives.
      paper: The paper's numbers for this cell.
    """

    name: str
    model: str
    dataset: Literal["cifar10", "cifar100", "imagenet", "digits", "ptb", "pydoc"]
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
    image_size: int | None = None
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    moment_dtype: Literal["float32", "bfloat16", "bfloat16-nearest"] = "float32"
    keep_last_batch: bool = False
    statistics_updates: int = 1
    reestimate_statistics: bool = False
    norm_scale_init: Literal["ones", "uniform"] = "ones"
    decay_everything: bool = True
    bias_correction: Literal["official", "none", "debiased"] = "official"
    allow_unproven_p: bool = False
    language: LanguageModel | None = None
    assumed: tuple[str, ...] = ()
    paper: tuple[PaperResult, ...] = ()

    def __post_init__(self) -> None:
        if self.moment_dtype != "float32" and self.optimizer not in ("padam", "amsgrad"):
            raise ValueError(
                f"moment_dtype {self.moment_dtype} is for padam and amsgrad; {self.name} trains with {self.optimizer}."
            )

    def with_epochs(self, epochs: int) -> "Experiment":
        """The same with another length, the milestones at the same shares of it, after the first epoch at least.

        Raises:
          ValueError: If `epochs` is below 1.
        """
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}.")
        milestones = tuple(max(1, round(milestone * epochs / self.epochs)) for milestone in self.milestones)
        return dataclasses.replace(self, epochs=epochs, milestones=milestones)

    @property
    def suite(self) -> str:
        """What the experiments of one row of a table share, such as `cifar10-mini`."""
        return self.name.removesuffix(f"-{self.optimizer}")
