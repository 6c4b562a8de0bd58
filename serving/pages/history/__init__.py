"""History of accounts on the pages: charts, past risks, updates since the last visit."""
