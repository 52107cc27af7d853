"""Where the fold keeps families: who belongs together, and at which prices the members stood.

Products of a family see each other. A record on one waits behind an open decision on any other
(`models.fold.engine`), so what is read here is the state at that place of the tape. Each member
keeps a clock of its own price, an integral over event time; the difference of a partner's clock
between the ends of an epoch is its mean price in it, however often it moved.
"""

from models.demand import cross_effects, cross_prior, demand
from models.demand.epoch import Observation
from models.fold.partition import PartitionState
from schemas.events import DAY_MS, HOUR_MS
from schemas.learned import DemandPosterior, OpenEpoch, PriceClock, PriceSums
from schemas.state import CatalogueEntry, FamilyMember, SkuState

MEAN_MS_MIN = HOUR_MS  # over a shorter epoch sources' clocks, minutes apart, would spoil the mean


def begin(partition: PartitionState, state: SkuState, epoch: OpenEpoch) -> None:
    """Note the price that an epoch opens with, and where the partners' clocks stand."""
    entry = partition.catalogue[state.sku]
    relatives = partition.families[entry.family]
    if len(relatives) == 1:
        return
    now_ms = epoch.start_ms
    member = partition.members.get(state.sku)
    sums = PriceSums() if member is None else _sums(member.clock, now_ms)
    clock = PriceClock(epoch.ln_price, epoch.control, now_ms, sums)
    effects = cross_effects.choose_partners(
        None if member is None else member.effects, entry, _candidates(partition, entry)
    )
    partners = () if effects is None else effects.partners
    began = tuple(_sums(partition.members[sku].clock, now_ms) for sku in partners)
    partition.members[state.sku] = FamilyMember(
        sku=state.sku, clock=clock, effects=effects, began_ms=now_ms, began=began
    )
    partition.touch(f"member/{state.sku}")


def _candidates(partition: PartitionState, entry: CatalogueEntry) -> list[CatalogueEntry]:
    return [
        partition.catalogue[sku]
        for sku in partition.families[entry.family]
        if sku != entry.sku and sku in partition.members and not partition.catalogue[sku].retired
    ]


def _sums(clock: PriceClock, now_ms: int) -> PriceSums:
    days = max(now_ms - clock.since_ms, 0) / DAY_MS
    return PriceSums(
        clock.sums.ln_price_days + clock.ln_price * days,
        clock.sums.control_days + clock.control * days,
    )


def regressors(partition: PartitionState, member: FamilyMember, now_ms: int) -> list[float]:
    """Partners' mean ln(P_j / P_ref_j) since the epoch began, and their mean control.

    Over less than an hour the present prices stand for the mean.
    """
    if member.effects is None or not member.effects.partners:
        return []
    clocks = [partition.members[sku].clock for sku in member.effects.partners]
    if now_ms - member.began_ms < MEAN_MS_MIN:
        prices = [clock.ln_price for clock in clocks]
        controls = [clock.control for clock in clocks]
    else:
        days = (now_ms - member.began_ms) / DAY_MS
        pairs = [
            (_sums(clock, now_ms), before)
            for clock, before in zip(clocks, member.began, strict=True)
        ]
        prices = [(sums.ln_price_days - before.ln_price_days) / days for sums, before in pairs]
        controls = [(sums.control_days - before.control_days) / days for sums, before in pairs]
    return [*prices, sum(controls) / len(controls)]


def present(partition: PartitionState, state: SkuState) -> cross_effects.Term | None:
    """What the partners' present prices add to a product's ln demand; None without partners."""
    member, posterior = partition.members.get(state.sku), state.posterior
    if member is None or posterior is None or member.effects is None:
        return None
    clocks = [partition.members[sku].clock for sku in member.effects.partners]
    if not clocks:
        return None
    control = sum([clock.control for clock in clocks], 0.0) / len(clocks)
    prices = [clock.ln_price for clock in clocks]
    return cross_effects.term(posterior, member.effects, [*prices, control])


def expected(
    partition: PartitionState, state: SkuState, seen: Observation, now_ms: int
) -> Observation:
    """The observation with the partners' part in its offset, to compare it with a forecast."""
    member, posterior = partition.members.get(state.sku), state.posterior
    found = [] if member is None else regressors(partition, member, now_ms)
    if member is None or posterior is None or member.effects is None or not found:
        return seen
    return cross_effects.add(seen, cross_effects.term(posterior, member.effects, found))


def learn(
    partition: PartitionState,
    state: SkuState,
    posterior: DemandPosterior,
    seen: Observation,
    now_ms: int,
) -> DemandPosterior:
    """Learn from a closed epoch: the own demand, and the partners' effects where there are any."""
    settings = partition.demand_settings
    member = partition.members.get(state.sku)
    found = [] if member is None else regressors(partition, member, now_ms)
    if member is None or member.effects is None or not found:
        return demand.learn(posterior, seen, now_ms, settings)
    posterior, member.effects = cross_effects.learn(
        posterior, member.effects, seen, found, now_ms, settings
    )
    partition.touch(f"member/{state.sku}")
    return posterior


def used_effects(partition: PartitionState, family: str) -> dict[tuple[str, str], float]:
    """The family's cross elasticities that pricing uses, by (product, partner)."""
    places: list[tuple[str, str]] = []
    pairs: list[cross_prior.Pair] = []
    for sku in partition.families[family]:
        member = partition.members.get(sku)
        if member is None or member.effects is None:
            continue
        entry = partition.catalogue[sku]
        for index, partner in enumerate(member.effects.partners):
            prior = cross_prior.relation(entry, partition.catalogue[partner])
            mean, sd = cross_effects.effect(member.effects, index)
            places.append((sku, partner))
            pairs.append(cross_prior.Pair(prior, mean, sd))
    return dict(zip(places, cross_prior.used_effects(pairs), strict=True))
