"""What every section of the settings is made of."""

import re

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of the settings: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def refuse(field: str, value: object, expected: str, fix: str) -> PydanticCustomError:
    facts = {"field": field, "value": str(value), "expected": expected, "fix": fix}
    return PydanticCustomError("relation", "must be {expected}", facts)


def matching(pattern: str, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("pattern", "must be {expected}", {"expected": expected})
        return value

    return AfterValidator(check)
