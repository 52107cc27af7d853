"""``pricemaker gateway``: serve prices and the desk over HTTP, and make tokens for it."""

from datetime import UTC, datetime
from pathlib import Path

import click

from streams.commands.steering import TIME
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options


@click.group("gateway", invoke_without_command=True)
@click.option("--host", help="Address to listen on.  [default: gateway.host, 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [default: gateway."
    "port, 8080]",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    host: str | None,
    port: int | None,
) -> None:
    """Serve prices, event streams, feeds and the desk over HTTP until SIGTERM or Ctrl-C.

    Without tokens it listens on this machine alone, and everybody there is admin. It ends (exit 4)
    when the broker's topics are gone; while the broker is away it serves prices as they were, and
    says so.

    \b
    Example: pricemaker gateway --port 8080
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    settings = load_settings(
        config_file,
        {"kafka.bootstrap": bootstrap, "gateway.host": host, "gateway.port": port},
    )
    from streams.gateway.app import health_of
    from streams.gateway.serve import GatewayServer
    from streams.gateway.standard import standard_parts
    from streams.logs import configure_logging
    from streams.metrics.registry import new_registry
    from streams.metrics.server import serve_metrics

    configure_logging(settings.worker.log_level)
    registry = new_registry("gateway")
    parts = standard_parts(settings, registry=registry)
    server = GatewayServer(settings, parts, registry=registry)
    text = f"gateway: {server.url}/desk/ and {server.url}/v1/openapi.json"
    output.record({"url": server.url, "tokens": len(settings.gateway.tokens)}, text)
    with serve_metrics(settings, registry, health_of(parts)):
        server.run()


@command.command("token")
@click.option("--name", required=True, help="Who it is for; the actor of what they do.")
@click.option(
    "--role", type=click.Choice(["read", "operate", "admin"]), required=True,
    help="What they may do: read; also steer breakers and answer what waits; everything.",
)  # fmt: skip
@click.option("--expires", type=TIME, help="When it ends (UTC).")
@command_options(config=False)
def token(output: Output, name: str, role: str, expires: datetime | None) -> None:
    """Make a token: it is shown once, and what to put in pricemaker.toml with it.

    Example: pricemaker gateway token --name shop --role read --expires 2027-12-31
    """
    from pydantic import ValidationError

    from streams.gateway.access import new_token
    from streams.settings_gateway import TokenSettings

    secret, sha256 = new_token()
    expires_at = None if expires is None else expires.replace(tzinfo=UTC)
    try:
        TokenSettings.model_validate(
            {"name": name, "role": role, "sha256": sha256, "expires_at": expires_at}
        )
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"], param_hint="--name") from None
    lines = ["[[gateway.tokens]]", f'name = "{name}"', f'role = "{role}"', f'sha256 = "{sha256}"']
    if expires_at is not None:
        lines.append(f"expires_at = {expires_at.isoformat().replace('+00:00', 'Z')}")
    document = {
        "token": secret, "name": name, "role": role, "sha256": sha256,
        "expires_at": None if expires_at is None else expires_at.isoformat(),
    }  # fmt: skip
    shown = "\n".join(lines)
    output.document(
        document,
        f"The token, which is not kept anywhere:\n\n{secret}\n\nFor pricemaker.toml:\n\n{shown}",
    )
