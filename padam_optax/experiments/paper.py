"""What the paper prints: the numbers of Tables 1 to 4, in the order of `PAPER_METHODS`."""

import dataclasses

from padam_optax.experiments.spec import PaperResult

# The seven methods that the paper compares, in the order of its tables.
PAPER_METHODS = ("sgdm", "adam", "amsgrad", "adamw", "yogi", "adabound", "padam")


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper.

    Attributes:
      suite: Suite of the row's experiments, such as `cifar10-vgg16`.
      title: The model as printed.
      metric: The records' metric of the row: `test_error`, `test_error_top5` (both printed as accuracies in percent) or
        `test_perplexity`.
      values: The printed values, in the order of `PAPER_METHODS`.
    """

    suite: str
    title: str
    metric: str
    values: tuple[float, ...]

    def value(self, method: str) -> float:
        """The printed value of a method of `PAPER_METHODS`."""
        return self.values[PAPER_METHODS.index(method)]


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of the paper: what it shows, and its rows."""

    title: str
    rows: tuple[PaperRow, ...]


TABLES: dict[int, PaperTable] = {
    1: PaperTable(
        "Test accuracy (%) after 200 epochs on CIFAR-10",
        (
            PaperRow("cifar10-vgg16", "VGGNet", "test_error", (93.71, 92.21, 92.54, 93.54, 92.94, 93.28, 93.78)),
            PaperRow("cifar10-resnet18", "ResNet", "test_error", (95.00, 92.89, 93.53, 94.56, 93.92, 94.16, 94.94)),
            PaperRow("cifar10-wrn16-4", "WideResNet", "test_error", (95.26, 92.27, 92.91, 95.08, 94.23, 93.85, 95.34)),
        ),
    ),
    2: PaperTable(
        "Test accuracy (%) after 100 epochs on ImageNet",
        (
            PaperRow(
                "imagenet-resnet18", "Resnet, Top-1", "test_error", (70.23, 63.79, 67.69, 67.93, 68.23, 68.13, 70.07)
            ),
            PaperRow(
                "imagenet-resnet18",
                "Resnet, Top-5",
                "test_error_top5",
                (89.40, 85.61, 88.15, 88.47, 88.59, 88.55, 89.47),
            ),
            PaperRow(
                "imagenet-vgg16", "VGGNet, Top-1", "test_error", (73.93, 69.52, 69.61, 69.89, 71.56, 70.00, 74.04)
            ),
            PaperRow(
                "imagenet-vgg16", "VGGNet, Top-5", "test_error_top5", (91.82, 89.12, 89.19, 89.35, 90.25, 89.27, 91.93)
            ),
        ),
    ),
    3: PaperTable(
        "Test perplexity after 200 epochs on Penn Treebank",
        (
            PaperRow("ptb-lstm2", "2-layer LSTM", "test_perplexity", (63.37, 61.58, 62.56, 63.93, 64.13, 63.14, 61.53)),
            PaperRow("ptb-lstm3", "3-layer LSTM", "test_perplexity", (61.22, 60.44, 61.92, 63.24, 60.01, 60.89, 58.48)),
        ),
    ),
    4: PaperTable(
        "Test accuracy (%) after 200 epochs on CIFAR-100",
        (
            PaperRow("cifar100-vgg16", "VGGNet", "test_error", (73.32, 66.60, 69.40, 73.03, 72.35, 72.00, 74.39)),
            PaperRow("cifar100-resnet18", "ResNet", "test_error", (77.77, 71.72, 72.62, 76.69, 74.55, 75.29, 77.85)),
            PaperRow("cifar100-wrn16-4", "WideResNet", "test_error", (76.66, 71.83, 73.02, 76.04, 74.47, 73.49, 76.42)),
        ),
    ),
}


def results(suite: str, method: str) -> tuple[PaperResult, ...]:
    """The numbers printed for one cell."""
    return tuple(
        PaperResult(row.metric, row.value(method), number)
        for number, table in TABLES.items()
        for row in table.rows
        if row.suite == suite
    )
