"""What the report cannot say, stated; and its words explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.runtime.formatting import count, fixed, listing, plural
from configs.schema.company import Company
from training.validation.verdict import half_width

GLOSSARY: dict[str, str] = {
    "95 % interval": "Had the same been measured on another such set of accounts, the value would "
    "lie in such an interval 95 times in 100. Accounts are drawn whole, with all their rows.",
    "AUC": "Of a random account that had the event and a random one that had not, how often the "
    "first has the higher score. 0.50 is a coin, 1.00 is always. Within test periods both are of "
    "the same period, as they are when a team chooses among them; this one is meant where no other "
    "is named, and every mark goes by it. Over all periods together the two may be of different "
    "ones, so it also measures whether the level of the scores follows the season.",
    "Wilson interval": "The 95 % interval of a share. Rows of one account in several periods are "
    "alike, so they count by what they tell together.",
    "Test period": "A stretch of time later than everything the model had learnt from, labels "
    "included. Every number on prediction in this report comes from test periods.",
    "Event": "The outcome that is predicted, once per account and decision.",
    "Capacity": "The accounts the team can work in a month, as configured.",
    "Lift at capacity": "The event rate among the accounts the team would have worked, over the "
    "rate among all. 1.0× is picking at random.",
    "Capture at capacity": "The share of all events that were among the accounts the team would "
    "have worked.",
    "Band": "Low, elevated or high: a range of probability fixed when the model was published.",
    "ARR in at-risk accounts": "All the annual recurring revenue of the accounts in the elevated "
    "and high bands. Most of it will stay.",
    "Expected ARR lost": "Each account's probability times its annual recurring revenue, summed "
    "over all scored accounts, low band included.",
    "Observed over expected": "Events that happened over the sum of probabilities. 1.00 is right, "
    "above 1 the scores were too low.",
    "Slope": "Whether probabilities spread as far as they should: 1.00 is right, below 1 they were "
    "too extreme, above 1 too timid.",
    "Brier skill": "How much closer the probabilities were to what happened than the same rate for "
    "everybody. 0 is no better, 1 is perfect.",
    "Lead time": "Days from the score to the decision, or to the notice deadline: the last day on "
    "which an account under contract can say that it leaves.",
    "First alert": "The first time an account comes up on the list of a team that works to its "
    "capacity, the highest scores first, each account once per test period.",
    "Calendar": "A comparison that knows only the days to renewal and the segment.",
    "Proven, promising, not proven": "Proven: every mark set beforehand is met. Promising: better "
    "than chance, with marks undecided or missed. Not proven: neither.",
    "Inconclusive, suspect": "Inconclusive: too few events to say. Suspect: something points to a "
    "leak, so no number may be used yet.",
}


def limits_of(
    company: Company, targets: Mapping[str, Mapping[str, Any]], quality: Mapping[str, Any]
) -> list[str]:
    """Return the limits of this report in sentences, the general ones first."""
    gaps = quality["gaps"]
    found = [
        "A score is associated with an outcome; it does not say what causes it, nor what calling "
        "an account would change. Only a randomised hold-out can show that.",
        "The past of this company was tested, not its future: a new price, product or market "
        "makes the past a weaker guide.",
        f"Bands are those of the published release, laid over earlier predictions; the capacity of "
        f"{count(company.serving.capacity_per_month)} accounts a month is a setting.",
    ]
    if "touches" in gaps:
        found.append(
            "No contact with accounts is recorded. An account that was saved looks like a false "
            "alarm, so the score may be better than it seems."
        )
    if "health_scores" in gaps:
        found.append("No history of the health score in use was supplied, so it is not examined.")
    for name, content in targets.items():
        found += _target_limits(name, content)
    return found


def _target_limits(name: str, content: Mapping[str, Any]) -> list[str]:
    test, title = content["test"], name.replace("_", " ").capitalize()
    width = half_width(test["events"], test["base_rate"])
    found = []
    if width is not None:
        found.append(
            f"{title}: with {plural(test['events'], 'event')} an AUC of 0.75 is known to about "
            f"± {fixed(width)}."
        )
    if test["over"] != "time":
        found.append(
            f"{title}: the table has a single moment, so accounts were held out, not time. Nothing "
            "here shows how the score would have done later."
        )
    unmeasured = [item["title"] for item in content["criteria"] if item["status"] == "not measured"]
    if unmeasured:
        found.append(f"{title}: not measured: {listing(unmeasured)}.")
    if not content["lead"]["events"]:
        found.append(
            f"{title}: the outcome has no date of decision, so nothing is said by lead time."
        )
    return found + [f"{title}: {note}." for note in content["notes"]]
