"""Evidence on churn and expansion scores: ranking, bands, calibration, lead time, verdict."""
