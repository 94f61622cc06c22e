"""The paper's claims: on its own tables, and on records made so that the verdict is known."""

import dataclasses
from collections import Counter

import pytest
from fake_records import SMALL, flat, records, small, write

from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.records.record import Record
from padam_optax.records.store import read_all
from padam_optax.report.claims import (
    CLAIMS,
    Evidence,
    Verdict,
    findings,
    on_records,
    on_tables,
    together,
    verdict,
)
from padam_optax.report.inconsistencies import inconsistencies
from padam_optax.report.results import PAPER, Paper, Results
from padam_optax.report.summary import paired_interval

SHOWN, NOT_SHOWN, CANNOT_TELL = Verdict.SHOWN, Verdict.NOT_SHOWN, Verdict.CANNOT_TELL
ONE_SEED, ONE_SEED_AGAINST = Verdict.ONE_SEED, Verdict.ONE_SEED_AGAINST


def with_value(number: int, title: str, optimizer: str, value: float) -> Paper:
    """The paper with another number in one cell."""
    table = PAPER.tables[number]
    place = PAPER_METHODS.index(optimizer)
    rows = [
        dataclasses.replace(row, values=(*row.values[:place], value, *row.values[place + 1 :]))
        if row.title == title
        else row
        for row in table.rows
    ]
    return dataclasses.replace(PAPER, tables={**PAPER.tables, number: dataclasses.replace(table, rows=tuple(rows))})


class TestOnTables:
    def test_all_hold(self):
        """Three rows of Table 1, four of 2, three of 4; two of perplexities; nothing is printed of starts and of p."""
        found = on_tables(PAPER)
        assert Counter(printed.claim for printed in found) == {"accuracy": 10, "perplexity": 2, "adaptive": 12}
        assert all(printed.holds for printed in found)
        advantages = {(printed.claim, printed.row): (printed.rival, printed.advantage) for printed in found}
        assert advantages["accuracy", "Table 4, WideResNet"] == ("SGD-Momentum", -0.24)
        assert advantages["perplexity", "Table 3, 2-layer LSTM"] == ("SGD-Momentum", 1.84)
        assert advantages["adaptive", "Table 1, ResNet"] == ("AdamW", 0.38)
        assert advantages["adaptive", "Table 3, 3-layer LSTM"] == ("Yogi", 1.53)

    @pytest.mark.parametrize(
        ("claim", "cell", "exception"),
        [
            ("accuracy", (4, "WideResNet", "padam", 76.41), None),
            ("accuracy", (4, "WideResNet", "padam", 76.40), ("Table 4, WideResNet", "SGD-Momentum", -0.26)),
            ("accuracy", (2, "VGGNet, Top-5", "sgdm", 99.0), ("Table 2, VGGNet, Top-5", "SGD-Momentum", -7.07)),
            ("perplexity", (3, "2-layer LSTM", "padam", 63.37), None),
            ("perplexity", (3, "2-layer LSTM", "padam", 63.38), ("Table 3, 2-layer LSTM", "SGD-Momentum", -0.01)),
            ("adaptive", (1, "VGGNet", "adamw", 93.77), None),
            ("adaptive", (1, "VGGNet", "adamw", 93.78), ("Table 1, VGGNet", "AdamW", 0)),
            ("adaptive", (3, "3-layer LSTM", "yogi", 58.40), ("Table 3, 3-layer LSTM", "Yogi", -0.08)),
        ],
    )
    def test_another_number(self, claim, cell, exception):
        """At the threshold, and one digit beyond it."""
        wrong = [printed for printed in on_tables(with_value(*cell)) if printed.claim == claim and not printed.holds]
        found = [(printed.row, printed.rival, printed.advantage) for printed in wrong]
        assert found == ([] if exception is None else [exception])

    def test_words(self):
        found = findings(Results(with_value(1, "VGGNet", "sgdm", 94.5)))
        assert [finding.on_tables for finding in found] == [
            "Does not hold: it is true of 9 of 10 rows.",
            "Holds: it is true of 2 of 2 rows.",
            "Holds: it is true of 12 of 12 rows.",
            *["Cannot tell: the paper prints no number for it, only curves."] * 2,
        ]
        grids = [finding.tables_grid() for finding in found]
        assert grids[3:] == [None, None]
        lines = grids[0].markdown().splitlines()
        assert lines[2] == "| Table 1, VGGNet | SGD-Momentum | -0.72 | ≥ -0.25 | does not hold |"
        assert lines[3] == "| Table 1, ResNet | SGD-Momentum | -0.06 | ≥ -0.25 | holds |"


class TestInconsistencies:
    GAP = (
        "Appendix D says that Padam and SGD with momentum differ by less than 0.1; Table 4 (WideResNet) prints 76.42"
        " and 76.66, which differ by 0.24."
    )
    BEST = (
        "Section 5.1 says that Padam is best; Table 2 (Resnet, Top-1) prints 70.07 for it and 70.23 for SGD-Momentum."
    )
    START = (
        "Section 1 says that Padam achieves the fastest convergence speed; section 5.1 says that on the LSTMs Adam,"
        " AMSGrad and AdamW have faster convergence in the early stages."
    )

    def test_exactly_these(self):
        assert inconsistencies(PAPER) == [self.BEST, self.GAP, self.START]

    @pytest.mark.parametrize(
        ("cell", "gone"),
        [
            ((4, "WideResNet", "padam", 76.57), GAP),
            ((2, "Resnet, Top-1", "padam", 70.23), BEST),
        ],
    )
    def test_follow_from_the_numbers(self, cell, gone):
        assert inconsistencies(with_value(*cell)) == [
            text for text in (self.BEST, self.GAP, self.START) if text != gone
        ]

    def test_gap_of_exactly_the_bound(self):
        """.1 is not less than .1."""
        assert any("differ by 0.10" in text for text in inconsistencies(with_value(4, "WideResNet", "padam", 76.56)))

    @pytest.mark.parametrize(
        "cell",
        [
            (1, "VGGNet", "sgdm", 93.79),
            (1, "WideResNet", "adamw", 95.35),
            (1, "ResNet", "padam", 94.80),
            (2, "VGGNet, Top-1", "sgdm", 74.05),
            (2, "VGGNet, Top-5", "yogi", 91.94),
            (3, "2-layer LSTM", "adam", 61.52),
            (3, "3-layer LSTM", "yogi", 58.47),
            (4, "VGGNet", "adamw", 74.40),
            (4, "ResNet", "sgdm", 77.86),
        ],
    )
    def test_each_statement_of_the_text_is_compared(self, cell):
        """One more inconsistency as soon as a number says otherwise."""
        (new,) = set(inconsistencies(with_value(*cell))) - {self.BEST, self.GAP, self.START}
        assert f"Table {cell[0]} ({cell[1]})" in new
        assert f"{cell[3]:.2f}" in new


@pytest.mark.parametrize(
    ("claim", "interval", "expected"),
    [
        ("accuracy", (-0.25, 1.0), SHOWN),
        ("accuracy", (-0.2501, 1.0), CANNOT_TELL),
        ("accuracy", (-1.0, -0.25), CANNOT_TELL),
        ("accuracy", (-1.0, -0.2501), NOT_SHOWN),
        ("perplexity", (0.0, 0.0), SHOWN),
        ("perplexity", (-0.1, 0.0), CANNOT_TELL),
        ("perplexity", (-0.2, -0.1), NOT_SHOWN),
        ("adaptive", (0.001, 1.0), SHOWN),
        ("adaptive", (0.0, 1.0), CANNOT_TELL),
        ("adaptive", (-1.0, 0.001), CANNOT_TELL),
        ("adaptive", (-1.0, 0.0), NOT_SHOWN),
        ("start", (0.0, 0.0), NOT_SHOWN),
        ("middle", (0.1, 0.2), SHOWN),
    ],
)
def test_verdict_at_the_edges(claim, interval, expected):
    assert verdict(CLAIMS[claim], 3, interval) is expected
    assert verdict(CLAIMS[claim], 2, interval) is CANNOT_TELL


@pytest.mark.parametrize(
    ("interval", "diverged", "expected"),
    [
        ((0.1, 0.2), (1, 0), CANNOT_TELL),
        ((0.1, 0.2), (0, 2), SHOWN),
        ((-0.2, -0.1), (1, 0), NOT_SHOWN),
        ((-0.2, -0.1), (0, 1), CANNOT_TELL),
        ((-0.1, 0.1), (1, 1), CANNOT_TELL),
    ],
)
def test_no_verdict_in_favour_of_what_diverged(interval, diverged, expected):
    assert verdict(CLAIMS["adaptive"], 5, interval, diverged) is expected


@pytest.mark.parametrize(
    ("claim", "difference", "diverged", "expected"),
    [
        ("accuracy", -0.25, (0, 0), ONE_SEED),
        ("accuracy", -0.28, (0, 0), ONE_SEED_AGAINST),
        ("adaptive", 0.5, (0, 1), ONE_SEED),
        ("adaptive", 0.5, (1, 0), CANNOT_TELL),
        ("adaptive", -0.5, (0, 1), CANNOT_TELL),
    ],
)
def test_one_pair_is_one_seed(claim, difference, diverged, expected):
    """Shown as such, and not in favour of a side with a run that diverged."""
    assert verdict(CLAIMS[claim], 1, None, diverged, difference) is expected


@pytest.mark.parametrize("differences", [[], [1.0]])
def test_no_interval_of_less_than_two(differences):
    assert paired_interval(differences) is None
    assert verdict(CLAIMS["adaptive"], len(differences), None) is CANNOT_TELL


@pytest.mark.parametrize(
    ("differences", "half"),
    # Student's t at .975: 12.706 for 1 degree of freedom, 4.303 for 2, 2.776 for 4.
    [([0.0, 2.0], 12.706 * 2**0.5 / 2**0.5), ([1, 2, 3], 4.303 / 3**0.5), ([1, 2, 3, 4, 5], 2.776 * 0.5**0.5)],
)
def test_interval(differences, half):
    low, high = paired_interval(differences)
    assert (low + high) / 2 == pytest.approx(sum(differences) / len(differences))
    assert (high - low) / 2 == pytest.approx(half, rel=2e-4)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], CANNOT_TELL),
        ([SHOWN, SHOWN], SHOWN),
        ([SHOWN, CANNOT_TELL], CANNOT_TELL),
        ([SHOWN, CANNOT_TELL, NOT_SHOWN], NOT_SHOWN),
        ([SHOWN, ONE_SEED], ONE_SEED),
        ([ONE_SEED, CANNOT_TELL], CANNOT_TELL),
        ([ONE_SEED, CANNOT_TELL, ONE_SEED_AGAINST], ONE_SEED_AGAINST),
        ([ONE_SEED_AGAINST, NOT_SHOWN], NOT_SHOWN),
    ],
)
def test_together(verdicts, expected):
    assert together(verdicts) is expected


def evidence(
    found: list[Record], claim: str, rival: str = "SGD-Momentum", paper: Paper = SMALL, **where: object
) -> Evidence:
    """The only one of a claim and a rival, and of what else is said."""
    (only,) = [
        each
        for each in on_records(Results(paper, found))
        if (each.claim, each.rival) == (claim, rival)
        and all(getattr(each, name) == value for name, value in where.items())
        and (where or each.of_paper)
    ]
    return only


CELLS = {optimizer: SMALL.experiments[f"small-{optimizer}"] for optimizer in PAPER_METHODS}


class TestOnRecords:
    def test_difference_interval_and_n(self, tmp_path):
        """In points, positive where Padam is better."""
        records(tmp_path, CELLS["sgdm"], [0.10, 0.11, 0.12])
        found = records(tmp_path, CELLS["padam"], [0.09, 0.09, 0.09])
        only = evidence(found, "accuracy")
        assert (only.experiment, only.conditions, only.metric) == ("small", "cifar10", "test_error")
        assert only.of_paper
        assert (only.n, only.runs, only.diverged) == (3, (3, 3), (0, 0))
        assert only.difference == pytest.approx(2)
        assert only.interval == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), rel=1e-3)
        assert only.verdict is CANNOT_TELL

    @pytest.mark.parametrize(
        ("padam", "claim", "expected"),
        [
            ([0.0646, 0.1646, 0.2646], "accuracy", SHOWN),
            ([0.0647, 0.1647, 0.2647], "accuracy", NOT_SHOWN),
            ([0.0621, 0.1621, 0.2621], "adaptive", NOT_SHOWN),
            ([0.0620, 0.1620, 0.2620], "adaptive", SHOWN),
        ],
    )
    def test_pairs_count_not_the_spread_of_seeds(self, tmp_path, padam, claim, expected):
        """A constant difference at the threshold and beyond it, between seeds 10 points apart.

        In floating point, 100 - 6.46 is .25000000000001 below 100 - 6.21.
        """
        rival = "sgdm" if claim == "accuracy" else "adam"
        records(tmp_path, CELLS[rival], [0.0621, 0.1621, 0.2621])
        found = records(tmp_path, CELLS["padam"], padam)
        assert evidence(found, claim, METHODS[rival].title).verdict is expected

    def test_seeds_of_both_only(self, tmp_path):
        records(tmp_path, CELLS["sgdm"], {0: 0.10, 1: 0.11, 2: 0.12})
        found = records(tmp_path, CELLS["padam"], {1: 0.05, 2: 0.06, 3: 0.9})
        only = evidence(found, "accuracy")
        assert (only.n, only.runs) == (2, (3, 3))
        assert only.difference == pytest.approx(6)
        assert only.interval == pytest.approx((6, 6))
        assert only.verdict is CANNOT_TELL

    def test_diverged_runs_are_in_no_pair(self, tmp_path):
        records(tmp_path, CELLS["adam"], [0.2, 0.2, 0.2, 0.2])
        found = records(tmp_path, CELLS["padam"], [0.1, 0.1, 0.1])
        assert evidence(found, "adaptive", "Adam").verdict is SHOWN
        write(tmp_path, CELLS["padam"], 3, flat(test_error=0.1), done=2, diverged=True)
        only = evidence(read_all(tmp_path), "adaptive", "Adam")
        assert (only.n, only.runs, only.diverged, only.verdict) == (3, (4, 4), (1, 0), CANNOT_TELL)

    def test_unfinished_runs_are_in_no_pair(self, tmp_path):
        records(tmp_path, CELLS["sgdm"], [0.1, 0.1, 0.1])
        records(tmp_path, CELLS["padam"], {0: 0.1, 1: 0.1})
        found = records(tmp_path, CELLS["padam"], {2: 0.1}, done=2)
        only = evidence(found, "accuracy")
        assert (only.n, only.runs, only.verdict) == (2, (2, 3), CANNOT_TELL)

    def test_each_rival(self, tmp_path):
        for optimizer, errors in (
            ("padam", [0.10, 0.11, 0.12]),
            ("adam", [0.20, 0.21, 0.22]),
            ("amsgrad", [0.05, 0.06, 0.07]),
            ("yogi", [0.11, 0.10, 0.12]),
        ):
            found = records(tmp_path, CELLS[optimizer], errors)
        results = Results(SMALL, found)
        verdicts = {
            each.rival: each.verdict for each in on_records(results) if each.claim == "adaptive" and each.of_paper
        }
        assert verdicts == {
            "Adam": SHOWN,
            "AMSGrad": NOT_SHOWN,
            "AdamW": CANNOT_TELL,
            "Yogi": CANNOT_TELL,
            "AdaBound": CANNOT_TELL,
        }
        (finding,) = [finding for finding in findings(results) if finding.claim is CLAIMS["adaptive"]]
        assert finding.verdict is NOT_SHOWN

    @pytest.mark.parametrize(("padam", "expected"), [(1.0, SHOWN), (3.0, NOT_SHOWN)])
    def test_start(self, tmp_path, padam, expected):
        """The first 2 of 20 epochs; what comes later, and the end, do not count."""
        for optimizer, early in (("sgdm", 2.0), ("padam", padam)):
            for seed in range(3):
                write(
                    tmp_path,
                    small(optimizer, epochs=20),
                    seed,
                    lambda epoch, early=early: {"train_loss": early * epoch if epoch <= 2 else 5.0 / early},
                )
        paper = dataclasses.replace(
            SMALL, experiments={f"small-{name}": small(name, epochs=20) for name in PAPER_METHODS}
        )
        only = evidence(read_all(tmp_path), "start", paper=paper)
        assert only.difference == pytest.approx(1.5 * (2.0 - padam))
        assert only.verdict is expected

    def test_perplexities(self, tmp_path):
        """Lower is better."""
        for optimizer, values in (("sgdm", [60.0, 61.0, 62.0]), ("padam", [59.0, 60.0, 61.0])):
            for seed, value in enumerate(values):
                write(tmp_path, PAPER.experiments[f"ptb-lstm2-{optimizer}"], seed, flat(test_perplexity=value))
        only = evidence(read_all(tmp_path), "perplexity", paper=PAPER, experiment="ptb-lstm2")
        assert (only.difference, only.verdict) == (pytest.approx(1), SHOWN)

    def test_each_p(self, tmp_path):
        records(tmp_path, SMALL.experiments["small-padam"], [0.10, 0.11, 0.12])
        records(tmp_path, SMALL.experiments["small-padam-p1_16"], [0.20, 0.21, 0.22])
        found = records(tmp_path, SMALL.experiments["small-padam-p1_4"], [0.05, 0.06, 0.07])
        assert evidence(found, "middle", "p = 1/16").verdict is SHOWN
        assert evidence(found, "middle", "p = 1/4").verdict is NOT_SHOWN
        assert [each.rival for each in on_records(Results(SMALL, found)) if each.claim == "middle"] == [
            "p = 1/16",
            "p = 1/4",
        ]

    def test_other_data_and_lengths_are_not_the_papers(self, tmp_path):
        """They get verdicts of their own, and none counts for the paper's experiments."""
        for optimizer, errors in (("sgdm", [0.2, 0.2, 0.2]), ("padam", [0.1, 0.1, 0.1])):
            records(tmp_path / "jpeg", CELLS[optimizer], errors, label="cifar10-jpeg")
            records(tmp_path / "short", CELLS[optimizer].with_epochs(2), errors)
        found = read_all(tmp_path)
        for conditions in ("cifar10-jpeg", "cifar10, 2 of 3 epochs"):
            only = evidence(found, "accuracy", conditions=conditions)
            assert (only.n, only.verdict, only.of_paper) == (3, SHOWN, False)
        (finding,) = [finding for finding in findings(Results(SMALL, found)) if finding.claim is CLAIMS["accuracy"]]
        assert finding.verdict is CANNOT_TELL
        assert "cannot tell (0 of 1 comparisons have 3 pairs of runs or more)" in finding.on_runs

    def test_pairs_are_of_one_label(self, tmp_path):
        records(tmp_path / "a", CELLS["sgdm"], [0.2, 0.2, 0.2])
        records(tmp_path / "b", CELLS["padam"], [0.1, 0.1, 0.1], label="cifar10-jpeg")
        assert {each.n for each in on_records(Results(SMALL, read_all(tmp_path)))} == {0}

    def test_our_suites(self, tmp_path):
        for optimizer, errors in (("sgdm", [0.2, 0.2, 0.2]), ("padam", [0.1, 0.1, 0.1])):
            found = records(tmp_path, SMALL.experiments[f"ours-{optimizer}"], errors)
        only = evidence(found, "accuracy", experiment="ours")
        assert (only.n, only.verdict, only.of_paper) == (3, SHOWN, False)
        assert evidence(found, "start", experiment="ours").verdict is NOT_SHOWN

    def test_nothing_recorded(self):
        """Every comparison of the paper is there all the same, and none can tell."""
        found = on_records(Results(PAPER))
        counts = {claim: sum(each.claim == claim for each in found) for claim in CLAIMS}
        assert counts == {"accuracy": 10, "perplexity": 2, "adaptive": 60, "start": 10, "middle": 8}
        assert {(each.n, each.difference, each.verdict, each.of_paper) for each in found} == {
            (0, None, CANNOT_TELL, True)
        }
        assert [finding.runs_grid() for finding in findings(Results(PAPER))] == [None] * len(CLAIMS)


GRID = """\
| Runs | Against | n | Padam's advantage | 95% interval | Threshold | Verdict |
|---|---|---|---|---|---|---|
| small on cifar10 | Adam | 3 | +10.00 | +10.00 to +10.00 | > 0 | shown |
| small on cifar10 | AMSGrad | 0 | - | - | > 0 | cannot tell |
| small on cifar10 | AdamW | 1 | +5.00 | - | > 0 | one seed |
| small on cifar10 | Yogi | 3 | -5.00 | -5.00 to -5.00 | > 0 | not shown |
| small on cifar10 | AdaBound | 0 | - | - | > 0 | cannot tell |
| small on cifar10 | all | | | | | **not shown** |

- small on cifar10, Adam: runs without a partner: 1.
- small on cifar10, AMSGrad: diverged: 0 of Padam's runs, 1 of the other's; runs without a partner: 4.
- small on cifar10, AdamW: runs without a partner: 3.
- small on cifar10, Yogi: runs without a partner: 1.
"""


def test_markdown(tmp_path):
    for optimizer, errors in (
        ("padam", [0.10, 0.11, 0.12, 0.13]),
        ("adam", [0.20, 0.21, 0.22]),
        ("adamw", [0.15]),
        ("yogi", [0.05, 0.06, 0.07]),
    ):
        records(tmp_path, CELLS[optimizer], errors)
    write(tmp_path, CELLS["amsgrad"], 0, flat(test_error=0.5), done=1, diverged=True)
    grids = dict(zip(CLAIMS, (each.runs_grid() for each in findings(Results(SMALL, read_all(tmp_path)))), strict=True))
    assert grids["adaptive"].markdown() == GRID
    assert grids["perplexity"] is grids["accuracy"] is grids["middle"] is None


def test_one_seed_of_a_copy_in_bfloat16(tmp_path):
    """With its difference; the data in words, and bfloat16 in the caption."""
    for optimizer, error in (("sgdm", 0.1), ("adam", 0.2), ("padam", 0.11)):
        spec = dataclasses.replace(CELLS[optimizer], compute_dtype="bfloat16")
        found = records(tmp_path, spec, [error], label="cifar10-png")
    grids = dict(zip(CLAIMS, (each.runs_grid() for each in findings(Results(SMALL, found))), strict=True))
    where = "small on CIFAR-10 (lossless copy)"
    assert grids["accuracy"].caption == f"Activations in bfloat16: {where}."
    assert f"| {where} | SGD-Momentum | 1 | -1.00 | - | ≥ -0.25 | one seed against |" in grids["accuracy"].markdown()
    assert f"| {where} | Adam | 1 | +9.00 | - | > 0 | one seed |" in grids["adaptive"].markdown()
    # Both are named where they differ in that alone.
    both = records(tmp_path / "32", CELLS["padam"], [0.12], label="cifar10-png") + found
    both += records(tmp_path / "sgdm", CELLS["sgdm"], [0.12], label="cifar10-png")
    text = (
        {finding.claim: finding for finding in findings(Results(SMALL, both))}[CLAIMS["accuracy"]]
        .runs_grid()
        .markdown()
    )
    assert f"| {where} | SGD-Momentum | 1 | +0.00" in text
    assert f"| {where}, activations in bfloat16 | SGD-Momentum | 1 | -1.00" in text
