"""Typed models of company.yaml, plays.yaml, rules, ready-made tables and the environment."""
