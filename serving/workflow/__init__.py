"""Risk cases, escalations, hold-outs, evidence and similar accounts."""
