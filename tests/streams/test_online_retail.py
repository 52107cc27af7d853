"""Online Retail: every row accounted for, no look into the future, one answer for every form."""

import csv
import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from openpyxl import Workbook

from schemas.errors import InputError
from streams.adapters.categories import category_of
from streams.adapters.online_retail import Assumptions, Converter, Report, modal_prices
from streams.adapters.open_rows import open_rows
from streams.adapters.price_history import DAY_MS, PriceHistory, PriceLevels
from streams.adapters.rows import NO_MATCH, Row
from streams.adapters.workbook import Matcher, classify
from streams.cli import cli
from streams.config import load_settings
from streams.tape.event_files import read_events
from streams.tape.tape_builder import TapeBuilder
from streams.tape.tape_selection import SourceSpec
from streams.tape.tape_sources import open_source
from tests.conftest import IN_CI

DATA_VARIABLE = "PRICEMAKER_TEST_ONLINE_RETAIL"
BESIDE_CHECKOUT = Path(__file__).parents[3] / "shared/data/online_retail/events.csv.gz"

LINE = ("order_id", "line_id", "quantity")
HEADER = "seq,ts,invoice,kind,sku,qty,price,customer,country,service,dup,ref_seq,ref_how"
ROWS = [
    # an account order, a guest's at a dearer price, one at a bulk price
    "2010-12-01T08:26,536365,order,85123A,6,2.55,17850,United Kingdom,0,0,,",
    "2010-12-01T14:32,536544,order,85123A,1,5.1,,United Kingdom,0,0,,",
    "2010-12-02T09:00,536600,order,85123A,32,2.1,13047,France,0,0,,",
    # cancelled within a day; returned after it; returned without an order
    "2010-12-02T09:10,C536601,return,85123A,-32,2.1,13047,France,0,0,2,exact",
    "2010-12-05T10:00,C536700,return,85123A,-2,2.55,17850,United Kingdom,0,0,0,price",
    "2010-12-05T10:01,C536701,return,22423,-1,12.75,17850,United Kingdom,0,0,,none",
    # what is no event
    "2010-12-06T11:00,536800,adjust,22423,-10,0.0,,United Kingdom,0,0,,",
    "2010-12-06T11:01,536801,free,22423,3,0.0,12647,Germany,0,0,,",
    "2010-12-06T11:02,A536802,baddebt,B,1,11062.06,,United Kingdom,1,0,,",
    "2010-12-06T11:03,536803,order,POST,1,18.0,12583,France,1,0,,",
    "2010-12-06T11:04,C536804,credit,BANK CHARGES,-1,95.38,,United Kingdom,1,0,,",
    "2010-12-06T11:05,536805,order,21773,1,0.001,14527,Japan,0,0,,",
    "2010-12-06T11:06,536806,order,21773,4,1.25,14527,Japan,0,0,,",
]
PRODUCTS = "sku,description,n_descriptions,ordered_units,returned_units\n" + (
    "85123A,WHITE HANGING HEART T-LIGHT HOLDER,1,1,1\n22423,REGENCY CAKESTAND 3 TIER,1,1,1\n"
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv.gz"
    lines = [HEADER, *(f"{number},{row}" for number, row in enumerate(ROWS))]
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    (tmp_path / "products.csv.gz").write_bytes(gzip.compress(PRODUCTS.encode()))
    return path


@pytest.fixture(scope="session")
def whole_file() -> Path:
    path = Path(os.environ.get(DATA_VARIABLE, BESIDE_CHECKOUT))
    if path.exists():
        return path
    reason = f"the prepared data set is not at {path}; name it in {DATA_VARIABLE}"
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def nobody(_: float) -> None:
    """Listen to no progress."""


def convert(path: Path, **assumed: Any) -> tuple[list[tuple[str, dict[str, Any]]], Report]:
    assumptions = Assumptions(**assumed)
    year = modal_prices(open_rows(path, nobody)) if assumptions.cost_from == "year" else None
    converter = Converter(assumptions, year)
    made = [
        (topic.decode(), json.loads(value))
        for row in open_rows(path, nobody)
        for topic, value in converter.convert(row)
    ]
    return made, converter.finish()


def short(made: list[tuple[str, dict[str, Any]]]) -> list[tuple[Any, ...]]:
    """Type, SKU and what matters most of each event."""
    fields = {
        "product_listed": ("category", "list_price_minor", "unit_cost_minor"),
        "price_applied": ("price_minor",),
        "cost_changed": ("unit_cost_minor",),
        "order_placed": (*LINE, "unit_price_minor", "segment", "channel"),
        "order_cancelled": (*LINE, "segment", "channel"),
        "order_returned": (*LINE, "refund_minor", "return_cost_minor"),
    }  # fmt: skip
    return [
        (event["type"], event["sku"], *(event[name] for name in fields[event["type"]]))
        for _, event in made
    ]


def test_the_events_of_each_kind_of_row(prepared: Path) -> None:
    made, _ = convert(prepared)
    assert short(made) == [
        ("product_listed", "85123A", "candles", 255, 128),
        ("price_applied", "85123A", 255),
        ("order_placed", "85123A", "536365", "0", 6, 255, "account", "uk"),
        ("order_placed", "85123A", "536544", "1", 1, 255, "guest", "uk"),
        ("order_placed", "85123A", "536600", "2", 32, 210, "account", "europe"),
        ("order_cancelled", "85123A", "536600", "2", 32, "account", "europe"),
        ("order_returned", "85123A", "536365", "0", 2, 510, 50),
        ("product_listed", "22423", "kitchen", 1275, 638),
        ("price_applied", "22423", 1275),
        ("order_returned", "22423", "C536701", "5", 1, 1275, 50),
        ("product_listed", "21773", "online-retail", 125, 62),
        ("price_applied", "21773", 125),
        ("order_placed", "21773", "536806", "12", 4, 125, "account", "overseas"),
    ]
    topics = {event["type"]: topic for topic, event in made}
    assert topics == {
        "product_listed": "products", "price_applied": "products", "order_placed": "orders",
        "order_cancelled": "orders", "order_returned": "returns",
    }  # fmt: skip
    listing = made[0][1]
    assert listing["event_time"] == "2010-12-01T08:26:00.000Z"
    assert listing["assumptions"]["cost"] == "0.5 of the first price"
    assert listing["attributes"] == {"description": "WHITE HANGING HEART T-LIGHT HOLDER"}


def test_every_row_is_accounted_for(prepared: Path) -> None:
    made, report = convert(prepared)
    assert report.as_dict() == {
        "rows": 13,
        "row_events": {"order_cancelled": 1, "order_placed": 4, "order_returned": 2},
        "skipped": {
            "adjustment": 1, "bad_debt": 1, "free": 1, "price_rounds_to_zero": 1, "service": 2,
        },
        "derived_events": {"price_applied": 3, "product_listed": 3},
        "returns_matched": 2,
        "returns_unmatched": 1,
        "rows_out_of_time_order": 0,
        "guest_prices_mapped": 1,
        "guest_price_ratio": 2.0,
        "bulk_lines": 1,
        "bulk_products": 1,
        "products": 3,
        "events": len(made),
        "attribution": "Online Retail, Daqing Chen, UCI Machine Learning Repository, CC BY 4.0, "
        "https://doi.org/10.24432/C5BW33",
    }  # fmt: skip
    assert report.rows == report.row_events.total() + report.skipped.total()


def test_assumptions_are_options(prepared: Path) -> None:
    made, _ = convert(
        prepared, guest_price="paid", cancel_hours=0, return_cost_minor=80, cost_share=0.4
    )
    found = short(made)
    assert ("order_placed", "85123A", "536544", "1", 1, 510, "guest", "uk") in found
    assert ("order_returned", "85123A", "536600", "2", 32, 6720, 80) in found
    assert ("product_listed", "85123A", "candles", 255, 102) in found


def row(
    number: int, day: float, price_minor: int, *, customer: str | None = None, quantity: int = 1
) -> Row:
    who = f"c{number}" if customer is None else customer
    return Row(
        number, round(day * DAY_MS), f"I{number}", "order", "A", quantity, price_minor, who,
        "United Kingdom", None, NO_MATCH,
    )  # fmt: skip


def applied(converter: Converter, rows: list[Row]) -> list[tuple[int, int]]:
    """(row number, price) of each price_applied."""
    return [
        (one.number, json.loads(value)["price_minor"])
        for one in rows
        for _, value in converter.convert(one)
        if b'"price_applied"' in value
    ]


def test_the_price_moves_when_another_leads_by_two_customers() -> None:
    rows = [row(i, i, price) for i, price in enumerate([100, 100, 90, 90, 90, 90, 100])]
    assert applied(Converter(Assumptions()), rows) == [(0, 100), (5, 90)]


def test_one_customer_s_own_price_moves_nothing() -> None:
    rows = [row(i, i / 10, 90, customer="reseller") for i in range(1, 9)]
    assert applied(Converter(Assumptions()), [row(0, 0, 100), *rows]) == [(0, 100)]
    others = [row(i, i / 10, 90) for i in range(9, 11)]
    assert applied(Converter(Assumptions()), [row(0, 0, 100), *rows, *others]) == [
        (0, 100), (10, 90),
    ]  # fmt: skip


def test_bulk_lines_move_nothing_and_a_cut_for_all_does() -> None:
    usual = [row(i, i / 10, 100, quantity=4) for i in range(3)]
    bulk = [row(i, i / 10, 85, quantity=12) for i in range(3, 13)]
    converter = Converter(Assumptions())
    assert applied(converter, [*usual, *bulk]) == [(0, 100)]
    assert converter.price_levels() == {"A": PriceLevels(100, 85, 12, None)}
    assert converter.finish().bulk_lines == 10
    large = [row(i, i / 10, 85, quantity=11) for i in range(3, 13)]  # not large enough for bulk
    assert applied(Converter(Assumptions()), [*usual, *large]) == [(0, 100), (7, 85)]
    dearer = [row(i, i / 10, 115, quantity=40) for i in range(3, 13)]
    assert applied(Converter(Assumptions()), [*usual, *dearer]) == [(0, 100), (7, 115)]


def test_a_bulk_price_ends_where_the_account_price_reaches_it() -> None:
    lines = [row(0, 0, 100), row(1, 0, 80, quantity=9), row(2, 1, 80), row(3, 2, 80), row(4, 3, 80)]
    converter = Converter(Assumptions())
    assert applied(converter, lines) == [(0, 100), (4, 80)]
    assert converter.price_levels() == {"A": PriceLevels(80, None, None, None)}


def test_the_first_account_line_puts_a_guest_s_guess_right() -> None:
    lines = [row(0, 0, 210, customer=""), row(1, 1, 100), row(2, 2, 220, customer="")]
    converter = Converter(Assumptions())
    assert applied(converter, lines) == [(0, 210), (1, 100)]
    assert converter.price_levels() == {"A": PriceLevels(100, None, None, 220)}


def test_old_lines_leave_the_window() -> None:
    days_and_prices = [(0, 100), (1, 100), (2, 100), (20, 90), (21, 90)]
    rows = [row(i, day, price) for i, (day, price) in enumerate(days_and_prices)]
    assert applied(Converter(Assumptions()), rows) == [(0, 100), (4, 90)]
    assert applied(Converter(Assumptions(window_days=30)), rows) == [(0, 100)]


def test_a_line_exactly_as_old_as_the_window_still_counts() -> None:
    rows = [row(i, day, price) for i, (day, price) in enumerate([(0, 100), (13, 90), (14, 90)])]
    assert applied(Converter(Assumptions()), rows) == [(0, 100)]


def test_a_tie_goes_to_the_lower_price() -> None:
    days_and_prices = [(0, 100), (1, 100), (5, 90), (6, 90), (7, 95), (16, 95)]
    rows = [row(i, day, price) for i, (day, price) in enumerate(days_and_prices)]
    assert applied(Converter(Assumptions()), rows) == [(0, 100), (5, 90)]


def test_the_cost_follows_the_modal_price_only_where_that_is_asked_for() -> None:
    rows = [row(i, i, price) for i, price in enumerate([100, 90, 90, 90])]
    for cost_from, costs in (("first", [50]), ("modal", [50, 45]), ("year", [45])):
        year = modal_prices(iter(rows))
        converter = Converter(Assumptions(cost_from=cost_from), year)  # type: ignore[arg-type]
        events = [json.loads(value) for one in rows for _, value in converter.convert(one)]
        found = [event["unit_cost_minor"] for event in events if "unit_cost_minor" in event]
        assert found == costs, cost_from


def test_a_guest_s_first_price_is_brought_to_the_account_level_known_so_far() -> None:
    history = PriceHistory()
    history.start("A", 100, is_account=True)
    history.learn_account("A", 0, "c1", 1, 100)
    for paid in (200, 180, 220):
        history.learn_guest("A", paid)
    assert history.guest_ratio == pytest.approx((2.0 * 1.8 * 2.2) ** (1 / 3))
    assert history.start("B", 500, is_account=False) == 251
    history.learn_guest("B", 500)  # no account line to compare with: teaches nothing
    assert history.guest_ratio == pytest.approx((2.0 * 1.8 * 2.2) ** (1 / 3))


# -- the publisher's own form

RAW_HEADER = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice",
              "CustomerID", "Country"]  # fmt: skip


def raw_rows() -> Iterator[list[Any]]:
    """The same rows as the publisher gives them."""
    descriptions = {line[0]: line[1] for line in csv.reader(io.StringIO(PRODUCTS))}
    for text in ROWS:
        ts, invoice, _, sku, qty, price, customer, country, *_ = text.split(",")
        number = int(invoice) if invoice.isdigit() else invoice
        who = float(customer) if customer else None
        at = datetime.fromisoformat(ts)
        yield [number, sku, descriptions.get(sku), int(qty), at, float(price), who, country]


def write_workbook(path: Path) -> Path:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for cells in [RAW_HEADER, *raw_rows(), [None] * 8]:
        sheet.append(cells)
    book.save(path)
    return path


def write_csv(path: Path, time_format: str) -> Path:
    with path.open("w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file)
        writer.writerow(RAW_HEADER)
        for cells in raw_rows():
            writer.writerow([*cells[:4], cells[4].strftime(time_format), *cells[5:]])
    return path


def test_the_workbook_gives_the_same_events_as_the_prepared_form(
    prepared: Path, tmp_path: Path
) -> None:
    book = write_workbook(tmp_path / "Online Retail.xlsx")
    assert convert(book) == convert(prepared)


@pytest.mark.parametrize(
    ("time_format", "day_first"),
    [("%m/%d/%Y %H:%M", False), ("%d/%m/%Y %H:%M", True), ("%Y-%m-%d %H:%M:%S", False)],
)
def test_a_csv_export_gives_the_same_events(
    prepared: Path, tmp_path: Path, time_format: str, day_first: bool
) -> None:
    path = write_csv(tmp_path / "export.csv", time_format)
    raw = list(open_rows(path, nobody, day_first=day_first))
    assert raw == list(open_rows(prepared, nobody))


@pytest.mark.parametrize("form", ["prepared", "workbook", "csv"])
def test_a_form_read_as_a_tape_is_the_tape_of_its_events(
    prepared: Path, tmp_path: Path, form: str
) -> None:
    events, folder = tmp_path / "events.jsonl", tmp_path / "tape"
    source = {
        "prepared": lambda: prepared,
        "workbook": lambda: write_workbook(tmp_path / "Online Retail.xlsx"),
        "csv": lambda: write_csv(tmp_path / "export.csv", "%m/%d/%Y %H:%M"),
    }[form]()

    def run(*arguments: str | Path) -> dict[str, Any]:
        result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    run("ingest", "online-retail", prepared, "--out", events)
    ingested = run("export", events, tmp_path / "ingested")
    found = run("export", source, folder)
    assert found["tape_sha256"] == ingested["tape_sha256"]
    spec = SourceSpec(source=str(source))
    facts = open_source(spec, load_settings(None, {})).facts
    assert (facts.kind, facts.assumptions["rivals"]) == ("online retail", "none observed")
    assert "CC BY 4.0" in facts.assumptions["data"]


@pytest.mark.parametrize(
    ("invoice", "sku", "quantity", "price_is_zero", "kind"),
    [
        ("536365", "85123A", 6, False, "order"),
        ("C536379", "85123A", -1, False, "return"),
        ("536379", "85123A", -1, False, "return"),
        ("C536379", "D", -1, False, "service"),
        ("536370", "POST", 3, False, "service"),
        ("536370", "GIFT_0001_20", 1, False, "service"),
        ("536370", "POST", 1, True, "service"),
        ("A563185", "B", 1, False, "bad_debt"),
        ("536414", "22139", 56, True, "free"),
        ("536589", "21777", -10, True, "adjustment"),
    ],
)
def test_rows_are_classed_by_the_documented_rules(
    invoice: str, sku: str, quantity: int, price_is_zero: bool, kind: str
) -> None:
    assert classify(invoice, sku, quantity, price_is_zero) == kind


def test_a_return_finds_its_order() -> None:
    matcher = Matcher()
    history = [
        ("order", "c1", 6, 255), ("order", "c1", 4, 240), ("order", "c2", 6, 255),
        ("return", "c1", 6, 255),  # same price and quantity, though an order lies between
        ("return", "c1", 1, 255),  # that price is used up: the other one
        ("return", "c1", 9, 240),  # more than is left: what is left
        ("return", "c1", 1, 240),  # all is back
        ("return", "", 6, 255), ("return", "c2", 6, 255),
    ]  # fmt: skip
    found = [
        matcher.match(kind, customer, "A", quantity, price)
        for kind, customer, quantity, price in history
    ]
    assert found == [-1, -1, -1, 0, 1, 1, -1, -1, 2]


def test_a_category_is_the_first_of_the_table_that_a_word_names() -> None:
    assert [
        category_of(text)
        for text in ("JUMBO BAG RED RETROSPOT", "christmas gift bag", "REGENCY TEACUP", "?", None)
    ] == ["bags", "christmas", "tableware", "online-retail", "online-retail"]


# -- what is wrong with a file

BAD_FILES = [  # why, name, text, field, line
    ("empty", "x.csv", "", None, 1),
    ("no such column", "x.csv", "InvoiceNo,StockCode\n1,2\n", None, 1),
    ("a gap", "x.csv", f"{HEADER}\n1,{ROWS[0]}\n", "seq", 2),
    ("a cell too few", "x.csv", f"{HEADER}\n0,{ROWS[0]}\n1,2010\n", "row", 3),
    ("a price in words", "x.csv", f"{HEADER}\n0,{ROWS[0].replace('2.55', 'two')}\n", "price", 2),
    ("a price of NaN", "x.csv", f"{HEADER}\n0,{ROWS[0].replace('2.55', 'nan')}\n", "price", 2),
    ("no time", "x.csv", f"{HEADER}\n0,{ROWS[0].replace('2010-12-01T08', 'x')}\n", "ts", 2),
    ("an unknown kind", "x.csv", f"{HEADER}\n0,{ROWS[0].replace('order', 'gift')}\n", "row", 2),
    ("a match in the future", "x.csv", f"{HEADER}\n0,{ROWS[3]}\n", "ref_seq", 2),
    (
        "a month of 28",
        "x.csv",
        ",".join(RAW_HEADER) + "\n1,A,,1,28/12/2010 8:26,2,,UK\n",
        "InvoiceDate",
        2,
    ),
    (
        "half a unit",
        "x.csv",
        ",".join(RAW_HEADER) + "\n1,A,,x,12/1/2010 8:26,2,,UK\n",
        "Quantity",
        2,
    ),
]


@pytest.mark.parametrize(
    ("name", "text", "field", "line"),
    [case[1:] for case in BAD_FILES],
    ids=[case[0] for case in BAD_FILES],
)
def test_a_bad_cell_is_named_by_its_line_and_column(
    tmp_path: Path, name: str, text: str, field: str | None, line: int
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        list(open_rows(path, nobody))
    assert (caught.value.field, caught.value.where) == (field, f"{path}:{line}")
    assert caught.value.fix


@pytest.mark.parametrize("name", ["x.csv.gz", "x.xlsx"])
def test_a_damaged_file_is_an_input_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lines = "".join(f"{number},{ROWS[0]}\n" for number in range(2000))
    path.write_bytes(gzip.compress(f"{HEADER}\n{lines}".encode())[:-2000])
    with pytest.raises(InputError) as caught:
        list(open_rows(path, nobody))
    assert caught.value.code == "damaged_file"


# -- the command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["ingest", "online-retail", *map(str, arguments)])


def test_the_command_writes_an_event_file_and_a_report(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    result = run(prepared, "--out", out, "--json")
    assert result.exit_code == 0
    made, report = convert(prepared)
    document = json.loads(result.stdout)
    assert document == report.as_dict() | {"assumptions": Assumptions().stamps()}
    assert [(topic, json.loads(value or b"")) for topic, value in read_events(out)] == made
    assert "Daqing Chen" in result.stderr


def test_the_command_says_what_it_assumed_and_skipped(prepared: Path) -> None:
    result = run(prepared, "--dry-run", "--cost-share", "0.4")
    assert result.exit_code == 0
    assert "assumed cost: 0.4 of the first price" in result.stderr
    assert "13 rows: 7 events, 6 skipped, 0 unaccounted" in result.stdout
    assert "skipped service: 2" in result.stdout


def test_the_command_wants_exactly_one_target(prepared: Path, tmp_path: Path) -> None:
    for targets in ([], ["--dry-run", "--out", tmp_path / "x.jsonl"]):
        result = run(prepared, "--json", *targets)
        assert result.exit_code == 2
        assert json.loads(result.stderr.splitlines()[-1])["code"] == "one_target"
    assert not (tmp_path / "x.jsonl").exists()


# -- the whole year


def test_the_year_is_accounted_for_to_the_row_and_goes_on_the_tape(whole_file: Path) -> None:
    converter = Converter(Assumptions())
    builder = TapeBuilder(4)
    placed = 0
    giants = []
    for one in open_rows(whole_file, nobody):
        records = converter.convert(one)
        for topic, value in records:
            placed += len(builder.append(topic.decode(), value))
        if one.quantity > 70_000:
            giants += [json.loads(value) for _, value in records]
    report = converter.finish()
    assert (report.rows, report.row_events, report.skipped) == (
        541_909,
        Counter(order_placed=527_758, order_returned=7_898, order_cancelled=806),
        Counter(service=2_947, adjustment=1_336, free=1_161, bad_debt=3),
    )
    assert (report.returns_matched, report.returns_unmatched) == (7_483, 1_221)
    assert report.derived_events == Counter(price_applied=5_671, product_listed=3_812)
    assert (report.bulk_lines, report.products) == (22_249, 3_812)
    assert 1.7 < report.guest_price_ratio < 2.1
    assert builder.dead_letters == 0
    assert builder.appended == report.events
    assert placed > report.events
    # two orders by typing error, taken back within minutes
    assert [
        (event["type"], event["order_id"], event["quantity"])
        for event in giants
        if "quantity" in event
    ] == [
        ("order_placed", "541431", 74_215), ("order_cancelled", "541431", 74_215),
        ("order_placed", "581483", 80_995), ("order_cancelled", "581483", 80_995),
    ]  # fmt: skip


def test_what_is_made_of_a_row_never_depends_on_later_rows(whole_file: Path) -> None:
    rows = []
    for one in open_rows(whole_file, nobody):
        rows.append(one)
        if len(rows) == 6_000:
            break
    whole = Converter(Assumptions())
    made = [whole.convert(one) for one in rows]
    for cut in (1, 700, 1_500, 5_999):
        again = Converter(Assumptions())
        assert [again.convert(one) for one in rows[:cut]] == made[:cut]


def test_own_classes_and_matches_agree_with_the_prepared_ones(whole_file: Path) -> None:
    """The prepared file's rows in the publisher's form: the same classes, 99 % of the matches."""
    matcher = Matcher()
    returns = agreeing = 0
    with gzip.open(whole_file, "rt", newline="") as file:
        customers = (line["customer"] for line in csv.DictReader(file))
        for one, customer in zip(open_rows(whole_file, nobody), customers, strict=True):
            credit = "C" if one.kind == "return" else ""
            invoice = credit + one.invoice.lstrip("C")
            signed = -one.quantity if one.kind in ("return", "adjustment") else one.quantity
            zero = one.kind in ("adjustment", "free")
            assert one.kind == "service" or classify(invoice, one.sku, signed, zero) == one.kind
            found = matcher.match(one.kind, customer, one.sku, one.quantity, one.unit_price_minor)
            returns += one.kind == "return"
            agreeing += one.kind == "return" and found == one.matched
    assert returns == 8_704
    assert agreeing >= 0.99 * returns
