"""Base model of the configuration and the common types of its keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Days = Annotated[int, Field(ge=0, le=3660)]
Share = Annotated[float, Field(ge=0, le=1)]


class ConfigModel(BaseModel):
    """Frozen model that refuses unknown keys; defaults are declared in the class."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
