"""What will renew: movements of recurring revenue, the forecast of GRR and NRR, its backtest."""
