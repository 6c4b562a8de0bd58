r"""Simulated B2B software company with known true hazards, for the demo and for tests.

The mechanism, per account i and calendar month m:

**States** (`latents`), eight of them: engagement, fit, pain, champion, sentiment, payment trouble,
price pressure, demand for more::

    x(m) = μ_i + A (x(m−1) − μ_i) + B s(m) + u(m) + ε(m)

μ_i is the account's own lifelong level, A has persistences of 0.82 to 0.96 and a few carry-overs
(a lost champion drains engagement, pain drains sentiment), s are rare independent shocks (champion
leaves, incident, budget cut, card trouble), u hits many accounts at once (an outage, a bad
release).

**Decisions** (`hazards`, `life`) follow the states of three to five months before, fading::

    z(m) = 0.5 x(m−3) + 0.3 x(m−4) + 0.2 x(m−5)
    month to month:  P(decide to leave in m)  = σ(a₁ + β · z(m))
    under contract:  P(lose the renewal)      = σ(a₂ + β · z(month of the notice deadline)),
                     decided around ten days before the deadline, or, without auto-renewal, in
                     three of ten cases by letting it lapse
    not paying:      P(fail for good in m)    = σ(a₃ + b · z_payment(m)), month to month only
    buying more:     P(in m)                  = σ(a₄ + γ · z(m)), then four months of rest and
                     less demand

**Signals** (`usage`, `support`, `people`, `money`, `health`) show x(m) through noise. They never
look at decisions that have not been taken: what falls after a notice, falls after it. Industry,
discount, theme settings and effort surveys say nothing. Save plays change nothing.

**Truth** (`truth`): because no lag is shorter than three months, the chances of the next 91 days
follow from the states up to today (only the days beyond three calendar months take an average).
Renewals further ahead average over the states to come, whose mean and variance are exact and whose
shape is taken as normal.
"""

from features.simulator.export import write_tables
from features.simulator.simulate import Simulation, simulate

__all__ = ["Simulation", "simulate", "write_tables"]
