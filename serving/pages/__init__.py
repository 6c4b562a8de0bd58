"""Pages for people: server-rendered, readable without scripts, each with a JSON and CSV twin."""
