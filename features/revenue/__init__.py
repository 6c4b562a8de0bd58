"""Ledger of recurring revenue: what each account pays when, and every movement of it.

`terms` decides which terms follow which and when their revenue stops. `revenue_changes` lists every
change of an account's revenue. `retention` turns changes into quarters with GRR and NRR.
`usual_spend` does the same for companies that only have invoices. Labels, account status, expansion
offers, forecast, report and `bellwether check` read these. The rules in words:
docs/revenue-rules.md.
"""
