"""20,000 events at full speed while a worker joins, one gets SIGTERM, one SIGKILL, and the broker
is killed and started again. Afterwards every invariant holds and every decision is reproduced."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from models.kernel.tile import Kernel
from schemas.topics import SOURCES, TOPICS
from tests.crash.broker import ROOT, Broker
from tests.crash.evidence import Evidence
from tests.crash.feed import SECRET, feed
from tests.crash.harness import Feed, Harness, Join, Report, RestartBroker, Sigkill, Sigterm, Start
from tests.crash.observer import Observer
from tests.crash.verifier import Verdict, verify
from tests.crash.workers import System

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.timeout(900)]

SEED = int(os.environ.get("CRASH_SEED", "20250106"))
PARTITIONS = 4
REDIS_PASSWORD = "hunter2-not-for-logs"
SCRIPT = [
    Start("a"),
    Feed(4_000, Join("b")),
    Feed(4_000, RestartBroker(kill=True)),
    Feed(4_000, Sigterm("a")),
    Start("a"),
    Feed(4_000, Sigkill("b")),
    Start("b"),
    Feed(4_000, Sigkill("a")),
]
EVENTS = sum(step.records for step in SCRIPT if isinstance(step, Feed))


def environment(broker: Broker, prefix: str, cache: Path) -> dict[str, str]:
    return {
        "PRICEMAKER_KAFKA__BOOTSTRAP": broker.bootstrap,
        "PRICEMAKER_KAFKA__SESSION_TIMEOUT_S": "6",
        "PRICEMAKER_KAFKA__REQUEST_TIMEOUT_S": "30",
        "PRICEMAKER_TOPICS__PREFIX": prefix,
        "PRICEMAKER_ENGINE__COMPILATION_CACHE_DIR": str(cache),
        "PRICEMAKER_REDIS__URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:1/0",
    }


def pricemaker(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments, "--json"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}, check=False,
        timeout=120,
    )  # fmt: skip


class Run:
    """A finished run, as its tests see it."""

    def __init__(self, env: dict[str, str], report: Report, evidence: Evidence) -> None:
        self.env = env
        self.report = report
        self.evidence = evidence
        self.verdict: Verdict | None = None


@pytest.fixture(scope="module")
def run(
    own_broker: Broker, kernel: Kernel, kernel_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    prefix = f"c{uuid.uuid4().hex[:8]}-"
    env = environment(own_broker, prefix, kernel_cache)
    made = pricemaker("topics", "create", "--partitions", str(PARTITIONS), env=env)
    assert made.returncode == 0, made.stderr
    system = System(
        name="pricemaker",
        command=["-m", "streams", "worker", "--id"],
        environment=env,
        worker_environment={"b": {"PRICEMAKER_WORKER__LOG_LEVEL": "debug"}},
        ready="is ready",
        group=f"{prefix}pricemaker",
        sources=[topic.name for topic in SOURCES],
        observed=[topic.name for topic in TOPICS],
    )
    observer = Observer(own_broker.bootstrap, prefix, system.group, system.observed)
    harness = Harness(system, own_broker, observer, tmp_path_factory.mktemp("workers"))
    report = harness.run(SCRIPT, feed(SEED, EVENTS), SEED)
    evidence = Evidence(
        topics=observer.read(),
        samples=report.samples,
        logs={log.name: log.read_text(errors="replace") for log in harness.logs},
        secrets=(REDIS_PASSWORD, SECRET),
    )
    print(f"{report.seconds:.0f} s, {len(report.samples)} samples; {report.backlog_at_fault}")
    return Run(env, report, evidence)


def test_every_fault_struck_work(run: Run) -> None:
    """A fault that finds an idle system proves nothing. The last two are the end of the run."""
    at_work = run.report.backlog_at_fault[:-1]
    assert [what for what, backlog in at_work if not backlog] == []
    assert len(at_work) == 5


def test_the_invariants_hold(run: Run, kernel: Kernel) -> None:
    verdict = verify(run.evidence, kernel)
    print(verdict.counts)
    assert verdict.violations == []
    sent = sum(verdict.counts[topic.name] for topic in SOURCES)
    assert sent >= EVENTS
    for name in ("tape repeat", "tape refused", "dead-letter", "alerts", "prices-latest"):
        assert verdict.counts[name] > 0, name


def test_verify_reproduces_every_decision(run: Run) -> None:
    done = pricemaker("verify", env=run.env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["confirmed"] is True
    assert found["reproduced"] == found["decisions"] == len(run.evidence.topics["prices"])
    assert found["tape_records"] == len(run.evidence.topics["tape"])
