"""Values of hyper-parameters as one writes them in a shell, and their product."""

import pytest

from padam_optax.experiments import EXPERIMENTS
from padam_optax.runner.search_space import Range, check_seeds, parse_space, parse_values, product, trial_of

PADAM, SGDM = EXPERIMENTS["digits-padam"], EXPERIMENTS["digits-sgdm"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1", [0.1]),
        ("1/16, 1/8,.25", [0.0625, 0.125, 0.25]),
        ("1e-3:1e1:log:5", [0.001, 0.01, 0.1, 1, 10]),
        ("1:0.1:log:3", [1, 0.3162, 0.1]),
        ("0:1/2:lin:3", [0, 0.25, 0.5]),
        ("0,1e-3:1e-1:log:3", [0, 0.001, 0.01, 0.1]),
    ],
)
def test_values(text, values):
    assert list(parse_values(text)) == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' in '' is not a number; expected numbers or fractions"),
        ("0.1,x", "'x' in '0.1,x' is not a number"),
        ("1/0", "'1/0' in '1/0' is not a number"),
        ("nan", "must be finite"),
        ("1:2:3", "'1:2:3' is not a range; expected .*FROM:TO:log:COUNT"),
        ("1:2:cubic:3", "is not a range"),
        ("1:2:log:1", "COUNT of '1:2:log:1' must be from 2 to 10,000"),
        ("1:2:log:00", "must be from 2 to 10,000"),
        ("1e-3:1e1:log:99999999999", "must be from 2 to 10,000"),
        (f"1:2:lin:{'9' * 5_000}", "must be from 2 to 10,000"),
        ("0:1:lin:9999,2:3:lin:9999", "has 19,998 values; 10,000 are allowed"),
        (f"{'9' * 400}/1", "is not a number"),
        ("0:1:log:3", "must be above 0"),
        ("0.1,1/10", "a value twice"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(ValueError, match=message):
        parse_values(text)


def test_most_configurations():
    values = dict.fromkeys(("learning_rate", "p", "b1"), tuple(number / 200 for number in range(100)))
    with pytest.raises(ValueError, match="grid has 1,000,000 configurations; 100,000 are allowed"):
        product(PADAM, values)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_seeds_are_numbers_of_32_bits(seed):
    check_seeds([0, 2**31 - 1])
    with pytest.raises(ValueError, match=f"A seed must be from 0 to 2147483647, got {seed}"):
        check_seeds([0, seed])


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("1e-3:1e1:log", Range(0.001, 10.0, True)),
        ("0:1/2:lin", Range(0.0, 0.5, False)),
        ("1/8,1/4", (0.125, 0.25)),
        ("1:2:lin:2", (1.0, 2.0)),
    ],
)
def test_spaces(text, space):
    assert parse_space(text) == space


@pytest.mark.parametrize("text", ["1:0:log", "0:1:log", "0:1:cubic", "1:1:lin"])
def test_bad_spaces(text):
    with pytest.raises(ValueError, match="expected LOW:HIGH:log"):
        parse_space(text)


def test_product():
    found = product(PADAM, {"learning_rate": (0.1, 1.0), "p": (0.25, 0.5)})
    assert found == [{"learning_rate": rate, "p": p} for rate in (0.1, 1.0) for p in (0.25, 0.5)]


def test_a_trial_says_what_it_varies():
    trial = trial_of(PADAM, {"learning_rate": 0.1, "p": 0.5})
    assert trial.name == "digits-padam@learning_rate=0.1,p=0.5"
    assert (trial.suite, trial.variant_of, trial.trial) == ("digits", "digits-padam", ("learning_rate", "p"))
    assert trial.hyperparameters == {**PADAM.hyperparameters, "learning_rate": 0.1, "p": 0.5}
    assert trial.is_trial
    assert not PADAM.is_trial


@pytest.mark.parametrize(
    ("experiment", "values", "message"),
    [
        (PADAM, {}, "grid is empty"),
        (PADAM, {"p": ()}, "grid is empty"),
        (SGDM, {"p": (0.1,)}, "digits-sgdm has no 'p'; it has learning_rate, momentum, weight_decay"),
        (PADAM, {"p": (0.25, 0.6)}, r"p must be in \[0, 1/2\], got 0.6"),
        (PADAM, {"p": (-0.1,)}, r"p must be in \[0, 1/2\], got -0.1"),
        (PADAM, {"b2": (1.0,)}, r"b2 must be in \[0, 1\), got 1"),
        (PADAM, {"learning_rate": (-1.0,)}, "learning_rate must be 0 or more, got -1"),
    ],
)
def test_bad_grids(experiment, values, message):
    with pytest.raises(ValueError, match=message):
        product(experiment, values)
