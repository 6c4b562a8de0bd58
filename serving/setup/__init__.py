"""Pages that set a company up in the browser: files, mapping, checks and the first run."""
