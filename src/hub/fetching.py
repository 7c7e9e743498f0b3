"""How a source is asked over HTTP: within its `url`, in bounded time and size, with no secret in an address.

Redirects are not followed, proxies of the environment not used: whom the hub asks is what the operator wrote.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import quote, quote_plus, urlsplit

import httpx2

from hub.connector import Response
from hub.errors import Misuse, Unavailable

LARGEST_BYTES = 64 * 1024 * 1024
LONGEST_S = 120.0
"""For a whole answer; each wait for its next piece is shorter."""

_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_RETRY_S = 24 * 3600.0


@cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates count. To read them all takes longer than to ask."""
    return httpx2.create_ssl_context(trust_env=False)


class Fetcher:
    """Asks one source. Calling it is `hub.connector.Fetch`. whom: how errors call who is asked."""

    def __init__(
        self,
        url: str,
        secrets: Iterable[str] = (),
        *,
        whom: str = "the source",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._secrets, self._monotonic = url.rstrip("/"), tuple(secrets), monotonic
        self._whom = whom
        self._client = httpx2.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=_trusted())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __call__(
        self,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        allow: Sequence[int] = (),
    ) -> Response:
        """See `hub.connector.Fetch`."""
        url = httpx2.URL(self._below(path), params=dict(params)) if params else httpx2.URL(self._below(path))
        self._check_secrets(str(url))
        deadline = self._monotonic() + LONGEST_S
        try:
            request = self._client.build_request(method, url, headers=dict(headers or {}), content=body)
            answer = self._client.send(request, stream=True)
            try:
                content = self._read(answer, deadline)
            finally:
                answer.close()
        except httpx2.TimeoutException:
            raise Unavailable(f"{self._whom} does not answer in time") from None
        except httpx2.HTTPError as error:
            raise Unavailable(f"{self._whom} cannot be reached ({type(error).__name__})") from None
        self._check_status(answer, allow)
        return Response(
            status=answer.status_code,
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=content,
        )

    def _below(self, path: str) -> str:
        """The whole address. Raises Misuse for one that is not below the source's url."""
        url = path if "://" in path else f"{self._url}/{path.lstrip('/')}"
        try:
            base, parts = urlsplit(self._url), urlsplit(url)
        except ValueError:
            raise Misuse("an address that cannot be read is not asked") from None
        same = (parts.scheme, parts.netloc) == (base.scheme, base.netloc)
        inside = parts.path == base.path or parts.path.startswith(base.path.rstrip("/") + "/")
        steps = parts.path.replace("%2e", ".").replace("%2E", ".").split("/")
        if not (same and inside) or ".." in steps:
            raise Misuse("an address that is not below the source's url is not asked")
        return url

    def _check_secrets(self, url: str) -> None:
        for secret in self._secrets:
            if any(form in url for form in (secret, quote(secret, safe=""), quote_plus(secret))):
                raise Misuse("a secret would stand in the address, and in the logs on its way; send it in a header")

    def _read(self, answer: httpx2.Response, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        for part in answer.iter_bytes():
            size += len(part)
            if size > LARGEST_BYTES:
                raise Misuse(f"the answer of {self._whom} is larger than 64 MiB; ask for smaller pages")
            if self._monotonic() > deadline:
                raise Unavailable(f"the answer of {self._whom} takes longer than two minutes")
            parts.append(part)
        return b"".join(parts)

    def _check_status(self, answer: httpx2.Response, allow: Sequence[int]) -> None:
        status = answer.status_code
        if 200 <= status < 300 or status == 304 or status in allow:
            return
        if status in _PASSING:
            raise Unavailable(f"{self._whom} answers {status}", retry_after_s=_retry_after_s(answer))
        if status in (401, 403):
            raise Misuse(f"{self._whom} answers {status}: see the secret or token, and what it may do there")
        raise Misuse(f"{self._whom} answers {status}: see the url and options")


def _retry_after_s(answer: httpx2.Response) -> float | None:
    """RFC 9110 10.2.3: seconds, or a date, measured by the source's own clock where it tells that."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return min(float(said[:9]), _LONGEST_RETRY_S)
    try:
        wait = parsedate_to_datetime(said) - parsedate_to_datetime(answer.headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    return min(max(wait.total_seconds(), 0.0), _LONGEST_RETRY_S)
