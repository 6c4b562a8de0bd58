"""History of data quality: a small profile and the issues of every load, and their comparison."""
