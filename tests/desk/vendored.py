"""The desk's vendored JavaScript: `python -m tests.desk.vendored` fetches and writes it again.

Browsers resolve no bare names such as ``preact`` without an import map, and the desk's
Content-Security-Policy allows no inline one: imports are rewritten to the vendored files.
"""

import base64
import hashlib
import io
import re
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent.parent
MANIFEST = ROOT / "streams" / "desk" / "vendor.toml"
HASHES = ROOT / "streams" / "desk" / "vendor.sha256"
IMPORTS = {
    "preact": "./preact.js",
    "preact/hooks": "./preact-hooks.js",
    "@preact/signals-core": "./signals-core.js",
}
SOURCE_MAP = re.compile(r"\n//# sourceMappingURL=\S+\s*$")


def packages() -> list[dict[str, Any]]:
    """The vendored packages, as the manifest has them."""
    found = tomllib.loads(MANIFEST.read_text())["package"]
    assert isinstance(found, list)
    return found


def hashes() -> dict[str, str]:
    """SHA-256 of each vendored file, by path: what `sha256sum` prints."""
    lines = HASHES.read_text().splitlines()
    return {path: digest for digest, path in (line.split("  ") for line in lines)}


def adapted(source: str, name: str) -> str:
    """A file as it is vendored: relative imports, no link to a source map."""
    if name.endswith(".js"):
        for bare, relative in IMPORTS.items():
            source = source.replace(f'from"{bare}"', f'from"{relative}"')
        source = SOURCE_MAP.sub("\n", source)
    return source


def fetch(package: dict[str, Any]) -> dict[str, str]:
    """The package's files as they are vendored, by path."""
    name, version = package["name"], package["version"]
    address = f"https://registry.npmjs.org/{name}/-/{name.split('/')[-1]}-{version}.tgz"
    archive = httpx.get(address).raise_for_status().content
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if package["integrity"] != f"sha512-{digest}":
        raise SystemExit(f"{name} {version} is not what the manifest says: sha512-{digest}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {}
        for inside, path in package["files"].items():
            member = tar.extractfile(f"package/{inside}")
            assert member is not None
            found[path] = adapted(member.read().decode(), path)
        return found


def main() -> None:
    lines = []
    for package in packages():
        for path, text in fetch(package).items():
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text)
            lines.append(f"{hashlib.sha256(text.encode()).hexdigest()}  {path}")
    HASHES.write_text("\n".join(sorted(lines, key=lambda line: line.split()[1])) + "\n")


if __name__ == "__main__":
    main()
