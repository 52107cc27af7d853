"""The constraint ledger and the exceptions, in tables."""

from rich.console import Group, RenderableType
from rich.table import Table

from models.pricing.ledger import By, Case, LedgerRow
from schemas.money import minor_digits
from streams.explain.amounts import money, signed

CHARGES_SHOWN = 3
CASE_WORDS = {
    "blocked": "can't be priced",
    "kill switch": "held: kill switch",
    "breaker": "breaker tripped",
    "gate": "held: publisher gate",
    "guard": "held: guard broken",
    "approval": "waits for approval",
    "rejected": "held: rejected before",
    "other": "held",
    "drift": "demand drifted",
    "gave way": "a rule gave way",
    "limited": "limits cost money",
}


def ledger_text(rows: tuple[LedgerRow, ...], by: By, products: int) -> RenderableType:
    """The ledger for people: one table per currency, the dearest first."""
    if not rows:
        return "no rule stands between the best prices and those in the shop"
    parts: list[RenderableType] = []
    for currency in sorted({row.currency for row in rows}):
        of_currency = [row for row in rows if row.currency == currency]
        total = sum(row.cost_per_day_minor for row in of_currency)
        parts += [
            f"{money(total, currency)} a day lie between the best prices and those in the shop, "
            f"over {products:,} products (expected, after risk)",
            _table(of_currency, by, currency),
            "",
        ]
    return Group(*parts[:-1])


def _table(rows: list[LedgerRow], by: By, currency: str) -> Table:
    unit = 10 ** minor_digits(currency)
    table = Table(box=None, pad_edge=False)
    table.add_column(f"  {by}")
    for name in ("costs a day", "products", "gave way"):
        table.add_column(name, justify="right")
    if by == "rule":
        table.add_column(f"1 {currency} of room on each", justify="right")
    else:
        table.add_column("dearest")
    for row in rows:
        last = (
            ""
            if row.room_per_day_minor is None
            else f"{money(row.room_per_day_minor * unit, currency)} a day"
        )
        if by != "rule":
            dearest = [
                f"{rule} {signed(cost, currency)}"
                for rule, cost in list(row.rules.items())[:CHARGES_SHOWN]
            ]
            last = ", ".join(dearest)
        table.add_row(
            f"  {row.name}",
            money(row.cost_per_day_minor, currency),
            f"{row.products:,}",
            f"{row.gave_way:,}" if row.gave_way else "",
            last,
        )
    return table


def exceptions_text(cases: tuple[Case, ...], shown: int) -> RenderableType:
    """The exceptions for people, the first ``shown`` of them."""
    if not cases:
        return "nothing needs a person"
    table = Table("at stake a day", "product", "what", "why", box=None, pad_edge=False)
    table.columns[0].justify = "right"
    for case in cases[:shown]:
        stake = case.at_stake_per_day_minor
        amount = (
            "unknown" if stake is None or case.currency is None else money(stake, case.currency)
        )
        table.add_row(amount, case.sku, CASE_WORDS[case.kind], "; ".join(case.reasons))
    parts: list[RenderableType] = [table]
    more = len(cases) - shown
    if more > 0:
        parts.append(f"and {more:,} more; see them with --limit {len(cases)}")
    waiting = [case.sku for case in cases if case.kind == "approval"]
    if waiting:
        parts.append(
            f"{len(waiting):,} wait for an answer: pricemaker approve|reject {waiting[0]} "
            "--reason ..."
        )
    return Group(*parts)
