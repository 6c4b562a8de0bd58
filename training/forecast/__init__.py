"""Forecast of GRR and NRR by simulation of every account, and its backtest."""
