"""Limits of the report, and its glossary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.runtime.formatting import count, fixed, listing, plural
from configs.schema.company import Company
from training.validation.verdict import half_width

GLOSSARY: dict[str, str] = {
    "95 % interval": "A range that contains the true value in 95 % of repeated measurements on "
    "similar accounts. Accounts are resampled with all their rows.",
    "AUC": "The share of pairs, one account with the event and one without, in which the account "
    "with the event has the higher score. 0.50 is a coin toss, 1.00 is perfect. Within test "
    "periods, both accounts are from the same period, as when a team chooses among them; this "
    "value "
    "is used unless stated otherwise, and for every criterion. Over all periods, the accounts may "
    "be from different periods, so this value also reflects whether scores follow changes of the "
    "overall rate over time.",
    "Wilson interval": "The 95 % interval of a share. Rows of one account in several periods are "
    "correlated, so they count by their effective sample size.",
    "Test period": "A period later than all training data, including labels. Every number on "
    "predictions in this report comes from test periods.",
    "Event": "The predicted outcome, once per account and decision.",
    "Capacity": "The number of accounts the team can work in a month, as configured.",
    "Lift at capacity": "The event rate among the accounts the team would have worked, divided "
    "by the rate among all accounts. 1.0× equals a random selection.",
    "Capture at capacity": "The share of all events among the accounts the team would have worked.",
    "Band": "Low, elevated or high: a range of probability fixed when the model was published.",
    "ARR in at-risk accounts": "All ARR of the accounts in the elevated and high bands. Most of it "
    "will be retained.",
    "Expected ARR lost": "Each account's probability times its ARR, summed over all scored "
    "accounts, "
    "including the low band.",
    "Observed over expected": "Number of events divided by the sum of probabilities. 1.00 is "
    "ideal; "
    "above 1 the probabilities were too low.",
    "Slope": "Whether the spread of probabilities is right: 1.00 is ideal, below 1 they were too "
    "extreme, above 1 too close to the average.",
    "Brier skill": "The improvement in accuracy over the same rate for all accounts. 0 is no "
    "improvement, 1 is perfect.",
    "Lead time": "Days from the score to the decision or to the notice deadline, the last day on "
    "which "
    "an account under contract can give notice.",
    "First alert": "The first time an account is on the list of a team that works to its capacity, "
    "highest scores first, each account once per test period.",
    "Calendar": "A comparison model that uses only days to renewal and segment.",
    "Proven, promising, not proven": "Proven: every criterion set in advance is met. Promising: "
    "better than chance, with criteria undecided or missed. Not proven: neither.",
    "Inconclusive, suspect": "Inconclusive: too few events for a verdict. Suspect: signs of a "
    "data leak; "
    "do not use any number until it is resolved.",
}


def limits_of(
    company: Company, targets: Mapping[str, Mapping[str, Any]], quality: Mapping[str, Any]
) -> list[str]:
    """Return the limits of the report as sentences, general limits first."""
    gaps = quality["gaps"]
    found = [
        "A score is associated with an outcome. It does not show causes, nor the effect of "
        "contacting an account. Only a randomised hold-out can show that.",
        "The tests cover the past of this company: a new price, product or market makes the past a "
        "weaker guide.",
        f"Bands of the published release are applied to earlier predictions. The capacity of "
        f"{count(company.serving.capacity_per_month)} accounts a month is a setting.",
    ]
    if "touches" in gaps:
        found.append(
            "Contact with accounts is not recorded. An account that was retained by the team looks "
            "like a false alarm, so the score may be better than it appears."
        )
    if "health_scores" in gaps:
        found.append("There is no history of the health score in use, so it is not evaluated.")
    for name, content in targets.items():
        found += _target_limits(name, content)
    return found


def _target_limits(name: str, content: Mapping[str, Any]) -> list[str]:
    test, title = content["test"], name.replace("_", " ").capitalize()
    width = half_width(test["events"], test["base_rate"])
    found = []
    if width is not None:
        found.append(
            f"{title}: with {plural(test['events'], 'event')} an AUC of 0.75 has an uncertainty "
            f"of about ± {fixed(width)}."
        )
    if test["over"] != "time":
        found.append(
            f"{title}: the table has a single date, so accounts were held out instead of time. "
            "The report cannot show how well the score predicts later periods."
        )
    unmeasured = [item["title"] for item in content["criteria"] if item["status"] == "not measured"]
    if unmeasured:
        found.append(f"{title}: not measured: {listing(unmeasured)}.")
    if not content["lead"]["events"]:
        found.append(
            f"{title}: the outcome has no decision date, so there are no results by lead time."
        )
    return found + [f"{title}: {note}." for note in content["notes"]]
