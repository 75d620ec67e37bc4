"""A client of the REST API that raises errors as one readable line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from inference_contract import values
from inference_local.cli.errors import CliError
from inference_local.cli.terminal import program


class Api:
    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        # trust_env=False ignores proxy variables: the server is usually on this machine.
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(70, connect=5),
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of the response; None if it has no body.

        Raises:
            CliError: with the server's error message.
        """
        return self.reply(method, path, **options).json_or_none()

    def reply(self, method: str, path: str, **options: Any) -> ApiReply:
        """Raises CliError."""
        _check(path)
        _check(options.get("json"))
        try:
            response = self._http.request(method, path, **options)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CliError(f"{self.url} is not a URL: {error}") from error
        except httpx.ConnectError as error:
            raise CliError(
                f"no server answers at {self.url}: start it with `{program()} up`"
            ) from error
        except httpx.HTTPError as error:
            was_sent = not isinstance(error, httpx.ConnectTimeout)
            doubt = _doubt(method) if was_sent else ""
            raise CliError(f"{self.url}{path}: {error or type(error).__name__}{doubt}") from error
        if response.is_error:
            raise CliError(problem(response))
        return ApiReply(response.status_code, response)

    def pages(self, path: str, limit: int, **params: str) -> Iterator[dict[str, Any]]:
        """Results over all pages, at most `limit`."""
        url: str | None = path
        given: dict[str, str] | None = params
        while url and limit > 0:
            page = self.call("GET", url, params=given)
            results = page["results"][:limit]
            yield from results
            limit -= len(results)
            url, given = page["next"], None

    def events(self, url: str) -> Iterator[ServerSentEvent]:
        """Server-sent events until `done`; reconnects with Last-Event-ID after a broken connection.

        Raises:
            CliError: if the server cannot be reached again.
        """
        last_id: str | None = None
        for _ in range(_CONNECTS):
            headers = {"Accept": "text/event-stream"}
            if last_id is not None:
                headers["Last-Event-ID"] = last_id
            try:
                with self._http.stream("GET", url, headers=headers) as response:
                    if response.is_error:
                        response.read()
                        raise CliError(problem(response))
                    for event in EventSource(response).iter_sse():
                        last_id = event.id or last_id
                        yield event
                        if event.event == "done":
                            return
            except httpx.TransportError:
                continue
            except SSEError as error:
                raise CliError(f"{self.url} is no server of ours: {error}") from error
        raise CliError(f"the stream of {self.url} broke off: `{program()} predictions get` has it")


class ApiReply(NamedTuple):
    status: int
    response: httpx.Response

    def json_or_none(self) -> Any:
        return self.response.json() if self.response.content else None


_CONNECTS = 5


def _doubt(method: str) -> str:
    """A note for the error message of a request whose outcome is unknown."""
    if method == "GET":
        return ""
    return "; whether this was done is not known: look before you repeat it"


def _check(value: object) -> None:
    """Reject values that JSON cannot represent. Raises CliError."""
    try:
        values.check(value)
    except values.Unacceptable as error:
        where = values.place(value) or "what you give"
        raise CliError(f"{where} {error}") from error


def problem(response: httpx.Response) -> str:
    """The text of an RFC 9457 problem: its detail, then field errors that the detail lacks."""
    try:
        body = response.json()
        detail = str(body["detail"])
    except (ValueError, KeyError, TypeError):
        doubt = _doubt(response.request.method) if response.is_server_error else ""
        return f"{response.request.url}: {response.status_code} {response.reason_phrase}{doubt}"
    lines = [
        detail,
        *(
            f"  {error['field']}: {error['message']}"
            for error in body.get("errors", ())
            if not (error["field"] in detail and error["message"] in detail)
        ),
    ]
    if response.status_code == httpx.codes.UNAUTHORIZED:
        lines[0] += f" (see `{program()} login`)"
    return "\n".join(lines)
