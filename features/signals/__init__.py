"""Signal families, one file each; a new feature is a few lines in one of them."""

from __future__ import annotations

from features.signals import (
    commercial,
    journey,
    payments,
    relationship,
    sentiment,
    support,
    texts,
    usage,
)
from features.signals.declare import Family
from features.tables.catalog import FeatureInfo

MODULES = (usage, support, sentiment, texts, commercial, payments, relationship, journey)
FAMILIES: tuple[Family, ...] = tuple(module.FAMILY for module in MODULES)


def feature_catalogue() -> list[FeatureInfo]:
    """Return every declared feature, in family order."""
    return [item.info(family.name) for family in FAMILIES for item in family.features]
