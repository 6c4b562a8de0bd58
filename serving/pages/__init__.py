"""Server-rendered pages that work without scripts; with a JSON version, tables also with CSV."""
