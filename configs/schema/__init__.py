"""Typed models of the configuration: company.yaml, plays, rules and environment."""
