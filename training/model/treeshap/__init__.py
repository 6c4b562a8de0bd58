r"""Exact path-dependent TreeSHAP of LightGBM models by quadrature, 50 to 100 times as fast.

`TreeExplainer` gives what LightGBM's ``pred_contrib`` and ``shap.TreeExplainer`` give, to rounding;
`TreePredictor` gives raw log-odds alone, LightGBM's to the bit.

The game
--------
A leaf of value v, with d different features on its path, is one product: the path asks feature i
one or several times; let o_i be 1 when the row satisfies all those questions and 0 otherwise, and
z_i the product of the shares of training rows that went the path's way. When only the features in
S are known, the tree's path-dependent expectation [1]_ is

.. math:: F(S) = \sum_{leaves} v \prod_{i \in S} o_i \prod_{i \notin S} z_i .

Replace membership by a number x_i in [0, 1], F(x) = Σ v ∏ (z_i + x_i·(o_i − z_i)): this agrees
with F(S) at the corners of the cube and is linear in every x_i, so it is Owen's multilinear
extension of the game [2]_, and

.. math:: \phi_i = \int_0^1 \frac{\partial F}{\partial x_i}(t, \ldots, t)\, dt
    = \sum_{leaves} v\,(o_i - z_i) \int_0^1 \prod_{j \neq i} \bigl(z_j + t\,(o_j - z_j)\bigr)\, dt .

*Why this is Shapley's value.* On the diagonal every other feature is known independently with
probability t, so ∂F/∂x_i is the mean of F(S ∪ i) − F(S) where S has probability
t^{|S|}·(1 − t)^{n−1−|S|}; integrating over t gives each S the weight
B(|S| + 1, n − |S|) = |S|!·(n − 1 − |S|)!/n!, which is Shapley's. Features that are on no path of
a leaf integrate out, so d of the leaf, not n, counts.

*Why few points are exact.* The integrand is a polynomial in t of degree at most d − 1, and
Gauss–Legendre quadrature with K nodes is exact to degree 2·K − 1: K = ⌈d/2⌉ nodes, with d the most
different features on a path of the tree. A tree of 31 leaves needs 4 to 6.

Two passes
----------
All is done at the K nodes t_k at once, and leaves are summed before they are multiplied [3]_.
Take an inner node on feature i whose children get the shares r and 1 − r of its training rows, and
f_k = z + t_k·(1 − z), where z is the z_i the path has collected from ancestors on i (1 and f_k = 1
where there is none). Let

* α = (1 − r) when the row goes to the first child, −r when it goes to the second, and 0 when an
  ancestor on i already sent the row elsewhere (then o_i is 0 on both sides and stays so);
* τ_k = t_k / f_k, c_k = z·w_k / f_k²: tables that depend on the node alone.

The product of the factors on the path down to a node, P, and the sum over the leaves below it of v
times the factors below it, G, then obey

.. math::
    P_{first} &= P\,(r + \tau_k\,\alpha), \qquad P_{second} = P - P_{first},\\
    G &= r\,G_{first} + (1 - r)\,G_{second} + \tau_k\,\alpha\,(G_{first} - G_{second}),\\
    \phi_i &\mathrel{+}= \alpha \sum_k c_k\, P\,(G_{first} - G_{second}).

*Repeated features* merge by these same three lines. On an edge below an ancestor on i the factor
of i changes from f_a to f_e, so the edge's own factor is f_e/f_a; it equals r + τ·α in each of the
live states (o_a, o_e) = (1, 1), (1, 0), (0, 0). What the edge adds to φ_i is its leaves' integrand
less what the ancestor has already booked for them, (o_e − z_e)/f_e − (o_a − z_a)/f_a; over the
common denominator the t-dependence cancels, (o_e·z_a − o_a·z_e)/(f_e·f_a), and with z_e = z_a·r
and P·f_e/f_a from above there remains z_a·(o_e − o_a·r)/f_a²: α·c_k. It vanishes when o_a = 0.

*Nothing is divided by zero.* The only division is by f_k, in tables, and f_k ≥ t_k > 0 because
Gauss nodes lie strictly inside (0, 1) — for any z in [0, 1]. When o_a = 0, where a division by
f_a = z_a·(1 − t) might be feared, the ratio f_e/f_a is r and no division is left.

*Conditioning.* r + τ·α, 1 − r − τ·α and P lie in [0, 1]; G is a weighted mean of leaves, so
|G| ≤ max|v|; and c_k·P ≤ w_k, since P contains the factor f_k when α ≠ 0 and z ≤ f_k. Weights sum
to 1, so no intermediate number exceeds twice the largest leaf, there is no solving and no
extrapolation, and rounding grows with the depth only: about depth·ε·max|v| per tree, for paths of
any length. On a chain of 36 features these passes are within 1e-15 of rational arithmetic, where
the original algorithm, which unwinds by dividing, is within 5e-12.

*Cost.* O(nodes·K) per row and tree, against O(leaves·d²) for the original algorithm, in
multiplications and additions without a branch on the row, so rows fill the lanes of vectors.

The prediction comes along: the leaf a row reaches is chosen on the way up, and leaves are added in
LightGBM's order, so raw log-odds are LightGBM's to the bit.

Decisions are LightGBM's
------------------------
Entries of at most 1e-35 (as a float) in absolute value are 0. NaN is 0 where the split knows no
missing values; it takes the default side where NaN is missing; it and 0 take it where zero is
missing. A category is cut to an integer; NaN, negative, infinite and unknown ones are not members.

Nothing here is trusted unseen: see `TreeExplainer.warm`.

References
----------
.. [1] Lundberg et al., From local explanations to global understanding with explainable AI for
   trees, Nature Machine Intelligence 2 (2020).
.. [2] Owen, Multilinear extensions of games, Management Science 18 (1972).
.. [3] Yu, Bifet, Read, Xu, Linear TreeShap, NeurIPS 2022, sums leaves before multiplying, with
   polynomials kept as values at points; Wettenstein, Mitchell, Yu, Quadrature-TreeSHAP,
   arXiv:2605.04497 (2026), uses quadrature with a fixed number of nodes.
"""

from training.model.treeshap.explainer import Explained, TreeExplainer, TreePredictor
from training.model.treeshap.parse import UnsupportedModelError

__all__ = ["Explained", "TreeExplainer", "TreePredictor", "UnsupportedModelError"]
