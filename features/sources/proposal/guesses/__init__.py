"""Guesses of what each column of a raw file is: by name, by values, by shared keys."""
