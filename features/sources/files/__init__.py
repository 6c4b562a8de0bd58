"""Opens CSV and Parquet files and databases, and runs the SQL of a company's mapping."""
