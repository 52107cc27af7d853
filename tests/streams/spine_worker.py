"""A worker process for tests: ``python -m tests.streams.spine_worker BOOTSTRAP PREFIX ID ROLE``."""

import sys

from streams.logs import configure_logging
from streams.worker.worker import run_worker
from tests.streams.counting_engine import CountingFactory
from tests.streams.spine import settings_for

if __name__ == "__main__":
    bootstrap, prefix, worker_id, role = sys.argv[1:]
    configure_logging("info")
    settings = settings_for(bootstrap, prefix, worker_id, role=role)
    sys.exit(run_worker(settings, CountingFactory()))
