"""What all parts of a result document share."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["measured", "datasheet", "anchored", "inferred"]
Verdict = Literal["better", "worse", "no_significant_difference"]


class Document(BaseModel):
    """Base of all parts: unknown keys are refused, values are frozen, NaN cannot enter."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
