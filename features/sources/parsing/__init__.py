"""Parses text columns into dates, numbers, booleans and categories."""
