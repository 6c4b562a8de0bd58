"""BW-L07: the model is not too good to be true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

CODE = "BW-L07"


def test_quiet_on_an_honest_model(find, clean):
    assert find(CODE, clean).outcome == "passed"


def test_a_model_with_a_leak_is_caught(find, with_feature, frame):
    noise = np.random.default_rng(3).normal(size=len(frame))
    assert find(CODE, with_feature(frame, frame.label + 0.2 * noise)).outcome == "issue"


def test_the_limit_is_the_companys(find, clean):
    strict = clean.company.model_copy(
        update={"gates": clean.company.gates.model_copy(update={"max_auc": 0.6})}
    )
    assert find(CODE, replace(clean, company=strict)).outcome == "issue"
