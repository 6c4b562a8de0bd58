"""Ledger of recurring revenue: ARR of every account over time and its movements.

`terms` links subscription terms that continue each other and dates the end of revenue.
`revenue_changes` lists every change of an account's revenue, and `revenue_growth` its kind.
`retention` computes quarters with GRR and NRR. `usual_spend` covers companies that only have
invoices. Labels, account status, expansion offers, forecast, report and `bellwether check` all use
them. The rules are documented in docs/revenue-rules.md.
"""
