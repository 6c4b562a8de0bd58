"""What each column of a raw file is: by name, by values, by the keys it shares."""
