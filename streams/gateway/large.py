"""Answers of megabytes: made and compressed in a thread, so that the streams go on meanwhile."""

import asyncio
import zlib
from collections.abc import Callable, Mapping

from fastapi import Request, Response

GZIP_LEVEL = 3
GZIP_BYTES_MIN = 1_000
_GZIP_WINDOW = 31  # zlib's number for a gzip frame with the largest window


async def large(
    request: Request, make: Callable[[], bytes], media_type: str, headers: Mapping[str, str]
) -> Response:
    """The answer with the body that ``make`` makes, compressed where the client takes gzip."""
    gzip = "gzip" in request.headers.get("accept-encoding", "")
    body, compressed = await asyncio.to_thread(_made, make, gzip)
    found = {**headers, "Vary": "Accept-Encoding"}
    if compressed:
        found["Content-Encoding"] = "gzip"
    return Response(body, 200, found, media_type)


def _made(make: Callable[[], bytes], gzip: bool) -> tuple[bytes, bool]:
    body = make()
    if not gzip or len(body) < GZIP_BYTES_MIN:
        return body, False
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return packer.compress(body) + packer.flush(), True
