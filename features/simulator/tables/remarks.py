"""Remarks in tickets, survey comments and notes: what accounts write depends on their states.

The mood of a remark is noisy: unhappy accounts write worse on average, and a single text says
little. Remarks are drawn from their own random generators, so that all other columns stay as they
are without them.
"""

from __future__ import annotations

import numpy as np

from features.simulator.mechanism.calendar import Bools, Floats, Ints, blank_unless
from features.simulator.mechanism.context import SimulationContext
from features.simulator.mechanism.hidden_states import CHAMPION, FIT, PAIN, PRICE, SENTIMENT

UNHAPPY, NEUTRAL, HAPPY = range(3)
UNHAPPY_BELOW, HAPPY_ABOVE = -1.0, 1.1
"""Limits of the noisy mood, whose standard deviation is about 1.3."""

TICKET_REMARKS = (
    (
        "This is not acceptable for us.",
        "We are not happy with this at all.",
        "It never works when we need it.",
        "My last ticket was never answered.",
        "Honestly, we are disappointed.",
        "It used to be better.",
        "This costs us hours every week, very frustrating.",
        "Is anyone going to fix this? We are still waiting.",
        "Not only slow, it is also unreliable.",
        "My team is fed up with the workarounds.",
    ),
    (
        "No rush.",
        "Not urgent, whenever you have time.",
        "Screenshot attached.",
        "We use the latest version.",
        "It happens in both browsers.",
        "Our admin asked me to open this ticket.",
        "Same as in the last ticket.",
        "Regards, Jonas Weber",
        "You can reach me at mia.berg@acme.example or +1 555 0100.",
        "We have about forty users.",
    ),
    (
        "Otherwise we can't complain.",
        "Thanks, you are never slow to answer!",
        "Not a big problem, we like the product.",
        "No complaints apart from this, the team loves it.",
        "Thank you for the quick help last time!",
        "Support has been great so far.",
        "The new release is not bad at all.",
        "We are very happy with it otherwise 🙂",
    ),
)
"""Remarks after the subject of a ticket, by mood."""

FOREIGN = (
    (
        "Der Export funktioniert schon wieder nicht, wir sind enttäuscht.",
        "Niemand antwortet auf unsere Tickets.",
        "L'export ne marche pas et personne ne répond.",
        "La aplicación es demasiado lenta, no estamos contentos.",
    ),
    (
        "Wo finde ich das Protokoll der letzten Woche?",
        "Comment pouvons-nous ajouter un utilisateur ?",
        "¿Dónde puedo cambiar el idioma del informe?",
        "Var hittar jag inställningarna för rapporten?",
    ),
    (
        "Eine Frage zum Bericht, sonst sind wir sehr zufrieden.",
        "Merci pour votre aide rapide, nous sommes très contents.",
        "Gracias, el soporte es excelente. ¿Cómo exporto los datos?",
    ),
)
"""Whole tickets in other languages, by mood; one language has no lexicon."""

COMMENTS = (
    (
        "Too slow, and tickets are not answered.",
        "It broke twice.",
        "Not what we were promised.",
        "We would not recommend it, too many errors.",
        "The last months have not been good.",
        "Support takes days, and then it is not solved.",
        "Never had so much trouble with a tool.",
    ),
    (
        "Does the job.",
        "Good, could be faster",
        "OK für uns",
        "Not bad, not great.",
        "Some parts are fine, others are clunky.",
        "It does what it should.",
        "No strong opinion.",
    ),
    (
        "We love it!",
        "Makes our week easier 🎉",
        "Great support; great product.",
        "Never had a problem with it.",
        "Easy to use and never down.",
        "Couldn't be happier.",
        "Can't complain.",
    ),
)
"""Survey comments for scores 0–6, 7–8 and 9–10."""

NOTES = (
    (
        "They are not happy with the response times.",
        "Sponsor did not join, rollout is stuck.",
        "Long list of problems, mood was bad.",
        "They complained about the last release.",
        "Adoption is poor and they see no value yet.",
    ),
    (
        "Went through goals and open points",
        "Discussed the roadmap and the next steps.",
        "Introduced the new admin.",
        "Planned the training for the new team.",
        "Short check-in, no open points.",
    ),
    (
        "Good call, they see the value.",
        "They are happy, no open issues.",
        "Great feedback from the team leads.",
        "They want to be a reference, very satisfied.",
    ),
)
"""Notes of calls, meetings and reviews, by mood; written by us."""

PRICE_REMARKS = (
    "The price is too high for what we use.",
    "Our budget for this was cut.",
    "Is there a discount for fewer seats?",
    "Hard to justify the cost internally.",
)
GAP_REMARKS = (
    "We are still missing an approval flow.",
    "It lacks an integration with our ERP.",
    "The feature we need is not supported.",
    "Would love to see audit exports on the roadmap.",
)
COMPETITOR_REMARKS = (
    "We are looking at alternatives.",
    "Another vendor showed us a demo.",
    "How do you compare with your competitors?",
)


def ticket_texts(
    context: SimulationContext, subjects: np.ndarray, account: Ints, month: Ints, is_plain: Bools
) -> np.ndarray:
    """Return the texts of tickets: their subjects with a remark, or a text in another language.

    Parameters
    ----------
    subjects : array of str
        One subject per ticket.
    account, month : array of int
        Who wrote each ticket, and when.
    is_plain : array of bool
        Tickets that get no remark.
    """
    rng = context.rng("ticket remarks")
    pain = context.state(PAIN, account, month)
    leaning = 0.8 * context.state(SENTIMENT, account, month) - 0.5 * pain
    mood = _moods(rng, leaning)
    remark = _drawn(rng, TICKET_REMARKS, mood)
    foreign = _drawn(rng, FOREIGN, mood)
    themes = _theme_remarks(context, rng, account, month, share=0.5)
    has_remark = (rng.random(len(subjects)) < 0.75) & ~is_plain
    is_foreign = (rng.random(len(subjects)) < 0.06) & ~is_plain
    texts = np.where(has_remark, _joined(subjects, remark), subjects)
    texts = np.where((themes != "") & ~is_plain, _joined(texts, themes), texts)
    return np.where(is_foreign, foreign, texts)


def survey_comments(
    context: SimulationContext, mood: Ints, account: Ints, month: Ints
) -> np.ndarray:
    """Return survey comments: one in six is lukewarm whatever the score, some have a theme."""
    rng = context.rng("survey remarks")
    said = np.where(rng.random(len(mood)) < 1 / 6, NEUTRAL, mood)
    comments = _drawn(rng, COMMENTS, said)
    themes = _theme_remarks(context, rng, account, month, share=0.6)
    return np.where(themes != "", _joined(comments, themes), comments)


def touch_notes(
    context: SimulationContext, kind: np.ndarray, account: Ints, month: Ints
) -> np.ndarray:
    """Return notes of contacts: every review has one, and half of the calls and meetings."""
    rng = context.rng("touch notes")
    champion = context.state(CHAMPION, account, month)
    leaning = 0.6 * context.state(SENTIMENT, account, month) + 0.4 * champion
    notes = _drawn(rng, NOTES, _moods(rng, leaning))
    themes = _theme_remarks(context, rng, account, month, share=0.3)
    notes = np.where(themes != "", _joined(notes, themes), notes)
    is_noted = np.isin(kind, ("call", "meeting")) & (rng.random(len(kind)) < 0.5)
    return blank_unless(is_noted | (kind == "review"), notes)


def _moods(rng: np.random.Generator, leaning: Floats) -> Ints:
    noisy = leaning + rng.normal(0, 1.0, len(leaning))
    moods: Ints = np.where(
        noisy < UNHAPPY_BELOW, UNHAPPY, np.where(noisy > HAPPY_ABOVE, HAPPY, NEUTRAL)
    )
    return moods


def _theme_remarks(
    context: SimulationContext, rng: np.random.Generator, account: Ints, month: Ints, share: float
) -> np.ndarray:
    """Return a remark about price, a gap or competitors for a few texts, empty for the others."""
    price, fit, sentiment = (context.state(s, account, month) for s in (PRICE, FIT, SENTIMENT))
    count = len(account)
    competitor = -(fit + sentiment) / 2 + rng.normal(0, 1, count) > 2.2
    gap = -fit + rng.normal(0, 1, count) > 1.7
    pressure = price + rng.normal(0, 1, count) > 1.7
    chosen = np.select(
        [competitor, pressure, gap],
        [
            _drawn(rng, (COMPETITOR_REMARKS,), np.zeros(count, dtype=np.int64)),
            _drawn(rng, (PRICE_REMARKS,), np.zeros(count, dtype=np.int64)),
            _drawn(rng, (GAP_REMARKS,), np.zeros(count, dtype=np.int64)),
        ],
        default="",
    )
    return np.where(rng.random(count) < share, chosen, "")


def _drawn(
    rng: np.random.Generator, choices: tuple[tuple[str, ...], ...], group: Ints
) -> np.ndarray:
    """Return a random text of each row's group."""
    position = rng.random(len(group))
    texts = np.empty(len(group), dtype=object)
    for value, own in enumerate(choices):
        place = np.flatnonzero(group == value)
        texts[place] = np.array(own, dtype=object)[(position[place] * len(own)).astype(np.int64)]
    return texts


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.array(
        [f"{one} {other}" for one, other in zip(first, second, strict=True)], dtype=object
    )
