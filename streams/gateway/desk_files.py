"""The desk's page: static files of the wheel."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from streams.desk import ASSETS
from streams.gateway.parts import Part


class _Files(StaticFiles):
    """Files that a browser may keep, and asks about each time: an upgrade shows at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


class DeskFiles(Part):
    """Serves the page at ``/desk/``."""

    name = "page"

    def __init__(self, assets: Path = ASSETS) -> None:
        self._assets = assets

    def mount(self, app: FastAPI) -> None:
        """Serve the files, where the page is installed."""
        if self._assets.is_dir():
            app.mount("/desk", _Files(directory=self._assets, html=True), name="desk")
