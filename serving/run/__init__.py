"""Pipelines behind the commands: run, refresh, score, report, forecast and monitor."""
