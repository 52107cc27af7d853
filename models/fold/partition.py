"""The state of one tape partition in memory, and its records on the ``state`` topic.

Records are written only where they changed. Iteration is always over insertion order or sorted
keys; insertion order never reaches an output.
"""

import hashlib
import heapq
from bisect import insort
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from models.breaker.moves import DayMoves, Stamps, day_of
from models.demand import day_effects
from models.demand.demand import DEFAULT_SETTINGS, DemandSettings
from models.demand.epoch import Observation
from models.fold.holds import PolicyInForce
from models.fold.taken import Actions
from models.fold.watch import Watch
from models.guards import prior_price
from models.guards.gate_rules import GateRules
from models.prior.prior import DEFAULT_PRIOR, prior_sha256
from models.returns.open_cohorts import OpenCohorts
from models.returns.returns import ReturnRateModel
from schemas.codec import canonical, packed, plan
from schemas.effects import CategoryEffects, ChannelEffects, DayEffects, SearchEffect, Today
from schemas.errors import EngineError
from schemas.learned import DELAY_DAYS, DemandPrior, OpenEpoch, ReturnCohort, ReturnPool
from schemas.policy import DEFAULT_POLICY_TEXT, Policy, ResaleTrial, policy_sha256
from schemas.scopes import PlacedGuards, PolicyDocument, parse_policy
from schemas.state import (
    STATE_VERSION,
    BreakerState,
    CatalogueEntry,
    Counts,
    FamilyMember,
    GateEntry,
    Manifest,
    Offers,
    PolicyRecord,
    PriceWindow,
    SkuState,
)

StateRecord = tuple[bytes, bytes | None]
EpochObserver = Callable[[CatalogueEntry, OpenEpoch, Observation, int], None]
"""Told of every epoch that taught: the product, the epoch, what it taught, event time of its end.
It only looks on: nothing it does may reach the state."""
AssessmentObserver = Callable[[CatalogueEntry, Any], None]
"""Told what the breaker looked at (`breaker.Evidence`) of each decision; only looks on."""

CLOSED_BREAKER = BreakerState()
MANIFEST_KEY = b"manifest"
PACKED = ("sku", "member", "window")  # the records with many numbers
SHARED_RECORDS = (
    "breaker/catalogue", "channels", "days", "policy", "prior", "returns", "searches",
    "segments", "today",
)  # fmt: skip


# Partitions are restored in several threads.
plan(
    BreakerState, CatalogueEntry, CategoryEffects, ChannelEffects, DayEffects, DemandPrior,
    FamilyMember, GateEntry, Manifest, Offers, PolicyRecord, PriceWindow, ReturnCohort, ReturnPool,
    SearchEffect, SkuState, Today,
)  # fmt: skip


class PartitionState:
    """Everything that the fold reads and writes. Mutable: one owner, one thread."""

    def __init__(self, partition: int, engine: str) -> None:
        self.engine = engine.partition(" ")[0]  # what every decision of this process names
        self.manifest = Manifest(partition=partition, engine=engine, counts=Counts())
        self.skus: dict[str, SkuState] = {}
        self.catalogue: dict[str, CatalogueEntry] = {}
        self.gates: dict[str, GateEntry] = {}
        self.families: dict[str, list[str]] = {}  # SKUs, sorted; from the catalogue
        self.members: dict[str, FamilyMember] = {}
        self.open_cohorts = OpenCohorts()
        self.cohorts = self.open_cohorts.by_product
        self.effects: dict[str, CategoryEffects] = {}
        self.offers: dict[str, Offers] = {}
        self.today = Today()
        self.days = DayEffects()
        self.day_factors = day_effects.in_use(self.days)
        self.channels = ChannelEffects()
        self.segments = ChannelEffects()
        self.searches = SearchEffect()
        self.windows: dict[str, PriceWindow] = {}
        self.family_breakers: dict[str, BreakerState] = {}  # those that are not closed
        self.catalogue_breaker = BreakerState()
        self.moves = DayMoves()
        self.stamps = Stamps()
        self.document: PolicyDocument = parse_policy(DEFAULT_POLICY_TEXT)
        self._in_force = PolicyInForce(self.document)
        self.gate_rules = GateRules(self.document)
        self.prior_rules = prior_price.rules_of(self.policy)
        self.policy_text = DEFAULT_POLICY_TEXT
        self.policy_sha256 = policy_sha256(DEFAULT_POLICY_TEXT)
        self.prior: DemandPrior = DEFAULT_PRIOR
        self.prior_sha256 = prior_sha256(DEFAULT_PRIOR)
        self.demand_settings: DemandSettings = DEFAULT_SETTINGS
        self.returns = ReturnRateModel()
        self.return_snapshot = self.returns.snapshot()
        self.due: list[tuple[int, str]] = []
        self.observer: EpochObserver | None = None
        self.on_assessed: AssessmentObserver | None = None
        self.watch: Watch | None = None
        # Prices that buyers saw in history, by SKU, where another policy's fold is told of them.
        self.shown: dict[str, int] = {}
        self.is_told = False
        self.actions: Actions | None = None  # what another engine decided, to be followed
        # The first batch writes down what was in force from the start, defaults included.
        self.dirty: dict[str, None] = dict.fromkeys(SHARED_RECORDS)
        self.aged: dict[int, None] = {}  # event days all of whose cohorts changed

    @property
    def policy(self) -> Policy:
        """What holds for the whole partition: the document's own tables, without its scopes."""
        return self.document.base

    def policy_of(self, entry: CatalogueEntry) -> Policy:
        """What holds for one product in every market and channel."""
        return self._in_force.of(entry).policy

    def guards_of(self, entry: CatalogueEntry) -> tuple[PlacedGuards, ...]:
        """The guards of each market and channel that a product is sold in."""
        return self._in_force.of(entry).guards

    def trial_of(self, entry: CatalogueEntry) -> ResaleTrial | None:
        """The resale price trial that a product is allowed, if any."""
        return self._in_force.of(entry).trial

    def family_breaker(self, family: str) -> BreakerState:
        """The breaker of a family: closed, unless it is known otherwise."""
        return self.family_breakers.get(family, CLOSED_BREAKER)

    # -- writes that must reach the state topic ------------------------------------------------

    def touch(self, key: str) -> None:
        """Mark one record as changed since the last batch."""
        self.dirty[key] = None

    def put_cohort(self, name: str, cohort: ReturnCohort) -> None:
        """Store an open return cohort, or what changed of it; ``<event day>/<segment>``."""
        self.open_cohorts.put(name, cohort)
        self.touch(f"cohort/{cohort.sku}/{name}")

    def pass_age(self, day: int, ages: int, exposed: float) -> None:
        """Note the ages that the cohorts of an event day have passed; after the last they leave.

        The records of those become tombstones.
        """
        if ages < len(DELAY_DAYS):
            self.aged[day] = None
            self.open_cohorts.pass_age(day, ages, exposed)
            return
        for cohort in self.open_cohorts.records_of_day(day):
            self.touch(f"cohort/{cohort.sku}/{day}/{cohort.segment}")
            self.open_cohorts.drop(f"{day}/{cohort.segment}", cohort)

    def join_family(self, entry: CatalogueEntry) -> None:
        """Put a product that is listed for the first time among its family's."""
        insort(self.families.setdefault(entry.family, []), entry.sku)

    def schedule(self, state: SkuState, due_ms: int | None) -> None:
        """Set when a product is next looked at; a later entry makes an earlier one void."""
        if due_ms != state.due_ms:
            state.due_ms = due_ms
            if due_ms is not None:
                heapq.heappush(self.due, (due_ms, state.sku))

    def take_due(self, now_ms: int) -> list[SkuState]:
        """Products due at or before ``now_ms``, by due time and SKU."""
        found: list[SkuState] = []
        while self.due and self.due[0][0] <= now_ms:
            due_ms, sku = heapq.heappop(self.due)
            state = self.skus[sku]
            if state.due_ms == due_ms:
                state.due_ms = None
                found.append(state)
        return found

    def set_policy(self, text: str) -> None:
        """Put a policy in force. Raises FieldError where the text is no policy."""
        self.document = parse_policy(text)
        self._in_force = PolicyInForce(self.document)
        self.gate_rules = GateRules(self.document)
        self.prior_rules = prior_price.rules_of(self.policy)
        self.policy_text = text
        self.policy_sha256 = policy_sha256(text)
        self.touch("policy")
        self.index_moves()

    def index_moves(self) -> None:
        """Find the day's moves again, from the products' states."""
        ratio = self.policy.breaker.catalogue_move_ratio
        for sku, state in self.skus.items():
            self.moves.note(state, self.catalogue[sku], ratio)

    def set_prior(self, prior: DemandPrior) -> None:
        """Put a demand prior in force, for products listed from now on."""
        self.prior = prior
        self.prior_sha256 = prior_sha256(prior)
        self.demand_settings = DEFAULT_SETTINGS._replace(dispersion=prior.dispersion)
        self.touch("prior")

    def chain(self, decision: bytes) -> None:
        """Add a decision's bytes to the chain that names the whole history; in tape order."""
        before = self.manifest.decisions_sha256.encode()
        self.manifest.decisions_sha256 = hashlib.sha256(before + decision).hexdigest()

    # -- records -------------------------------------------------------------------------------

    def take_changed(self) -> list[StateRecord]:
        """The changed records, sorted by key, the manifest last; nothing is dirty after."""
        for day in self.aged:
            for cohort in self.open_cohorts.records_of_day(day):
                self.touch(f"cohort/{cohort.sku}/{day}/{cohort.segment}")
        records = [(key.encode(), self._encode(key)) for key in sorted(self.dirty)]
        self.forget_changed()
        records.append((MANIFEST_KEY, canonical(self.manifest)))
        return records

    def forget_changed(self) -> None:
        """Let nothing be dirty, where nobody asks what has changed."""
        self.dirty.clear()
        self.aged.clear()

    def all_records(self) -> list[tuple[bytes, bytes]]:
        """Every live record, sorted by key, the manifest last."""
        keys = list(SHARED_RECORDS)
        keys += [f"sku/{sku}" for sku in self.skus]
        keys += [f"catalogue/{sku}" for sku in self.catalogue]
        keys += [f"gate/{sku}" for sku in self.gates]
        keys += [f"member/{sku}" for sku in self.members]
        keys += [f"window/{sku}" for sku in self.windows]
        keys += [f"cohort/{sku}/{name}" for sku, named in self.cohorts.items() for name in named]
        keys += [f"effects/{category}" for category in self.effects]
        keys += [f"offers/{sku}" for sku in self.offers]
        keys += [f"breaker/family/{family}" for family in self.family_breakers]
        records = []
        for key in sorted(keys):
            value = self._encode(key)
            if value is not None:
                records.append((key.encode(), value))
        return [*records, (MANIFEST_KEY, canonical(self.manifest))]

    def sha256(self) -> str:
        """Hash of all records: equal for live, replayed and recovered state."""
        digest = hashlib.sha256()
        for key, value in self.all_records():
            digest.update(b"%d:%b%d:%b" % (len(key), key, len(value), value))
        return digest.hexdigest()

    def _encode(self, key: str) -> bytes | None:
        kind, _, rest = key.partition("/")
        found: Any
        if kind == "sku":
            found = self.skus[rest]
        elif kind == "catalogue":
            found = self.catalogue[rest]
        elif kind == "gate":
            found = self.gates[rest]
        elif kind == "member":
            found = self.members[rest]
        elif kind == "window":
            found = self.windows[rest]
        elif kind == "cohort":
            sku, name = _cohort_name(rest)
            found = self.cohorts.get(sku, {}).get(name)
        elif kind == "effects":
            found = self.effects[rest]
        elif kind == "offers":
            found = self.offers.get(rest)
        elif kind in ("channels", "days", "searches", "segments", "today"):
            found = getattr(self, kind)
        elif kind == "breaker":
            found = self.catalogue_breaker
            if rest != "catalogue":
                found = self.family_breakers.get(rest.removeprefix("family/"))
        elif kind == "policy":
            found = PolicyRecord(self.policy_text)
        elif kind == "prior":
            found = self.prior
        else:
            found = self.returns.state()
        if found is None:
            return None
        return packed(found) if kind in PACKED else canonical(found)

    @classmethod
    def restore(
        cls, partition: int, records: Iterable[tuple[bytes, bytes]], engine: str
    ) -> "PartitionState":
        """Rebuild the state from its live records.

        Raises
        ------
        EngineError : no manifest, another partition's, or of a newer version
        """
        state = cls(partition, engine)
        by_key = {key.decode(): value for key, value in records}
        if not by_key:
            return state
        if "manifest" not in by_key:
            raise EngineError("no_manifest", f"state partition {partition} has no manifest.")
        state.manifest = msgspec.json.decode(by_key.pop("manifest"), type=Manifest)
        if state.manifest.partition != partition or state.manifest.state_version != STATE_VERSION:
            raise EngineError(
                "wrong_manifest",
                f"the manifest is of partition {state.manifest.partition}, version "
                f"{state.manifest.state_version}; expected partition {partition}, version "
                f"{STATE_VERSION}.",
                fix="State of another version is made anew from the tape: clear the state topic.",
            )
        for key in sorted(by_key):
            state.take_record(key, by_key[key])
        state.due = [
            (found.due_ms, sku) for sku, found in state.skus.items() if found.due_ms is not None
        ]
        heapq.heapify(state.due)
        state.index_moves()
        day = day_of(state.manifest.clock_ms)
        if day is not None:
            for entry in state.catalogue.values():
                state.stamps.note(day, None, entry)
        state.forget_changed()
        return state

    def take_record(self, key: str, value: bytes) -> None:
        """Put a record that is not known yet in its place."""
        kind, _, rest = key.partition("/")
        if kind == "sku":
            self.skus[rest] = msgspec.msgpack.decode(value, type=SkuState)
        elif kind == "catalogue":
            self.catalogue[rest] = msgspec.json.decode(value, type=CatalogueEntry)
            self.join_family(self.catalogue[rest])
        elif kind == "gate":
            self.gates[rest] = msgspec.json.decode(value, type=GateEntry)
        elif kind == "member":
            self.members[rest] = msgspec.msgpack.decode(value, type=FamilyMember)
        elif kind == "window":
            self.windows[rest] = msgspec.msgpack.decode(value, type=PriceWindow)
        elif kind == "cohort":
            _, name = _cohort_name(rest)
            cohort = msgspec.json.decode(value, type=ReturnCohort)
            self.put_cohort(name, cohort)
        elif kind == "days":
            self.days = msgspec.json.decode(value, type=DayEffects)
            self.day_factors = day_effects.in_use(self.days)
        elif kind == "channels":
            self.channels = msgspec.json.decode(value, type=ChannelEffects)
        elif kind == "segments":
            self.segments = msgspec.json.decode(value, type=ChannelEffects)
        elif kind == "offers":
            self.offers[rest] = msgspec.json.decode(value, type=Offers)
        elif kind == "searches":
            self.searches = msgspec.json.decode(value, type=SearchEffect)
        elif kind == "today":
            self.today = msgspec.json.decode(value, type=Today)
        elif kind == "effects":
            self.effects[rest] = msgspec.json.decode(value, type=CategoryEffects)
        elif kind == "breaker":
            found = msgspec.json.decode(value, type=BreakerState)
            if rest == "catalogue":
                self.catalogue_breaker = found
            else:
                self.family_breakers[rest.removeprefix("family/")] = found
        elif kind == "policy":
            self.set_policy(msgspec.json.decode(value, type=PolicyRecord).policy)
        elif kind == "prior":
            self.set_prior(msgspec.json.decode(value, type=DemandPrior))
        elif kind == "returns":
            pool = msgspec.json.decode(value, type=ReturnPool)
            self.returns = ReturnRateModel.restore(pool)
            self.return_snapshot = self.returns.snapshot()
        else:
            raise EngineError("unknown_record", f"state record {key!r} is unknown.", value=key)


def _cohort_name(rest: str) -> tuple[str, str]:
    """Split ``<SKU>/<day>/<segment>``: a SKU may hold slashes, day and segment may not."""
    sku, day, segment = rest.rsplit("/", 2)
    return sku, f"{day}/{segment}"
