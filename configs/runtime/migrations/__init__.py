"""Migrations of every SQL table: one linear history, `versions/rNNNN_….py`.

`configs.runtime.migrate` runs them when a database is opened. Each revision has
``upgrade(tables)``, where `tables` names the tables that the database holds: all of them on
PostgreSQL, those of its group in an embedded file (`configs.runtime.tables`).
"""
