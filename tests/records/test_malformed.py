"""What is read is checked in one place: whatever stands in a record, it is read or refused by name."""

import json

import pytest
from malformed import good, malformed

from padam_optax.records import checks, packed
from padam_optax.records.checks import RecordError, RecordWarning, printable
from padam_optax.records.files import to_json
from padam_optax.records.record import from_json
from padam_optax.records.store import RunDirectory, read_all

VARIANTS = list(malformed())


def test_every_variant_is_read_or_refused_by_name(tmp_path):
    """No other error; the message is one line and names the file and the line, and so does that of a folder."""
    file = tmp_path / "file.jsonl"
    refused: dict[str, str] = {}
    for what, text in VARIANTS:
        file.write_text(text + "\n", encoding="utf-8")
        try:
            packed.read(file)
        except RecordError as error:
            refused[what] = str(error)
    for what, message in refused.items():
        assert message.startswith(f"{file}, line 1"), what
        assert message.isprintable(), what
        assert len(message) < 600, what
    # The others are those that a field takes: null where it may be null, a text for a text, and so on.
    assert 0.75 < len(refused) / len(VARIANTS) < 1


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("metrics.0.epoch null", "line 1 of the metrics: epoch must be int, got None"),
        ("config.experiment.name number", "experiment.name must be str, got 0.5"),
        (
            "config.experiment.hyperparameters.p a number as text",
            r"experiment.hyperparameters.p must be float, got '1'",
        ),
        ("config.experiment.hyperparameters.p nan", "experiment.hyperparameters.p must be finite, got nan"),
        ("config.experiment.epochs 400 digits", "experiment.epochs must be an integer of 64 bits, got 999"),
        ("config.experiment.epochs negative", "experiment.epochs must be at least 1, got -1"),
        ("config.seed negative", "seed must be at least 0, got -1"),
        ("metrics.0.train_loss 400 digits", "train_loss must be an integer of 64 bits, got 999"),
        ("metrics.0.train_loss null", "train_loss must be float, got None"),
        ("metrics.0.seconds 1e308", "seconds must be a number of a size that a run can have, got 1e[+]308"),
        ("config.experiment.model_options nested", "is not a record: it is nested more than 32 deep"),
        ("config.data.label missing", "has no data.label"),
        ("config.data.label half of a pair", r"data.label has half of a surrogate pair, .*: 'a\\ud800'"),
        ("config.experiment.hyperparameters.p missing", "trial names 'p', which experiment.hyperparameters lacks"),
        ("metrics.0.effective_rates.quantiles null", "effective_rates must have quantiles"),
        ("metrics.0.effective_rates.threshold missing", "has no effective_rates.threshold"),
    ],
)
def test_the_field_is_named(what, message):
    row = json.loads(dict(VARIANTS)[what])
    with pytest.raises(RecordError, match=f"^here.*{message}"):
        from_json(row["config"], row["metrics"], "here")


def test_a_folder_names_its_own_files(tmp_path):
    packed_file = tmp_path / "file.jsonl"
    packed_file.write_text(json.dumps(good()) + "\n", encoding="utf-8")
    packed.unpack(packed_file, tmp_path / "runs")
    (lines,) = tmp_path.rglob("metrics.jsonl")
    lines.write_text('{"epoch": 1, "train_loss": "low"}\n', encoding="utf-8")
    with pytest.raises(RecordError, match=r"seed-0/metrics\.jsonl, line 1: train_loss must be float, got 'low'"):
        read_all(tmp_path / "runs")


def lines_of(*epochs: int, **last) -> list[dict]:
    lines = [{"epoch": epoch, "train_loss": 1.0} for epoch in epochs]
    return [*lines, last] if last else lines


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (lines_of(1, 2, 2, 3), "holds epoch 2 twice, the second time on line 3"),
        (lines_of(1, 2, 1, 2), "holds epoch 1 twice, the second time on line 3"),
        (lines_of(1, 3), "lacks epoch 2, before line 2"),
        (lines_of(3), "lacks epoch 1 to 2, before line 1"),
        (lines_of(1, epoch=3, diverged_step=9), "lacks epoch 2"),
        (lines_of(1, 2, 3, 4, 5, 6), "epoch must be at most 5, the run's last; got 6"),
        (
            [*lines_of(1, epoch=2, diverged_step=9), *lines_of(3)],
            "line 2 of the metrics ends the run, but lines follow",
        ),
        ([*lines_of(1, 2), {"epoch": 3}], "line 3 of the metrics has no train_loss, which line 1 has"),
        (
            [*lines_of(1), {"epoch": 2, "train_loss": 1.0, "test_error": 1.0}],
            "line 1 .* no test_error, which line 2 has",
        ),
        ([*lines_of(1), {"epoch": 2, "train_loss": 1.0, "final_test_loss": "low"}], "final_test_loss must be"),
        (lines_of(1, epoch=2, diverged_step=-1), "diverged_step must be at least 0, got -1"),
        (lines_of(1, epoch=1, given_up=5), "given_up must be str, got 5"),
    ],
)
def test_epochs_doubled_or_missing(lines, message):
    config = good()["config"]
    config["experiment"]["epochs"] = 5
    with pytest.raises(RecordError, match=f"^here.*{message}"):
        from_json(config, lines, "here")


@pytest.mark.parametrize("last", [{"epoch": 2, "given_up": "halving"}, {"epoch": 3, "given_up": "pruning"}])
def test_a_run_that_was_given_up_is_whole(last):
    config = good()["config"]
    config["experiment"]["epochs"] = 5
    assert from_json(config, [*lines_of(1, 2), last]).given_up


def test_control_characters_are_replaced_when_read():
    row = good()
    hostile = "\x1b[2J\x1b]0;title\x07a\n# b\u2028\u202ec\x9b"
    row["config"]["device"]["kind"] = row["config"]["data"]["label"] = hostile
    row["config"]["experiment"]["model_options"] = {hostile: [hostile]}
    row["metrics"][0]["note"] = {hostile: hostile}
    record = from_json(row["config"], row["metrics"])
    for text in (record.device.kind, record.data.label, *record.experiment.model_options, *record.metrics[0]["note"]):
        assert text.isprintable()
        assert text == printable(hostile) == "�[2J�]0;title�a�# b��c�"
    assert printable("a\nb", keep="\n") == "a\nb"


def test_infinities_are_strict_json(tmp_path):
    """Written as texts, read as the numbers; as bare words, which earlier versions wrote, they are read too."""
    row = good()
    line = {"epoch": 1, "test_perplexity": float("inf"), "valid_perplexity": float("-inf"), "train_loss": 0.5}

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for text in (to_json(line), json.dumps(line)):
        (read,) = from_json(row["config"], [json.loads(text)]).metrics
        assert read == line
    assert json.loads(to_json(line), parse_constant=refuse)["test_perplexity"] == "Infinity"
    run = RunDirectory(tmp_path, "digits-padam", 0)
    run.start(from_json(row["config"], []), 0)
    run.append(line)
    run.start(run.read(), 1)
    assert run.read().metrics == [line]
    packed.pack(tmp_path, tmp_path / "file.jsonl")
    for file in (*tmp_path.rglob("metrics.jsonl"), tmp_path / "file.jsonl"):
        for each in file.read_text(encoding="utf-8").splitlines():
            json.loads(each, parse_constant=refuse)


@pytest.fixture
def with_strays(tmp_path):
    """A folder of one run, beside a copy of it, a folder called nearly so, and another program's lines."""
    file = tmp_path / "file.jsonl"
    file.write_text(json.dumps(good()) + "\n", encoding="utf-8")
    runs = tmp_path / "runs"
    packed.unpack(file, runs)
    (run,) = runs.rglob("seed-0")
    for name in ("seed-0 (copy)", "seed-²", "seed-00"):
        (run.parent / name).mkdir()
        (run.parent / name / "config.json").write_bytes((run / "config.json").read_bytes())
    (runs / "log.jsonl").write_text('{"time": 1}\n', encoding="utf-8")
    return runs


def test_strays_are_skipped_and_said_once(with_strays, tmp_path):
    with pytest.warns(RecordWarning) as caught:
        assert len(read_all(with_strays)) == 1
    (warning,) = caught
    assert str(warning.message).startswith("Skipped, because they are not runs: ")
    assert "seed-0 (copy)" in str(warning.message)
    assert str(warning.message).endswith(" and 1 more.")
    with pytest.warns(RecordWarning, match="seed-0 .copy., .*seed-²"):
        assert packed.pack(with_strays, tmp_path / "again.jsonl") == 1


def test_a_file_that_is_named_is_no_stray(with_strays):
    with pytest.raises(RecordError, match="line 1 is damaged: expected a JSON object with 'run'"):
        read_all(with_strays / "log.jsonl")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..", ".", "", "a//b", "a\0", "a\nb"])
def test_no_name_leaves_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="is not the name of a folder within another"):
        RunDirectory(tmp_path / "out", name, 0)


def test_unpacking_follows_no_link_out(tmp_path):
    file = tmp_path / "file.jsonl"
    file.write_text(json.dumps(good() | {"run": "link/seed-0"}) + "\n", encoding="utf-8")
    for name in ("to", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "to" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="line 1 names the folder 'link/seed-0'"):
        packed.unpack(file, tmp_path / "to")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_damaged_record_can_be_replaced(tmp_path):
    """What starts anew reads nothing of what was there."""
    run = RunDirectory(tmp_path, "digits-padam", 0)
    record = from_json(good()["config"], [])
    run.start(record, 0)
    (run.path / "config.json").write_text("{", encoding="utf-8")
    run.start(record, 0)
    assert run.read() == record


def test_numbers_at_the_bounds():
    assert checks.number(2**63 - 1, "x", "here") == 2**63 - 1
    with pytest.raises(RecordError, match="64 bits"):
        checks.number(2**63, "x", "here")
    assert checks.number("-Infinity", "x", "here", finite=False) == float("-inf")
    with pytest.raises(RecordError, match="must be float, got 'Infinity'"):
        checks.number("Infinity", "x", "here")
