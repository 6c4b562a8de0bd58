"""Readers of inputs: CSV and Parquet files, databases, and SQL over them."""
