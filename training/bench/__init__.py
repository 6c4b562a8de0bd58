"""What this room is measured by, beside its peers and in one run; see `serving.bench`."""
