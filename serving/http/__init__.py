"""HTTP support: problem documents, score texts, logs, metrics and protocol limits."""
