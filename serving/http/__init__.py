"""Problem documents, texts of scores, logs, metrics and the HTTP protocol of the service."""
