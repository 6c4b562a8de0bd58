"""The ledger of recurring revenue: what each account paid when, and how that moved.

`terms` decides which terms follow which and when revenue really stops. `changes` lists every change
of an account's revenue. `retention` turns them into quarters with GRR and NRR. `spend` does the
same job for companies that only have invoices. Labels, account status, expansion offers, forecast,
report and `bellwether check` all read these. The rules in words: docs/revenue-rules.md.
"""
