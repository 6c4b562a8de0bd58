"""Risk cases, escalations, hold-outs, driver evidence and similar accounts."""
