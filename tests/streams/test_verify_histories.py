"""Verify without a broker: what was tampered with is named, in a window of bounded memory."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from rich.console import Console

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas import tape
from schemas.errors import CheckFailed
from schemas.events import rfc3339
from schemas.tape import Source
from streams.cli import cli
from streams.tape.export_writer import LogWriter, write_manifest
from streams.tape.exports import read_manifest
from streams.tape.tape_builder import Placed
from streams.verify import verify_order, verify_window
from streams.verify.verification import Verification
from streams.verify.verify import verify
from streams.verify.verify_text import text_of
from tests.models.tapes import Partition, Record, at, event, simulated
from tests.models.test_follow import Foreign
from tests.streams.histories import BATCH, Memory, alter, decision, place, published

DAYS = 18
TAPES = 2


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.warm()


@pytest.fixture(scope="module")
def tapes(kernel: Kernel) -> list[list[Record]]:
    """Two tape partitions, of different shops."""
    return shops(kernel, DAYS)


def shops(kernel: Kernel, days: int) -> list[list[Record]]:
    """Simulated tapes; a product is on one tape alone."""
    other = simulated(kernel, 4, days)
    renamed = [
        (offset, value.replace(b"SHO-", b"HAT-").replace(b"LAM-", b"CUP-"))
        for offset, value in other
    ]
    return [simulated(kernel, 3, days), renamed]


@pytest.fixture(scope="module")
def theirs(kernel: Kernel) -> list[Record]:
    """A tape that another engine was announced on."""
    return simulated(Foreign(kernel), 3, DAYS)


@pytest.fixture
def history(kernel: Kernel, tapes: list[list[Record]]) -> Memory:
    """What this engine published, on three partitions of `prices`; each holds both tapes' ones."""
    found = published(kernel, tapes, prices=3)
    mixed = [{one["tape"]["partition"] for one in map(orjson.loads, p)} for p in found.published]
    assert mixed == [{0, 1}] * 3
    return found


@pytest.fixture
def foreign(kernel: Kernel, theirs: list[Record]) -> Memory:
    """What another engine published from a tape that announces it."""
    return published(Foreign(kernel), [theirs])


def kinds(found: Verification) -> dict[str, int]:
    """What was found, without what was not."""
    return {kind: count for kind, count in found.counts.items() if count}


def rendered(found: Verification) -> str:
    """The text for people."""
    shown = io.StringIO()
    Console(file=shown, width=200).print(text_of(found))
    return shown.getvalue()


def test_a_history_of_this_engine_is_confirmed(kernel: Kernel, history: Memory) -> None:
    found = verify(history, kernel)
    decisions = sum(map(len, history.published))
    assert found.confirmed
    assert (found.decisions, found.reproduced, found.agreed) == (decisions, decisions, 0)
    assert found.latest == len(history.kept or {})
    assert [one.manifest_agrees for one in found.ranges] == [True] * TAPES
    assert [(one.first_offset, one.last_offset) for one in found.ranges] == [
        (0, len(records) - 1) for records in history.tapes
    ]


def test_segments_are_runs_of_one_engine_and_policy(kernel: Kernel, history: Memory) -> None:
    found = verify(history, kernel)
    decided = [one for partition in history.published for one in map(orjson.loads, partition)]
    for number in range(TAPES):
        mine = [one for one in decided if one["tape"]["partition"] == number]
        mine.sort(key=lambda one: one["tape"]["offset"])
        segments = [one for one in found.segments if one.partition == number]
        policies = list(dict.fromkeys(one["policy_sha256"] for one in mine))
        assert [one.policy_sha256 for one in segments] == policies
        assert {(one.engine, one.mode, one.announced) for one in segments} == {
            (found.engine, "bytes", True)
        }
        assert sum(one.confirmed for one in segments) == len(mine)
        first = segments[0]
        assert first.first_offset == mine[0]["tape"]["offset"]
        assert segments[-1].last_offset == mine[-1]["tape"]["offset"]
    assert [change.partition for change in found.engine_changes] == [0, 1]


def test_an_altered_price_is_named_with_its_event(kernel: Kernel, history: Memory) -> None:
    one = decision(history, 30, 1)
    alter(history, 30, 1, price_minor=one["price_minor"] + 1)
    found = verify(history, kernel)
    offset = one["tape"]["offset"]
    record = tape.decode(history.tapes[one["tape"]["partition"]][offset][1])
    assert kinds(found) == {"altered": 1} | latest_of(history, one)
    (altered,) = [each for each in found.differences if each.kind == "altered"]
    source = record.source
    assert msgspec.to_builtins(altered) == {
        "kind": "altered", "price_id": one["price_id"], "tape": place(one), "sku": one["sku"],
        "fields": {"price_minor": (one["price_minor"] + 1, one["price_minor"])},
        "prices": "prices[1]@30", "other": None,
        "event": {
            "type": type(record.event).__struct_config__.tag,
            "event_id": record.event.event_id,
            "event_time": rfc3339(record.event.event_time_ms),
            "sku": getattr(record.event, "sku", None),
            "source": f"{source.topic}[{source.partition}]@{source.offset}",
        },
    }  # fmt: skip
    assert found.first_divergence == [altered]
    text = rendered(found)
    price = one["price_minor"]
    assert f"altered {one['price_id']} at {place(one)}" in text
    assert f"price_minor: published {price + 1}, recomputed {price}" in text


def latest_of(history: Memory, one: dict[str, Any]) -> dict[str, int]:
    """An alteration of a product's last effective decision shows on `prices-latest` too."""
    return {} if any(
        later["sku"] == one["sku"]
        and later["version"] > one["version"]
        and later["status"] != "held"
        for partition in history.published
        for later in map(orjson.loads, partition)
    ) else {"latest_differs": 1}  # fmt: skip


def test_a_missing_decision_is_named(kernel: Kernel, history: Memory) -> None:
    one = decision(history, 20, 2)
    del history.published[2][20]
    found = verify(history, kernel)
    assert kinds(found) == {"missing": 1}
    (missing,) = found.differences
    assert (missing.price_id, missing.tape, missing.sku) == (
        one["price_id"], place(one), one["sku"],
    )  # fmt: skip
    assert missing.event is not None
    assert found.reproduced == found.decisions == sum(map(len, history.published))


def pair_of_one_product(history: Memory, partition: int) -> tuple[int, int]:
    """Places of two decisions on a product, one after the other."""
    seen: dict[str, int] = {}
    for index, one in enumerate(map(orjson.loads, history.published[partition])):
        if one["sku"] in seen and index > 15:
            return seen[one["sku"]], index
        seen[one["sku"]] = index
    raise AssertionError("no product was decided on twice")


def test_a_reordered_pair_is_named(kernel: Kernel, history: Memory) -> None:
    first, second = pair_of_one_product(history, 0)
    prices = history.published[0]
    prices[first], prices[second] = prices[second], prices[first]
    early, late = decision(history, first), decision(history, second)
    assert (early["sku"], early["version"]) == (late["sku"], late["version"] + 1)
    found = verify(history, kernel)
    assert found.reproduced == found.decisions == sum(map(len, history.published))
    assert set(kinds(found)) == {"reordered"}
    pairs = {one.price_id: one.other for one in found.differences}
    pair = early["price_id"], late["price_id"]
    assert {pair, pair[::-1]} & set(pairs.items())


def test_neighbours_out_of_order_are_named_as_the_pair_that_they_are(
    kernel: Kernel, history: Memory
) -> None:
    index = next(
        index
        for index in range(10, len(history.published[0]) - 1)
        if decision(history, index)["tape"]["partition"]
        == decision(history, index + 1)["tape"]["partition"]
        and decision(history, index)["tape"] != decision(history, index + 1)["tape"]
    )
    prices = history.published[0]
    prices[index], prices[index + 1] = prices[index + 1], prices[index]
    early, late = decision(history, index), decision(history, index + 1)
    found = verify(history, kernel)
    assert kinds(found) == {"reordered": 1}
    (pair,) = found.differences
    assert (pair.price_id, pair.other) == (early["price_id"], late["price_id"])
    assert (pair.tape, pair.prices) == (place(early), f"prices[0]@{index}")
    assert f"reordered {early['price_id']}" in rendered(found)


def test_a_decision_written_twice_is_named_once_each_time(kernel: Kernel, history: Memory) -> None:
    again = history.published[0][12]
    history.published[0].append(again)
    history.published[0].insert(12, again)
    found = verify(history, kernel)
    assert kinds(found) == {"repeated": 2}
    assert {one.price_id for one in found.differences} == {orjson.loads(again)["price_id"]}


def test_decisions_at_places_that_do_not_exist_are_unexpected(
    kernel: Kernel, history: Memory
) -> None:
    body = decision(history, 5)
    for number, (partition, offset) in enumerate([(0, 10**9), (7, 3), (0, -1), (1, 2)]):
        invented = body | {
            "price_id": f"{number}", "sku": "NOBODY",
            "tape": {"partition": partition, "offset": offset},
        }  # fmt: skip
        history.published[0].append(orjson.dumps(invented))
    history.published[0].append(b"no decision")
    found = verify(history, kernel)
    assert kinds(found) == {"unexpected": 5}
    assert {one.price_id for one in found.differences} == {"0", "1", "2", "3", "(no decision)"}
    assert found.reproduced == sum(map(len, history.published)) - 5


def test_prices_without_their_beginning_are_missing(kernel: Kernel, history: Memory) -> None:
    cut = history.published[1][:25]
    del history.published[1][:25]
    found = verify(history, kernel)
    assert kinds(found) == {"missing": 25}
    assert len(found.differences) == 20
    assert {one.price_id for one in found.differences} <= {
        orjson.loads(value)["price_id"] for value in cut
    }


def test_what_is_not_committed_yet_is_left_out(kernel: Kernel, history: Memory) -> None:
    """As seen beside a running pricer: decisions beyond its position are for the next time."""
    position = 900
    early = [
        one
        for partition in history.published
        for one in map(orjson.loads, partition)
        if one["tape"]["partition"] == 1 or one["tape"]["offset"] <= position
    ]
    engine = PartitionEngine.new(0, kernel)
    engine.apply(history.tapes[0][: position + 1])
    history.manifests[0] = engine.state.manifest
    history.kept = None
    found = verify(history, kernel)
    assert found.confirmed
    assert found.decisions == found.reproduced == len(early) < sum(map(len, history.published))


def test_a_gap_in_versions_that_nothing_else_explains(kernel: Kernel, foreign: Memory) -> None:
    """Of another engine, which published a version 2 further on."""
    last = {}
    for index in range(len(foreign.published[0])):
        last[decision(foreign, index)["sku"]] = index
    index = last["LAM-00001"]
    one = decision(foreign, index)
    alter(foreign, index, version=one["version"] + 1)
    foreign.kept = None
    foreign.manifests = [None]
    found = verify(foreign, kernel)
    assert kinds(found) == {"altered": 1}  # it is altered, and named as that alone
    assert found.differences[0].fields["version"] == (one["version"] + 1, one["version"])


def test_a_manifest_of_another_history_is_named(kernel: Kernel, history: Memory) -> None:
    """Every decision agrees, and yet the pricer committed another hash over them."""
    manifest = history.manifests[1]
    assert manifest is not None
    history.manifests[1] = replace(manifest, decisions_sha256="0" * 64)
    found = verify(history, kernel)
    assert kinds(found) == {"manifest_differs": 1}
    (one,) = found.differences
    assert (one.tape, one.fields) == (
        f"tape[1]@{manifest.position}",
        {"decisions_sha256": ("0" * 64, manifest.decisions_sha256)},
    )
    assert [each.manifest_agrees for each in found.ranges] == [True, False]


def test_prices_latest_that_disagrees_is_named(kernel: Kernel, history: Memory) -> None:
    assert history.kept is not None
    key = sorted(history.kept)[0]
    body = orjson.loads(history.kept[key])
    history.kept[key] = orjson.dumps(body | {"price_minor": 1}, option=orjson.OPT_SORT_KEYS)
    gone = sorted(history.kept)[1]
    lost = orjson.loads(history.kept.pop(gone))
    found = verify(history, kernel)
    assert kinds(found) == {"latest_differs": 2}
    assert [(one.sku, one.price_id, one.fields) for one in found.differences] == [
        (key.decode(), body["price_id"], {"version": (body["version"], body["version"])}),
        (gone.decode(), lost["price_id"], {"version": (None, lost["version"])}),
    ]


def test_a_price_that_the_kill_switch_held_back_is_no_difference(kernel: Kernel) -> None:
    """Thrown on `controls`, not yet read on the tape when the price was written."""
    shop = Partition(kernel)
    shop.send("product_listed", at(0))
    shop.tick(at(days=1))
    shop.send("operator_command", at(days=1, minutes=1), command="kill_switch_on")
    thrown_at = len(shop.tape.records) - 1
    history = published(kernel, [shop.tape.records])
    assert history.kept
    history.kept = {}
    written_ms = {"before": 2_000, "after": 500}
    history.thrown = {shop_controls(shop, thrown_at): 1_000}
    for when, held_back in (("before", 1), ("after", 0)):
        at_ms = written_ms[when]
        history.written_ms = lambda _, at_ms=at_ms: at_ms  # type: ignore[misc]
        found = verify(history, kernel)
        assert (found.held_back, found.latest_differs) == (held_back, 1 - held_back)


def shop_controls(shop: Partition, offset: int) -> int:
    """Where on `controls` a tape record came from."""
    return tape.decode(shop.tape.records[offset][1]).source.offset


# -- another engine


def test_a_whole_history_of_another_engine_is_confirmed(kernel: Kernel, foreign: Memory) -> None:
    found = verify(foreign, kernel)
    decisions = len(foreign.published[0])
    assert kinds(found) == {}
    assert (found.decisions, found.reproduced, found.agreed) == (decisions, 0, decisions)
    assert {(one.mode, one.engine, one.announced) for one in found.segments} == {
        ("actions", "f0e1", True)
    }
    assert found.ranges[0].manifest_agrees is True
    assert "as another engine's actions" in rendered(found)


def test_alterations_in_another_engines_history_are_named(kernel: Kernel, foreign: Memory) -> None:
    """A cent is within the bounds, and yet what the next decision found tells of it."""
    for index in (40, 90):
        one = decision(foreign, index)
        assert one["status"] == "published"
        by = 1 if index == 40 else 120
        alter(foreign, index, price_minor=one["price_minor"] + by)
    missing = decision(foreign, 60)
    del foreign.published[0][60]
    foreign.kept = None
    found = verify(foreign, kernel)
    assert kinds(found) == {"altered": 2, "missing": 1}
    assert found.agreed == len(foreign.published[0]) - 2
    assert {one.price_id for one in found.differences if one.kind == "missing"} == {
        missing["price_id"]
    }


def test_an_engine_that_nothing_announces_has_no_looser_bounds(
    kernel: Kernel, history: Memory
) -> None:
    one = decision(history, 10)
    alter(history, 10, engine="0123456789ab")
    found = verify(history, kernel)
    assert found.unannounced_engine == 1
    (named,) = [each for each in found.differences if each.kind == "unannounced_engine"]
    assert (named.price_id, named.fields) == (
        one["price_id"], {"engine": ("0123456789ab", found.engine)},
    )  # fmt: skip
    assert not found.confirmed


def handed_over(kernel: Kernel, records: list[Record], at_offset: int) -> Memory:
    """A history that this engine began, and another went on with; the tape says so."""
    other, prices = Foreign(kernel), []
    announced = event("engine_changed", at(days=9), "engine-1") | {
        "fingerprint": other.fingerprint, "previous": kernel.fingerprint, "worker": "w2",
    }  # fmt: skip
    value = tape.wrap(Source("engine", 0, 10**6), orjson.dumps(announced))
    whole = [one for _, one in records]
    whole.insert(at_offset, value)
    numbered = list(enumerate(whole))
    engine = PartitionEngine.new(0, kernel)
    batch = engine.apply(numbered[:at_offset])
    prices += [output.value for output in batch.outputs if output.topic == "prices"]
    engine = PartitionEngine.restore(0, engine.state.all_records(), other)
    for start in range(at_offset, len(numbered), BATCH):
        batch = engine.apply(numbered[start : start + BATCH])
        prices += [output.value for output in batch.outputs if output.topic == "prices"]
    return Memory([numbered], [prices], [engine.state.manifest])


def test_each_segment_is_verified_as_its_engine_asks(
    kernel: Kernel, tapes: list[list[Record]]
) -> None:
    history = handed_over(kernel, tapes[0], 2_000)
    found = verify(history, kernel)
    assert kinds(found) == {}
    modes = [(one.engine, one.mode) for one in found.segments]
    assert list(dict.fromkeys(modes)) == [(found.engine, "bytes"), ("f0e1", "actions")]
    before = sum(one["tape"]["offset"] < 2_000 for one in map(orjson.loads, history.published[0]))
    assert (found.reproduced, found.agreed) == (before, len(history.published[0]) - before)
    assert (2_000, "f0e1") in [(one.offset, one.engine) for one in found.engine_changes]


# -- bounds


def test_the_window_does_not_grow_with_the_history(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as long a history, with what another tape wrote in between: the same window."""
    monkeypatch.setattr("streams.verify.verify.BATCH_RECORDS", 50)
    windows = []
    for days in (8, 24):
        history = published(kernel, shops(kernel, days), prices=2)
        found = verify(history, kernel)
        assert found.confirmed
        windows.append(found.window_decisions)
    most_at_once = 8  # products: a tick may decide on all of them
    assert windows[1] <= windows[0] + most_at_once
    assert windows[1] < found.decisions // 5


def test_a_window_that_is_exceeded_ends_with_a_clear_result(
    kernel: Kernel, history: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_window, "WINDOW_DECISIONS_MAX", 3)
    with pytest.raises(CheckFailed) as caught:
        verify(history, kernel)
    assert (caught.value.code, caught.value.exit_code) == ("window_exceeded", 5)


def test_a_history_in_no_order_at_all_ends_with_a_clear_result(
    kernel: Kernel, history: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_order, "DISPLACED_MAX", 5)
    history.published[0].reverse()
    with pytest.raises(CheckFailed) as caught:
        verify(history, kernel)
    assert caught.value.code == "too_disordered"
    assert (caught.value.where or "").startswith("prices[0]@")


# -- files


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tape file, its decisions, and a checkpoint on the way."""
    folder = tmp_path_factory.mktemp("verify")
    made = run("simulate", "--seed", "5", "--products", "10", "--days", "15",
               "--out", folder / "events.jsonl")  # fmt: skip
    assert made.exit_code == 0, made.stderr
    replayed = run("replay", folder / "events.jsonl", "--tape-out", folder / "tape.jsonl",
                   "--out", folder / "decisions.jsonl")  # fmt: skip
    assert replayed.exit_code == 0, replayed.stderr
    part = run("replay", folder / "tape.jsonl", "--stop-after", "3000",
               "--checkpoint", folder / "checkpoint.jsonl")  # fmt: skip
    assert part.exit_code == 0, part.stderr
    return folder


def verified(files: Path, decisions: Path, *options: str | Path) -> tuple[int, dict[str, Any]]:
    result = run("verify", files / "tape.jsonl", "--decisions", decisions, "--json", *options)
    return result.exit_code, json.loads(result.stdout)


def test_a_tape_file_and_its_decisions_are_verified(files: Path) -> None:
    code, document = verified(files, files / "decisions.jsonl")
    lines = (files / "decisions.jsonl").read_bytes().splitlines()
    assert (code, document["confirmed"], document["reproduced"]) == (0, True, len(lines))
    assert document["latest"] is None


def test_from_a_checkpoint_only_what_follows_is_verified(files: Path) -> None:
    """The result says so; an alteration before it is not seen, one after it is."""
    lines = (files / "decisions.jsonl").read_bytes().splitlines()
    decided = [orjson.loads(line) for line in lines]
    code, document = verified(
        files, files / "decisions.jsonl", "--from-checkpoint", files / "checkpoint.jsonl"
    )
    ranges = document["ranges"]
    positions = {one["partition"]: one["first_offset"] for one in ranges}
    assert all(one["from_checkpoint"] == (one["first_offset"] > 0) for one in ranges)
    late = [one["tape"]["offset"] >= positions[one["tape"]["partition"]] for one in decided]
    assert (code, document["reproduced"]) == (0, sum(late))
    assert document["before_checkpoint"] == len(lines) - sum(late) > 0
    for is_late, expected in ((False, 0), (True, 5)):
        changed, index = list(lines), late.index(is_late)
        changed[index] = lines[index].replace(b'"currency":"', b'"currency":"X')
        out = files / f"changed-{is_late}.jsonl"
        out.write_bytes(b"\n".join(changed) + b"\n")
        code, document = verified(files, out, "--from-checkpoint", files / "checkpoint.jsonl")
        assert code == expected


@pytest.fixture
def exported(kernel: Kernel, files: Path, tmp_path: Path) -> Path:
    """The same history as an exported folder, as ``export kafka --decisions`` writes it."""
    folder = tmp_path / "export"
    made = run("export", files / "tape.jsonl", folder)
    assert made.exit_code == 0, made.stderr
    manifest = read_manifest(folder)
    assert manifest is not None
    lines = (files / "decisions.jsonl").read_bytes().splitlines()
    writer = LogWriter(folder, "prices", "parquet", 1, None, contiguous=False)
    for offset, line in enumerate(lines):
        writer.write(Placed(0, 2 * offset, line))  # markers of transactions lie between
    writer.close()
    decided = {str(log.partition): log.last or 0 for log in manifest.tape.partitions}
    whole = msgspec.structs.replace(manifest, prices=writer.log, decided=decided)
    write_manifest(folder, whole, finished=True)
    return folder


def test_an_exported_folder_is_verified_alone(files: Path, exported: Path) -> None:
    result = run("verify", exported, "--json")
    document = json.loads(result.stdout)
    lines = (files / "decisions.jsonl").read_bytes().splitlines()
    assert (result.exit_code, document["confirmed"], document["reproduced"]) == (
        0, True, len(lines),
    )  # fmt: skip


def test_an_export_without_decisions_says_so(files: Path, tmp_path: Path) -> None:
    made = run("export", files / "tape.jsonl", tmp_path / "export")
    assert made.exit_code == 0, made.stderr
    result = run("verify", tmp_path / "export", "--json")
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"]) == (3, "no_decisions")


def test_a_file_needs_its_decisions(files: Path) -> None:
    result = run("verify", files / "tape.jsonl", "--json")
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["field"]) == (
        2, "decisions_needed", "--decisions",
    )  # fmt: skip
