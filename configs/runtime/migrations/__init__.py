"""Migrations of every SQL table: one linear history, `versions/rNNNN_….py`.

`configs.runtime.migrate` runs them when a database is opened. Each revision has
``upgrade(tables)``, where `tables` names the tables that the database holds: all of them on
PostgreSQL, those of its group in an embedded file (`configs.runtime.tables`).

To change a table: change it in `configs.runtime.tables`, add a revision here, and raise
`configs.runtime.migrate.HEAD`. Tests compare both ways to the same schema, and migrate a state
directory of version 0.1.0. There are no downgrades: restore a backup instead.
"""
