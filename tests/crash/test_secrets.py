"""No secret leaves a worker that cannot log in, not even at debug level."""

from pathlib import Path

import pytest

from tests.crash.broker import Broker
from tests.crash.test_crash import environment, pricemaker

pytestmark = [pytest.mark.crash, pytest.mark.kafka]

PASSWORD = "correct-horse-battery"


def test_a_worker_that_cannot_log_in_keeps_its_password(own_broker: Broker, tmp_path: Path) -> None:
    sasl = {
        "PRICEMAKER_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "PRICEMAKER_KAFKA__SASL_MECHANISM": "PLAIN",
        "PRICEMAKER_KAFKA__SASL_USERNAME": "shop",
        "PRICEMAKER_KAFKA__SASL_PASSWORD": PASSWORD,
        "PRICEMAKER_WORKER__LOG_LEVEL": "debug",
    }
    env = environment(own_broker, "secret-", tmp_path) | sasl
    done = pricemaker("worker", "--role", "intake", "--id", "locked-out", env=env)
    assert done.returncode == 4, done.stderr
    assert "broker_unreachable" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
