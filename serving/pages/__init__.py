"""Server-rendered pages without scripts; each has a JSON version, tables also a CSV version."""
