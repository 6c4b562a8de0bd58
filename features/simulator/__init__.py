r"""Simulated B2B software company with known true hazards, for the demo and for tests.

The mechanism per account i and calendar month m:

**Hidden states** (`hidden_states`), eight of them: engagement, fit, pain, champion, sentiment,
payment trouble, price pressure, demand for more::

    x(m) = μ_i + A (x(m−1) − μ_i) + B s(m) + u(m) + ε(m)

μ_i is the constant level of the account, A has persistences of 0.82 to 0.96 and a few carry-overs
(a lost champion lowers engagement, pain lowers sentiment), s are rare independent shocks (champion
leaves, incident, budget cut, card failure), u affects many accounts at once (an outage, a bad
release).

**Decisions** (`hazards`, `decisions`) depend on the states of three to five months earlier::

    z(m) = 0.5 x(m−3) + 0.3 x(m−4) + 0.2 x(m−5)
    month to month:  P(decide to leave in m)  = σ(a₁ + β · z(m))
    under contract:  P(lose the renewal)      = σ(a₂ + β · z(month of the notice deadline)),
                     decided around ten days before the deadline, or, without auto-renewal, in
                     30 % of cases by letting it lapse
    not paying:      P(final failure in m)    = σ(a₃ + b · z_payment(m)), month to month only
    expansion:       P(in m)                  = σ(a₄ + γ · z(m)), then four months without
                     expansion and less demand

**Signals** (`tables`) are noisy functions of x(m). They do not depend on future decisions; usage
falls only after a notice. Industry, discount, theme settings and effort surveys carry no
information. Save plays have no effect.

**Ground truth** (`ground_truth`): no lag is shorter than three months, so the probabilities of the
next 91 days follow from the states up to today (only days beyond three calendar months need an
average). Later renewals average over future states with exact mean and variance and an assumed
normal distribution.
"""

from features.simulator.export import write_tables
from features.simulator.simulate import Simulation, simulate

__all__ = ["Simulation", "simulate", "write_tables"]
