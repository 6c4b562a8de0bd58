"""What a company without a table goes without."""

from __future__ import annotations

GAPS: dict[str, str] = {
    "subscriptions": "no contracts, ARR or renewal dates: outcomes come from activity or from the "
    "outcomes table, and nothing can be weighed by ARR",
    "usage_events": "no adoption or breadth signals",
    "entitlements": "no utilisation of what was bought: the strongest sign of expansion is unseen",
    "support_tickets": "no support signals",
    "survey_responses": "no NPS, CSAT or effort scores",
    "contacts": "nobody is known by name: a champion who leaves goes unnoticed",
    "opportunities": "no pipeline: open expansions and renewals at risk are unseen",
    "invoices": "no payment signals, and no spend where there are no contracts",
    "touches": "no record of contact: treated accounts cannot be told from untreated ones",
    "milestones": "no onboarding signals",
    "health_scores": "the score in use today cannot be audited or compared",
    "outcomes": "losses and gains are derived, not taken from a log of decisions",
    "labels": "outcomes follow our definitions, not one of the company's own",
    "owners": "no capacity per CSM: the team's is shared equally",
    "rates": "money in other currencies than the reporting one cannot be converted",
}
