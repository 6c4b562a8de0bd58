"""The benchmark of the audit runs, in a process of its own."""

from tests.benchmarks.training.audit import measure


def test_the_audit_is_timed_in_a_process_of_its_own():
    said: list[str] = []
    took, held = measure(said.append, accounts=120, months=9, draws=100)
    assert (took.unit, held.unit) == ("s", "GB")
    assert took.detail["rows"] > 500
    assert took.detail["events"].keys() == {"churn", "expansion"}
    assert 0 < held.ours < 4
    assert said == ["auditing 120 accounts × 9 months, 100 draws"]
