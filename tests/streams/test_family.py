"""``pricemaker family`` and ``train baskets``: proposed, approved, carried out, handed over."""

from pathlib import Path

import msgspec
import orjson
import pytest
from click.testing import CliRunner

from models.demand.baskets import propose
from models.demand.demand import expected_orders
from models.demand.epoch import Features
from models.kernel.tile import Kernel
from schemas import tape
from schemas.codec import canonical, decode_event
from schemas.errors import InputError
from schemas.events import ProductListed
from schemas.families import FamilyProposal
from streams.cli import cli
from streams.controls import families
from streams.controls.families import Move
from streams.settings import Settings
from streams.tape.event_files import EventWriter
from tests.models.tapes import Partition, at, event
from tests.models.test_baskets import CATALOGUE, shop
from tests.models.test_family_joint import lived as substitutes
from tests.streams.spine import fresh_topics

PROPOSAL = propose(shop(), CATALOGUE, "test")
DIGITS = PROPOSAL.sha256[:6]


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.warm()


@pytest.fixture(scope="module")
def lived(kernel: Kernel) -> Partition:
    """Three products that have learned, the lamp at another list price than its first."""
    partition = Partition(kernel)
    for sku in ("LAMP", "BULB", "SHADE"):
        partition.send("product_listed", at(), sku=sku, vat_rate=0.19, fee_rate=0.02)
    for day in range(1, 12):
        for number in range(10):
            partition.send(
                "order_placed",
                at(days=day, minutes=-number),
                sku="LAMP",
                order_id=f"{day}-{number}",
            )
        partition.tick(at(days=day))
    partition.send("product_listed", at(days=12), sku="LAMP", list_price_minor=1200)
    return partition


def known(partition: Partition) -> families.Known:
    return families.known_from({k.decode(): v for k, v in partition.stored.items()})


def test_each_product_is_listed_anew_with_what_was_learned_and_retired(kernel, lived) -> None:
    """On a partition of its own, as a family may well be."""
    before = lived.engine.state.skus["LAMP"]
    assert before.posterior is not None
    assert before.posterior.orders > 50
    moves = families.plan(PROPOSAL, known(lived))
    assert moves[0] == Move("LAMP", f"LAMP@{DIGITS}", "family-LAMP", "anchor", True, False)
    assert [(move.sku, move.role) for move in moves[1:]] == [
        ("BULB", "addition"), ("SHADE", "addition"),
    ]  # fmt: skip
    records = families.events(moves, known(lived), at(days=13))
    types = [orjson.loads(value or b"")["type"] for _, value in records]
    assert types == ["product_listed", "product_retired"] * 3
    there = Partition(kernel, partition=3)
    for offset, (topic, value) in enumerate(records[::2]):
        assert isinstance(decode_event(topic, None, value).event, ProductListed)
        there.apply(there.tape.add_value(tape.Source(topic, 0, offset), value or b""))
    after = there.engine.state.skus[f"LAMP@{DIGITS}"]
    assert after.posterior is not None
    assert after.prior_kind == "predecessor LAMP"
    assert (after.reference_price_minor, before.reference_price_minor) == (1000, 1000)
    for ln_price in (-0.3, 0.0, 0.4):
        features = Features(ln_price, 0.1, 0.0)
        assert expected_orders(after.posterior, features, 3.0) == expected_orders(
            before.posterior, features, 3.0
        )
    assert after.posterior.cov == before.posterior.cov
    assert after.posterior.orders == before.posterior.orders
    assert there.engine.state.families == {
        "family-LAMP": [f"BULB@{DIGITS}", f"LAMP@{DIGITS}", f"SHADE@{DIGITS}"]
    }
    entry = there.engine.state.catalogue[f"LAMP@{DIGITS}"]
    old = lived.engine.state.catalogue["LAMP"]
    assert entry.kept_share == pytest.approx(old.kept_share, rel=1e-12)
    assert (entry.list_price_minor, entry.unit_cost_minor) == (1200, 500)


def test_a_family_is_chosen_and_a_product_renamed(lived) -> None:
    moves = families.plan(
        PROPOSAL, known(lived), only=["family-LAMP"], renames={"LAMP": "LAMP-NEW"}
    )
    assert [move.new_sku for move in moves] == ["LAMP-NEW", f"BULB@{DIGITS}", f"SHADE@{DIGITS}"]
    with pytest.raises(InputError) as error:
        families.plan(PROPOSAL, known(lived), only=["family-X"])
    assert (error.value.code, error.value.value) == ("unknown_family", "family-X")


def test_what_is_done_is_not_sent_again(kernel) -> None:
    partition = Partition(kernel)
    for sku in ("LAMP", "BULB", "SHADE"):
        partition.send("product_listed", at(), sku=sku)
    moves = families.plan(PROPOSAL, known(partition))
    for number, (topic, value) in enumerate(families.events(moves, known(partition), at(days=1))):
        record = partition.tape.add_value(tape.Source(topic, 1, number), value or b"")
        assert not seen_letters(partition, record)
    again = families.plan(PROPOSAL, known(partition))
    assert [move.done for move in again] == [True] * 3
    assert families.events(again, known(partition), at(days=2)) == []


def seen_letters(partition: Partition, record: tuple[int, bytes]) -> list[object]:
    return list(partition.apply(record).letters)


def test_a_product_that_is_unknown_or_gone_is_refused(kernel) -> None:
    partition = Partition(kernel)
    for sku in ("LAMP", "BULB"):
        partition.send("product_listed", at(), sku=sku)
    with pytest.raises(InputError) as error:
        families.plan(PROPOSAL, known(partition))
    assert (error.value.code, error.value.value) == ("cannot_move", "SHADE")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cov": [1.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]}, "positive definite"),
        ({"cov": [1.0, 0.0, 0.0, 0.0, 1e300, 0.0, 0.0, 1.0, 0.0, 1.0]}, "variances up to 2500"),
        ({"mean": [0.0, -51.0, 0.1, 0.0]}, "from -50 to 50"),
        ({"size_units": 1e308}, "<= 1"),  # more units a line than a number can hold
    ],
)
def test_a_belief_that_is_none_is_refused(fields: dict[str, object], expected: str) -> None:
    listing = event(
        "product_listed", at(), "e1", handed_over={
            "sku": "B", "reference_price_minor": 1000, "mean": [0.0, -2.0, 0.1, 0.0],
            "cov": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0], "orders": 3, "epochs": 1,
            "size_lines": 0.0, "size_units": 0.0, **fields,
        },
    )  # fmt: skip
    with pytest.raises(Exception, match=expected):
        decode_event("products", None, orjson.dumps(listing))


# -- the commands


def test_a_proposal_is_made_from_a_file_and_says_that_nothing_is_applied(tmp_path: Path) -> None:
    path, out = tmp_path / "events.jsonl", tmp_path / "families.json"
    number = 0
    with EventWriter(path) as writer:
        for sku in ("LAMP", "BULB", "SHADE", "OTHER"):
            writer.write("products", orjson.dumps(event("product_listed", at(), sku, sku=sku)))
        for key, basket in enumerate(shop()._baskets.values()):
            for sku in sorted(basket & {"LAMP", "BULB", "SHADE"}):
                fields = {"sku": sku, "order_id": f"o{key}"}
                number += 1
                line = event("order_placed", at(days=1), f"e{number}", **fields)
                writer.write("orders", orjson.dumps(line))
        for key in range(400):
            line = event("order_placed", at(days=1), f"x{key}", sku="OTHER", order_id=f"x{key}")
            writer.write("orders", orjson.dumps(line))
    result = CliRunner().invoke(cli, ["train", "baskets", str(path), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.stderr
    made = families.read_proposal(out)
    assert msgspec.convert(orjson.loads(result.stdout), FamilyProposal) == made
    (family,) = made.families
    assert (family.anchor, [one.sku for one in family.additions]) == ("LAMP", ["BULB", "SHADE"])
    assert made.orders == 600
    text = CliRunner().invoke(cli, ["train", "baskets", str(path)])
    assert "nothing is applied" in text.stdout


def test_a_changed_proposal_is_refused(tmp_path: Path) -> None:
    changed = msgspec.structs.replace(PROPOSAL, orders=7)
    for content, code in ((canonical(changed), "hash_mismatch"), (b"{}", "not_a_proposal")):
        (tmp_path / "p.json").write_bytes(content)
        with pytest.raises(InputError) as error:
            families.read_proposal(tmp_path / "p.json")
        assert error.value.code == code


@pytest.mark.parametrize("options", [[], ["--dry-run", "--yes"], ["--yes", "--rename", "A"]])
def test_nothing_is_sent_without_approval(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "p.json").write_bytes(canonical(PROPOSAL))
    result = CliRunner().invoke(cli, ["family", "apply", str(tmp_path / "p.json"), *options])
    assert result.exit_code in (2, 4)
    assert result.stdout == ""


@pytest.mark.kafka
def test_an_approved_family_is_carried_out_on_a_broker(
    kafka_bootstrap: str, tmp_path: Path, lived: Partition
) -> None:
    settings: Settings = fresh_topics(kafka_bootstrap)
    put_state(settings, lived.stored)
    path = tmp_path / "p.json"
    path.write_bytes(canonical(PROPOSAL))
    dry = apply(settings, path, "--dry-run")
    assert (dry["events"], dry["dry_run"]) == (6, True)
    assert read_products(settings) == []
    done = apply(settings, path, "--yes")
    assert done["moves"] == dry["moves"]
    listings = [one for one in read_products(settings) if one["type"] == "product_listed"]
    assert {one["handed_over"]["sku"] for one in listings} == {"LAMP", "BULB", "SHADE"}


def environment(settings: Settings) -> dict[str, str]:
    return {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
    }


def apply(settings: Settings, path: Path, option: str) -> dict[str, object]:
    result = CliRunner().invoke(
        cli, ["family", "apply", str(path), option, "--json"], env=environment(settings)
    )
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = orjson.loads(result.stdout)
    return found


def put_state(settings: Settings, stored: dict[bytes, bytes]) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    for key, value in stored.items():
        producer.produce(f"{settings.topics.prefix}state", value, key, 0)
    assert producer.flush(30.0) == 0


def read_products(settings: Settings) -> list[dict[str, object]]:
    from streams.kafka.reader import opened, read_to_end, require_partitions

    topic = f"{settings.topics.prefix}products"
    with opened(settings, "test") as consumer:
        return [
            orjson.loads(message.value())
            for number in range(require_partitions(consumer, topic))
            for message in read_to_end(consumer, topic, number, 30.0)
        ]


# -- the joint view


@pytest.fixture(scope="module")
def together(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decisions of a family of three, and one of a product that has no partner."""
    shop = substitutes(kernel)
    shop.send("product_listed", at(minutes=5), sku="LONE")
    decisions = shop.send("cost_changed", at(hours=1), unit_cost_minor=520).decisions
    alone = shop.send("cost_changed", at(hours=2), sku="LONE", unit_cost_minor=450).decisions
    path = tmp_path_factory.mktemp("family") / "decisions.jsonl"
    path.write_bytes(b"".join(canonical(one) + b"\n" for one in (*decisions, *alone)))
    return path


def test_the_joint_view_is_what_the_last_decisions_recorded(together: Path) -> None:
    arguments = ["family", "show", "B", "--from", str(together), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    shown = orjson.loads(result.stdout)
    recorded = {
        one["sku"]: {
            **{key: one[key] for key in ("price_id", "decided_at", "status", "currency")},
            "price_minor": one["price_minor"],
            **one["record"]["family"],
        }
        for one in map(orjson.loads, together.read_bytes().splitlines())
        if one["sku"] != "LONE"
    }
    assert shown == {
        "family": None,
        "products": [{"sku": sku, "joint": recorded[sku]} for sku in ("A", "B", "C")],
        "joint": recorded["C"],  # of one time, the last by SKU
    }


def test_the_joint_view_reads_as_a_table(together: Path) -> None:
    result = CliRunner().invoke(cli, ["family", "show", "A", "--from", str(together)])
    assert result.exit_code == 0, result.stderr
    cells = [line.split() for line in result.stdout.splitlines()]
    first_words = [words[0] for words in cells if words]
    assert first_words[:10] == ["product", "A", "B", "C", "B", "A", "C", "C", "A", "B"]


@pytest.mark.parametrize("sku", ["LONE", "X"])
def test_a_product_without_partners_has_no_joint_view(together: Path, sku: str) -> None:
    arguments = ["family", "show", sku, "--from", str(together), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 3
    error = orjson.loads(result.stderr)
    assert (error["code"], error["value"]) == ("no_joint_decision", sku)
    assert result.stdout == ""
