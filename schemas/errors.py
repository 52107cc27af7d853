"""Errors that a user meets. The tree:

PricemakerError           code, where, field, value, expected, fix
├── ConfigError           wrong configuration or usage            exit 2
├── InputError            bad input                               exit 3
│   ├── FieldError        one field of a document is wrong
│   └── EventError        an event that cannot be accepted: becomes a dead letter
├── ServiceError          a service cannot be reached             exit 4
├── CheckFailed           the check ran and says no               exit 5
└── EngineError           the fold met its own bug or a torn tape exit 1
"""

from typing import Any, Self

VALUE_CHARACTERS_MAX = 200


class PricemakerError(Exception):
    """What went wrong, where, with which value, what was expected and how to mend it."""

    exit_code = 1

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: str | None = None,
        field: str | None = None,
        value: object = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.field = field
        self.value = None if value is None else str(value)[:VALUE_CHARACTERS_MAX]
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} {self.fix}" if self.fix else text

    def __reduce__(self) -> tuple[Any, ...]:
        return self._rebuilt, (self.as_dict(),)  # an error of another process is whole here

    @classmethod
    def _rebuilt(cls, facts: dict[str, Any]) -> Self:
        return cls(**facts)

    def as_dict(self) -> dict[str, str | None]:
        """The same facts as data, for ``--json`` and dead letters."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "field": self.field,
            "value": self.value,
            "expected": self.expected,
            "fix": self.fix,
        }


class ConfigError(PricemakerError):
    """Wrong configuration or usage."""

    exit_code = 2


class InputError(PricemakerError):
    """Bad input."""

    exit_code = 3


class FieldError(InputError):
    """One field of a document is wrong."""


class EventError(InputError):
    """An event that cannot be accepted; it goes to the dead-letter topic whole."""


class ServiceError(PricemakerError):
    """A broker, cache or file system cannot be reached."""

    exit_code = 4


class CheckFailed(PricemakerError):
    """A check ran to its end and says no."""

    exit_code = 5


class EngineError(PricemakerError):
    """The fold met its own bug, or a tape that is not contiguous: the worker stops."""
