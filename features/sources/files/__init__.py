"""Opens inputs: CSV and Parquet files, databases, and the SQL a company writes over them."""
