"""What caused a decision: the fewest rules or events that do, and what they do."""

from typing import Literal

from msgspec import Struct


class Cause(Struct, frozen=True, kw_only=True):
    """A rule, an edit, a prior, or an event that the price needs.

    ``before`` and ``after`` are a rule's values. ``without_minor`` is the price that is wanted when
    all other causes hold and this one does not; null where nothing is decided then, or it was not
    tried.
    """

    kind: Literal["rule", "edit", "prior", "event"]
    name: str
    tape: str | None = None
    at: str | None = None
    before: str | None = None
    after: str | None = None
    without_minor: int | None = None


class Priced(Struct, frozen=True, kw_only=True):
    """A decision as it is compared; ``price_minor`` is what was wanted, held or not."""

    price_id: str
    at: str
    status: str
    price_minor: int | None
    reasons: tuple[str, ...]


class Bisection(Struct, frozen=True, kw_only=True):
    """Why a decision is as it is.

    ``question``: ``rules`` asks what of a candidate makes its decision differ from the baseline's
    (``before`` is the baseline's, ``after`` the candidate's), ``events`` which events since the
    product's last decision made this one (``before`` is the last one).
    ``causes`` together lead to ``after``; ``proved``: none of them can be left out. None: it comes
    out without any of them, and ``told`` says how. ``tried`` is how many could have been causes.
    """

    question: Literal["rules", "events"]
    sku: str
    currency: str
    tape: str
    before: Priced | None
    after: Priced
    causes: tuple[Cause, ...]
    proved: bool
    tried: int
    probes: int
    told: str
