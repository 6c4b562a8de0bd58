"""Proposal of a ``company.yaml`` from a folder of exports."""

from features.sources.proposal.proposal import Proposal
from features.sources.proposal.propose import propose
from features.sources.proposal.write_yaml import company_yaml

__all__ = ["Proposal", "company_yaml", "propose"]
