"""The desk's files: vendored ones are what npm has, and a page loads nothing that is not ours."""

import hashlib
import re

from streams.desk import ASSETS
from tests.desk.vendored import IMPORTS, ROOT, hashes, packages

IMPORT = re.compile(r"""(?:\bfrom\s*|^import\s*|new URL\()["']([^"'\s]+)["']""", re.MULTILINE)
ADDRESS = re.compile(r"""https?://(?!www\.w3\.org/)[^\s"'`)]+""")
INLINE = re.compile(r"""<script(?![^>]*\ssrc=)|<style|\sstyle=["']|\son\w+=["']""")


def vendored_paths() -> set[str]:
    return {path for package in packages() for path in package["files"].values()}


def test_vendored_files_are_as_they_were_fetched() -> None:
    assert set(hashes()) == vendored_paths()
    found = {path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest() for path in hashes()}
    assert found == hashes()


def test_nothing_is_vendored_without_its_license_or_unnamed() -> None:
    folders = {path.rpartition("/")[0] for path in vendored_paths()}
    there = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).iterdir()
    }
    assert there == vendored_paths()
    licensed = [one["name"] for one in packages() if "LICENSE" in one["files"]]
    # one license for both packages of signals, which are made in one repository
    assert [one["name"] for one in packages() if one["name"] not in licensed] == ["@preact/signals"]


def test_dependencies_are_told() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    missing = [
        one["name"]
        for one in packages()
        if f"| {one['name']} | {one['version']}, {one['released']} |" not in page
    ]
    assert missing == []


def test_modules_import_only_files_that_are_there() -> None:
    dead = []
    for module in ASSETS.rglob("*.js"):
        for name in IMPORT.findall(module.read_text()):
            if not name.startswith(".") or not (module.parent / name).is_file():
                dead.append((module.name, name))
    assert dead == []
    assert set(IMPORTS) == {"preact", "preact/hooks", "@preact/signals-core"}


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_inline() -> None:
    ours = [path for path in ASSETS.rglob("*") if path.suffix in {".js", ".css", ".html"}]
    ours = [path for path in ours if path.parent.name != "vendor"]
    assert [(path.name, ADDRESS.findall(path.read_text())) for path in ours] == [
        (path.name, []) for path in ours
    ]
    assert INLINE.findall((ASSETS / "index.html").read_text()) == []
