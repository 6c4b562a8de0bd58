"""From raw tables to Feast: sources, revenue movements, feature families, snapshots and labels."""
