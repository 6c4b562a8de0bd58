"""Server-rendered pages that work without scripts, each also available as JSON or CSV."""
