"""Which recorded value stands for a run."""

from fake_records import flat, small, write

from padam_optax.experiments.spec import LanguageModelling
from padam_optax.records.store import read_all
from padam_optax.report.metrics import last


def test_what_was_measured_at_the_end_comes_first(tmp_path):
    """The test text in one column there; records of earlier versions have it in each epoch."""
    spec = small("padam", dataset="ptb", task=LanguageModelling())
    write(tmp_path, spec, 0, flat(test_perplexity=60.0))
    write(
        tmp_path,
        spec,
        1,
        lambda epoch: {"test_perplexity": 61.0} | ({"final_test_perplexity": 59.0} if epoch == spec.epochs else {}),
    )
    assert [last(record, "test_perplexity") for record in read_all(tmp_path)] == [60.0, 59.0]
