"""Company configuration, state directory and errors: the package every other one builds on."""
