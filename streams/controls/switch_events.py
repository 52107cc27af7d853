"""Commands for the kill switch, as they are read from ``controls`` before the tape has them."""

from schemas.codec import Headers, decode_event
from schemas.errors import EventError
from schemas.events import OperatorCommand
from schemas.topics import CONTROLS

ON = "kill_switch_on"
OFF = "kill_switch_off"
NAMED_AS = b"kill_switch"


def read_command(value: bytes | None, headers: Headers | None) -> OperatorCommand | None:
    """The command in a record of ``controls`` that throws or releases the switch, if it is one.

    Intake makes a dead letter of one that cannot be read, and the fold refuses a switch for a part
    of the catalogue: neither is one.
    """
    if value is None or NAMED_AS not in value:
        return None
    try:
        event = decode_event(CONTROLS.name, None, value, headers).event
    except EventError:
        return None
    if not isinstance(event, OperatorCommand) or event.scope.kind != "catalogue":
        return None
    return event if event.command in (ON, OFF) else None
