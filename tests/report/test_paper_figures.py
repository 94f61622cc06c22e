"""The paper's figures from small records: the panels, what is in them and what they say of it."""

import dataclasses

import matplotlib.image
import numpy as np
import pytest
from fake_records import flat, records, write

from padam_optax.experiments.cifar import P_VALUES
from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.records.record import Record
from padam_optax.records.store import read_all
from padam_optax.report.figures import NUMBERS, Picture, paper_figure, save
from padam_optax.report.results import PAPER, Results


def short(name: str):
    """An experiment as if it were 4 epochs long."""
    return dataclasses.replace(PAPER.experiments[name], epochs=4, milestones=(2, 3))


SHORT = dataclasses.replace(
    PAPER,
    experiments={name: short(name) for name, spec in PAPER.experiments.items() if spec.paper},
    sweep=tuple(dataclasses.replace(spec, epochs=4, milestones=(2, 3)) for spec in PAPER.sweep),
)


def all_runs(tmp_path) -> list[Record]:
    """Two seeds of each cell and of each p."""
    metrics = flat(train_loss=0.5, test_error=0.2, test_error_top5=0.1, test_perplexity=60.0)
    for spec in {**SHORT.experiments, **{spec.name: spec for spec in SHORT.sweep}}.values():
        for seed in range(2):
            write(tmp_path, spec, seed, metrics)
    return read_all(tmp_path)


def pictures_of(number: int, found: list[Record]) -> list[Picture]:
    return paper_figure(number, Results(SHORT, found))


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_panels(tmp_path):
    """As many as in the paper, each with its metric, data and n, and a curve a method or p."""
    found = all_runs(tmp_path)
    expected = {
        1: ["ResNet on cifar10, n = 2", "ResNet on cifar100, n = 2"],
        2: [f"{name} on cifar10, n = 2" for name in ("VGGNet", "ResNet", "WideResNet")] * 2,
        3: [
            "(a) VGGNet on imagenet, n = 2",
            "(b) VGGNet on imagenet, n = 2",
            "(c) 2-layer LSTM on ptb, n = 2",
            "(d) ResNet on imagenet, n = 2",
            "(e) ResNet on imagenet, n = 2",
            "(f) 3-layer LSTM on ptb, n = 2",
        ],
        4: [f"{name} on cifar100, n = 2" for name in ("VGGNet", "ResNet", "WideResNet")] * 2,
    }
    cnns = ["Train loss"] * 3 + ["Test error (%)"] * 3
    labels = {
        1: ["Test error (%)"] * 2,
        2: cnns,
        3: ["Test error (%)", "Top-5 test error (%)", "Test perplexity"] * 2,
        4: cnns,
    }
    final = {"Train loss": 0.5, "Test error (%)": 20.0, "Top-5 test error (%)": 10.0, "Test perplexity": 60.0}
    assert tuple(expected) == NUMBERS
    for number in NUMBERS:
        (picture,) = pictures_of(number, found)
        assert picture.name == f"figure-{number}"
        assert titles(picture.figure) == expected[number]
        assert [axes.get_ylabel() for axes in picture.figure.axes] == labels[number]
        for axes in picture.figure.axes:
            assert axes.get_yscale() == "log"
            assert len(axes.lines) == (5 if number == 1 else 7)
            assert all(line.get_ydata() == pytest.approx(final[axes.get_ylabel()]) for line in axes.lines)
        (legend,) = picture.figure.legends
        names = (
            [f"p = {p}" for p in ("1/16", "1/8", "1/5", "1/4", "2/5")]
            if number == 1
            else [METHODS[method].title for method in PAPER_METHODS]
        )
        assert [text.get_text() for text in legend.get_texts()] == names
        colors = {line.get_color() for line in picture.figure.axes[0].lines}
        assert len(colors) == len(names)
        (thickest,) = [line for line in picture.figure.axes[0].lines if line.get_linewidth() > 2]
        assert thickest.get_label() == ("p = 1/8" if number == 1 else "Padam")
        assert "abacus" in picture.figure.get_suptitle()
        assert "mean and standard deviation" in picture.figure.get_suptitle()
    assert set(P_VALUES.values()) == {spec.hyperparameters["p"] for spec in PAPER.sweep}


def test_mean_and_band(tmp_path):
    """One sample standard deviation on either side of the mean, errors in percent."""
    for seed, error in enumerate([0.1, 0.2, 0.3]):
        write(
            tmp_path,
            short("cifar10-vgg16-padam"),
            seed,
            lambda epoch, error=error: {"test_error": error / epoch, "train_loss": 1 / epoch},
        )
    (picture,) = pictures_of(2, read_all(tmp_path))
    loss, error = picture.figure.axes[0], picture.figure.axes[3]
    assert loss.lines[0].get_ydata() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert error.lines[0].get_xdata() == pytest.approx([1, 2, 3, 4])
    assert error.lines[0].get_ydata() == pytest.approx([20, 10, 20 / 3, 5])
    (band,) = error.collections
    corners = band.get_paths()[0].vertices
    at_2 = corners[np.isclose(corners[:, 0], 2), 1]
    assert (at_2.min(), at_2.max()) == pytest.approx((5, 15))


def test_what_was_not_run(tmp_path):
    found = records(tmp_path, short("cifar10-vgg16-padam"), [0.1])
    assert [len(pictures_of(number, found)) for number in NUMBERS] == [0, 1, 0, 0]
    (picture,) = pictures_of(2, found)
    assert titles(picture.figure) == ["VGGNet on cifar10, n = 1", "ResNet on cifar10", "WideResNet on cifar10"] * 2
    said = [[text.get_text() for text in axes.texts] for axes in picture.figure.axes]
    assert said == [[], ["not run"], ["not run"]] * 2


def test_what_was_not_recorded(tmp_path):
    """Runs that have another metric only: such as of ImageNet without top-5 errors."""
    (picture,) = pictures_of(3, records(tmp_path, short("imagenet-vgg16-padam"), [0.1]))
    said = [[text.get_text() for text in axes.texts] for axes in picture.figure.axes[:3]]
    assert said == [[], ["not recorded"], ["not run"]]


def test_diverged_and_unfinished_runs(tmp_path):
    """Neither is drawn, both are counted."""
    for seed in range(2):
        write(tmp_path, short("cifar10-vgg16-adam"), seed, flat(test_error=0.1, train_loss=1.0), done=2, diverged=True)
    write(tmp_path, short("cifar10-vgg16-yogi"), 0, flat(test_error=0.1, train_loss=1.0), done=2)
    (picture,) = pictures_of(2, read_all(tmp_path))
    assert [text.get_text() for text in picture.figure.axes[0].texts] == ["all diverged"]
    assert "n = 0" in titles(picture.figure)[0]
    assert picture.caption == (
        "VGGNet on cifar10: device abacus. Diverged and in no mean: Adam 2. Not finished: Yogi 1."
    )


def test_unfinished_runs_alone_are_no_picture(tmp_path):
    assert pictures_of(2, records(tmp_path, short("cifar10-vgg16-adam"), [0.1], done=2)) == []


def test_n_of_several_methods(tmp_path):
    records(tmp_path, short("cifar10-vgg16-adam"), [0.1])
    found = records(tmp_path, short("cifar10-vgg16-padam"), [0.1, 0.2, 0.3])
    (picture,) = pictures_of(2, found)
    assert titles(picture.figure)[0] == "VGGNet on cifar10, n = 1-3"


def test_other_data_and_lengths_have_pictures_of_their_own(tmp_path):
    """Named by what they are; the data set's own name is on its own picture only."""
    cell = short("cifar10-vgg16-padam")
    records(tmp_path / "a", cell, [0.1])
    records(tmp_path / "b", cell, [0.2], label="cifar10-jpeg")
    records(tmp_path / "c", cell.with_epochs(2), [0.3], label="cifar10-jpeg")
    pictures = pictures_of(2, read_all(tmp_path))
    assert [picture.name for picture in pictures] == [
        "figure-2",
        "figure-2-cifar10-jpeg",
        "figure-2-cifar10-jpeg-2-of-4-epochs",
    ]
    assert [picture.title for picture in pictures] == [
        "Figure 2: train loss and test error, cifar10",
        "Figure 2: train loss and test error, cifar10-jpeg",
        "Figure 2: train loss and test error, cifar10-jpeg, 2 of 4 epochs",
    ]
    for picture, error in zip(pictures, (10, 20, 30), strict=True):
        (line,) = picture.figure.axes[3].lines
        assert line.get_ydata() == pytest.approx(error)
        assert picture.title in picture.figure.get_suptitle()
    assert all("CIFAR-10" not in text for text in titles(pictures[1].figure))


def test_png(tmp_path):
    (picture,) = pictures_of(2, records(tmp_path / "records", short("cifar10-vgg16-padam"), [0.1]))
    path = save(picture.figure, tmp_path / "folder" / "figure-2.png")
    assert [file.name for file in path.parent.iterdir()] == ["figure-2.png"]
    height, width, _ = matplotlib.image.imread(path).shape
    assert width > height > 600


def test_no_such_figure():
    with pytest.raises(KeyError, match="no figure 5; it has 1, 2, 3, 4"):
        paper_figure(5, Results(PAPER))
