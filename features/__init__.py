"""Raw tables to Feast: sources, signals, snapshots, labels and the feature store."""
