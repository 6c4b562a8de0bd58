"""Renewal forecast: ARR movements, the forecast of GRR and NRR, and its backtest."""
