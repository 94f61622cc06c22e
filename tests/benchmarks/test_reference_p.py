"""The maps of rate x p: their parts, and the guide that quotes them."""

import functools
import math
import pathlib
import re

import pytest
import reference_p

from padam_optax.records.store import read_all

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
ROWS = {
    "digits": "Digits",
    "cifar10": "CIFAR-10",
    "lstm": "Penn Treebank, LSTM",
    "transformer": "Penn Treebank, transformer",
}


@functools.cache
def recorded():
    return reference_p.scores(list(read_all(ROOT / "benchmarks" / "records" / "studies" / "reference-p.jsonl")))


def test_common_rate_by_hand():
    """At 0.1 p = 1/4 loses half of its best; at 0.01 p = 1/8 loses a tenth; 1 diverges."""
    score = {
        (1 / 8, 0.01): 11.0,
        (1 / 8, 0.1): 10.0,
        (1 / 8, 1.0): math.inf,
        (1 / 4, 0.01): 20.0,
        (1 / 4, 0.1): 30.0,
        (1 / 4, 1.0): 20.0,
    }
    rate, losses = reference_p.common_rate(score)
    assert rate == 0.01
    assert losses == pytest.approx({1 / 8: 0.1, 1 / 4: 0.0})


@pytest.mark.parametrize(
    ("part", "ps", "rates"),
    [
        ("leaf", reference_p.P, 5),
        ("plain", reference_p.P, 9),
        ("zero", (0.0,), 5),
        ("none", reference_p.P, 5),
        ("official", (1 / 8, 1 / 4), 5),
        ("follow", (1 / 8,), 5),
    ],
)
def test_what_is_tried(part, ps, rates):
    found = reference_p.configurations(part)
    assert {each["p"] for each in found} == set(ps)
    assert len(found) == len(ps) * rates


def worst(task, score):
    """The common rate, and what p lose there: points of error on the digits, percent of their own best elsewhere."""
    rate, losses = reference_p.common_rate(score)
    if task != "digits":
        return rate, [100 * loss for loss in losses.values()]
    best = {p: min(value for (other, _), value in score.items() if other == p) for p in losses}
    return rate, [score[p, rate] - best[p] for p in best]


def in_text(low, high, text):
    found = re.match(r"([\d.]+) to ([\d.,]+)", text)
    assert found is not None, text
    for value, shown in ((low, found[1]), (high, found[2].replace(",", ""))):
        assert float(shown) == pytest.approx(value, abs=0.051 if "." in shown else 0.51)


@pytest.mark.parametrize("task", ROWS)
def test_the_guide_quotes_the_maps(task):
    """The rate that suits all p together with and without a reference, what it costs, and Adam's best rate."""
    (row,) = re.findall(rf"^\| {ROWS[task]}.* epochs \| .*$", GUIDE, re.MULTILINE)
    _, rate, above, plain_rate, plain_above, adam = (cell.strip() for cell in row.split("|")[1:-1])
    for part, (shown, loss) in {"leaf": (rate, above), "plain": (plain_rate, plain_above)}.items():
        found, losses = worst(task, recorded()[task][part])
        assert float(shown) == found
        in_text(min(losses), max(losses), loss)
    score = recorded()[task]["adam"]
    assert [float(each) for each in adam.split(", ")] == [
        rate for (_, rate), value in sorted(score.items()) if value == min(score.values())
    ]


def best(task, part, p=1 / 8):
    return min(value for (other, _), value in recorded()[task][part].items() if other == p)


def test_the_guide_quotes_other_forms():
    """How far they are behind R that is measured over 100 updates and held, each at its best rate."""
    text = " ".join(GUIDE.split())
    behind = {
        (task, part): 100 * (best(task, part) / best(task, "leaf") - 1)
        for task in ROWS
        for part in ("follow", "median")
    }
    lstm, transformer = behind["lstm", "follow"], behind["transformer", "follow"]
    assert f"and {lstm:.1f}% and {transformer:.1f}% worse on the LSTM and the transformer" in text
    assert abs(behind["cifar10", "follow"]) < 1
    assert best("digits", "follow") == best("digits", "leaf") == best("digits", "early")
    assert abs(behind["cifar10", "median"]) < 1
    assert best("digits", "median") - best("digits", "leaf") == pytest.approx(1, abs=1e-3)
    lstm, transformer = behind["lstm", "median"], behind["transformer", "median"]
    assert f"a point worse on digits, {transformer:.1f}% worse on the transformer and {lstm:.1f}% on the LSTM" in text
    held = [recorded()["lstm"][part][1 / 8, 0.003] for part in ("early", "leaf")]
    assert f"better at 0.003 ({held[0]:.1f} against {held[1]:.1f}) and fails at 0.01" in text
    assert recorded()["lstm"]["early"][1 / 8, 0.01] > 1e6
    one = [best("transformer", part) for part in ("all", "leaf")]
    assert f"the transformer ends at {one[0]:.1f} instead of {one[1]:.1f}" in text
    quarter, sixteenth = (
        [min(recorded()["lstm"][part][p, rate] for rate in (0.003, 0.01)) for part in ("all", "leaf")]
        for p in (1 / 4, 1 / 16)
    )
    assert f"p = 1/4 has {quarter[0]:.1f} at best instead of {quarter[1]:.1f}" in text
    assert f"p = 1/16 {sixteenth[0]:.1f} instead of {sixteenth[1]:.1f}" in text


def test_the_guide_quotes_no_correction():
    text = " ".join(GUIDE.split())
    lstm = recorded()["lstm"]["none"]
    rate, losses = reference_p.common_rate(lstm)
    at = [lstm[p, rate] for p in reference_p.P]
    assert f"within {100 * max(losses.values()):.1f}% of its own best at {rate:g}" in text
    assert f"where all have {min(at):.0f} to {max(at):.0f}" in text
    assert f"p = 1/8 comes to {lstm[1 / 8, 0.01]:.1f} at 0.01" in text
    rate, losses = worst("digits", recorded()["digits"]["none"])
    assert rate == 0.01
    assert max(losses) == pytest.approx(0.5, abs=1e-3)
    cifar = [best("cifar10", part, 1 / 2) for part in ("none", "leaf")]
    assert f"on CIFAR-10 ({cifar[0]:.1f} instead of {cifar[1]:.1f})" in text
    transformer = [recorded()["transformer"][part][1 / 2, 0.001] for part in ("none", "leaf")]
    assert f"on the transformer ({transformer[0]:.1f} instead of {transformer[1]:.1f})" in text
