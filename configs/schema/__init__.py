"""Typed models of what a company configures: company.yaml, plays, rules, environment."""
