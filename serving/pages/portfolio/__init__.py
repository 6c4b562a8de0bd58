"""Pages for leadership: portfolio, report, track record of the scores."""
