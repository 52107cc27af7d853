"""``python -m tests.court [NAME ...]``: play scenarios without a broker and print what came."""

import sys

import msgspec

from models.kernel.tile import Kernel
from schemas.outputs import Alert, PriceDecided
from tests.court.judge import failed_checks, judge
from tests.court.players import decoded, in_memory
from tests.court.scenario import load, names


def main() -> None:
    """Print each decision, alert and dead letter of the named scenarios, and the result."""
    kernel = Kernel.warm()
    for name in sys.argv[1:] or names():
        scenario = load(name)
        played = in_memory(scenario, kernel)
        print(f"== {name}: {scenario.title}")
        if sys.argv[1:]:
            for one in decoded(played.outputs["prices"], PriceDecided):
                state = "" if one.record is None else one.record.breaker.state
                print(one.decided_at[5:16], one.sku, one.status, one.price_minor, one.wanted_minor,
                      state, "; ".join(one.reasons))  # fmt: skip
            for alert in decoded(played.outputs["alerts"], Alert):
                print("alert", alert.at[5:16], alert.sku, alert.kind, alert.message)
            for letter in played.letters:
                print("letter", letter.code, letter.value[:120].decode())
        print(msgspec.json.encode(judge(scenario, played)).decode())
        print("\n".join(failed_checks(scenario, played)) or "all checks hold")


if __name__ == "__main__":
    main()
