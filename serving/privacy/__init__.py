"""Personal data: where it lies, how it is deleted, and how long it is kept."""
