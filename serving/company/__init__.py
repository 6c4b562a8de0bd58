"""The Python API: an opened company and the results of its steps, for notebooks and scripts.

Importing it is cheap: pandas, the feature store and the models are imported by the method that
needs them.
"""

from serving.company.audit import AuditSummary, audit
from serving.company.company import Company, open_company, simulate
from serving.company.data_results import QualityResult, RevenueResult
from serving.company.monitoring import MonitoringResult
from serving.company.scores import Explanation, Scores
from serving.company.training import TargetTraining, TrainingSummary

__all__ = [
    "AuditSummary",
    "Company",
    "Explanation",
    "MonitoringResult",
    "QualityResult",
    "RevenueResult",
    "Scores",
    "TargetTraining",
    "TrainingSummary",
    "audit",
    "open_company",
    "simulate",
]
