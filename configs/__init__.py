"""Ground floor: what a company configures, where its state lives, and how errors are told."""
