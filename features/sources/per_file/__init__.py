"""Tables of activity with several input files: built per group of files, merged by their keys."""
