"""Problem details, score texts, logs and metrics of the HTTP service."""
