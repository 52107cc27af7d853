"""What is wrong with a tape, in words: records that this build cannot read, newer engines."""

import re
from importlib.metadata import version

import msgspec
from packaging.version import InvalidVersion, Version

from schemas import tape
from schemas.errors import EngineError, InputError, PricemakerError
from schemas.events import SOURCE_TYPES, EngineChanged
from streams.tape.tape_builder import Placed

SOURCE_FAULTS = ("tape_jump", "torn_tape")  # a worker stops for them; here the source is bad
ENGINE_CHANGED = b'"engine_changed"'
PROGRAM = "pricemaker"
MEND = "Copy or make the tape again."


class _Typed(msgspec.Struct):
    type: str
    version: str = ""


class _Record(msgspec.Struct):
    event: _Typed


_UNKNOWN_TYPE = re.compile(r"Invalid value '(.*)' - at `\$\.event\.type`")
_decoder = msgspec.json.Decoder(_Record)


def known_types() -> list[str]:
    """All event types that may stand on a tape."""
    kinds = [kind for kinds in SOURCE_TYPES.values() for kind in kinds]
    every: list[type[msgspec.Struct]] = [*kinds, EngineChanged]
    return [str(kind.__struct_config__.tag) for kind in every]


def explained(error: PricemakerError, where: str) -> InputError:
    """A fault that the fold found, with its place in the source.

    An event of a type that this build does not know is told apart from a torn record: a newer major
    version of an event is a new type.
    """
    unknown = _UNKNOWN_TYPE.search(error.message)
    if error.code == "torn_tape" and unknown is not None:
        return InputError(
            "unknown_event_type",
            f"type was {unknown[1]!r}, which {PROGRAM} {version(PROGRAM)} does not know.",
            where=where,
            field="type",
            value=unknown[1],
            expected=f"one of {', '.join(known_types())}",
            fix=f"Upgrade {PROGRAM}, or stop before this record with --to-offset.",
        )
    return InputError(
        error.code,
        error.message,
        where=where,
        field=error.field or ("offset" if error.code == "tape_jump" else "value"),
        value=error.value,
        expected=error.expected or "a tape that is whole",
        fix=MEND,
    )


def decoded(placed: Placed) -> tape.TapeRecord:
    """A tape record, for what reads a tape without folding it.

    Raises
    ------
    EngineError : it is none; with its place on the tape
    """
    try:
        return tape.decode(placed.value)
    except EngineError as error:
        error.where = f"tape[{placed.partition}]@{placed.offset}"
        raise


def is_newer(theirs: str) -> bool:
    """Whether a version is above this program's; one that is no version is not.

    ``is_newer("999.0")`` is True.
    """
    try:
        return Version(theirs) > Version(version(PROGRAM))
    except InvalidVersion:
        return False


def refuse_newer(value: bytes, where: str) -> None:
    """Refuse a tape on which a newer version of this program begins to price.

    Raises
    ------
    InputError : the record says so
    """
    try:
        event = _decoder.decode(value).event
    except msgspec.MsgspecError:
        return  # the fold says what is wrong with it
    if event.type == "engine_changed" and is_newer(event.version):
        raise newer_engine(event.version, where)


def newer_engine(theirs: str, where: str) -> InputError:
    """The error for what a newer version wrote."""
    return InputError(
        "newer_engine",
        f"from here on it was written by {PROGRAM} {theirs}; this is {version(PROGRAM)}.",
        where=where,
        field="version",
        value=theirs,
        expected=f"at most {version(PROGRAM)}",
        fix=f"Upgrade {PROGRAM}, or stop before this record with --to-offset.",
    )
