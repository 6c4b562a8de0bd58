"""Account snapshots: the (entity, as_of) grid, point-in-time aggregation and account status."""
