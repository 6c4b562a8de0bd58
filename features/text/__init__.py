"""Text of tickets, survey comments and notes: language, sentiment, themes, masked snippets."""

TEXT_COLUMNS = {"support_tickets": "text", "survey_responses": "comment", "touches": "text"}
"""Tables with a free text, and its column."""
