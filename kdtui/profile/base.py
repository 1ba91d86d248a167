"""What every table of a profile is built from: the base class and strict number types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# Strict: a bool is no number and "3" is no integer, in a file where both have their own spelling.
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Bool = Annotated[bool, Field(strict=True)]
TaskName = Literal["hierarchical", "semantic"]


class Table(BaseModel):
    """Base of every table: frozen, and a key that does not exist is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
