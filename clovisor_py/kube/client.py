"""The API server, as Clovisor talks to it: pages of lists, watches, and the few things that it writes; raw JSON in and out.

Every refusal is one sentence that names what was tried on what, and a type that says what it means for whoever asked:
ApiUnavailable (try again later), Forbidden (somebody must grant it), Gone (start over), NotFound, and ApiRefused for the
rest. Thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import orjson
import urllib3
from urllib3.exceptions import HTTPError

from clovisor_py.errors import ApiRefused, ApiUnavailable, ClovisorError, Forbidden, Gone, NotFound
from clovisor_py.kube._connection import Connection
from clovisor_py.kube._page import read_page
from clovisor_py.kube._stream import EventStream
from clovisor_py.kube.objects import Json, Ref
from clovisor_py.kube.resources import ACCESS_REVIEWS, EVENTS, RESOURCES, REVIEWS, Resource

PAGE: Final = 500
"""Objects in a page: client-go's number; a page of pods is some megabytes, for the moment in which it is read."""
ANSWER_S: Final = 30.0
"""Longest silence in an answer that should come at once; a page of a busy server takes seconds."""
WATCH_MARGIN_S: Final = 15.0
"""How much longer than the server's own time-out a silent watch is believed."""
LONGEST_ANSWER: Final = 256 * 1024 * 1024
"""Bytes of one answer: 500 objects of half a megabyte each."""
LONGEST_MESSAGE: Final = 1024
"""Characters of an Event's message that the API server takes."""
_APPLY: Final = "application/apply-patch+yaml"

NOT_KNOWN: Final = "the API server {} does not know who asks to {} {} (401): renew the token or certificate in the kubeconfig."
FORBIDDEN: Final = "the API server forbids to {} {} (403): grant the verb '{}' on '{}' (manifests/base has the whole role)."
NOT_FOUND: Final = "the API server has no {} (404): check the name, and which cluster the kubeconfig points to."
GONE: Final = "the API server no longer has what came before: it must {} {} from the start (410)."
REFUSED: Final = "the API server refused to {} {} ({}): {}"
OVERLOADED: Final = "the API server {} could not {} {} ({}): it is asked again; its own log says why."
NONSENSE: Final = "the API server {} did not answer with a JSON object when asked to {} {}: check what proxy is in between."


class Client:
    """One API server. `kubeconfig`: by default KUBECONFIG, else the pod's service account, else the user's own file.

    Raises ApiUnavailable if there is none that can be used; whether the server answers shows at the first request.
    """

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self._connection = Connection(kubeconfig, context)
        self.host = self._connection.host
        """Its URL."""

    def close(self) -> None:
        """Close connections that are not in use."""
        self._connection.close()

    def get_page(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        limit: int = PAGE,
        continue_: str = "",
        each: Callable[[Json], None] | None = None,
    ) -> Json:
        """A page of a list: `items`, and `metadata` with `resourceVersion` and `continue` (if there is more).

        With `each`, that is handed the items one by one, also of a page that turns out to be broken, and the page has none.
        Of all namespaces, or of one; never select that one by the field `metadata.namespace`: the tokens of a real server's
        pages then lead to a wrong place, and objects are missed. Raises Gone when `continue_` is too old.
        """
        query = {"limit": str(limit), "continue": continue_, **_selectors(field_selector, label_selector)}
        parse = orjson.loads if each is None else partial(read_page, each=each)
        accept = resource.accept(listing=True)
        return self._answer("GET", "list", resource, resource.url(namespace), query, accept=accept, parse=parse)

    def watch(
        self,
        resource: Resource,
        resource_version: str,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        timeout_s: float = 300.0,
    ) -> EventStream:
        """The events after that version, bookmarks among them, until the server ends it after `timeout_s`.

        The stream must be closed (`with` does). Opening and reading raise Gone when the version is too old.
        """
        query = {"watch": "1", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        query |= {"timeoutSeconds": str(max(1, int(timeout_s))), **_selectors(field_selector, label_selector)}
        url, what = _url(resource.url(namespace), query), resource.plural
        accept = resource.accept(listing=False)
        response = self._connection.request("GET", url, read_s=timeout_s + WATCH_MARGIN_S, accept=accept)
        if response.status != 200:
            self._read(response, "watch", resource, what)

        def refusal(code: int, message: str) -> ClovisorError:
            return self._refusal(code, message, "watch", resource, what)

        return EventStream(response, self.host, self._connection.unavailable, refusal)

    def get(self, kind: str, namespace: str, name: str) -> Json:
        """One object, whole. Raises NotFound."""
        resource = RESOURCES[kind]
        return self._answer("GET", "get", resource, resource.url(namespace, name), about=_about(kind, namespace, name))

    def apply(
        self,
        kind: str,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        field_manager: str,
        dry_run: bool = False,
        force: bool = False,
    ) -> Json:
        """Server-side apply: the object as it is (or, dry, would be) afterwards.

        `body` is what is wanted; its kind and name are filled in. An object that is not there would be made, save if the body's
        metadata has a `uid`: give that of the object that was looked at. Without `force`, a field that another manager
        owns with another value raises ApiRefused, which names both.
        """
        resource = RESOURCES[kind]
        metadata = {**body.get("metadata", {}), "name": name, **({"namespace": namespace} if resource.namespaced else {})}
        whole = {**body, "apiVersion": resource.api_version, "kind": kind, "metadata": metadata}
        query = {"fieldManager": field_manager, "force": "true" if force else "", "dryRun": "All" if dry_run else ""}
        about = _about(kind, namespace, name)
        return self._answer("PATCH", "patch", resource, resource.url(namespace, name), query, body=whole, about=about)

    def create_event(
        self, about: Ref, uid: str, reason: str, message: str, *, warning: bool = True, node: str = "", action: str = "Trace"
    ) -> Json:
        """An Event that `kubectl describe` shows at the object; `reason` is one word, `message` a sentence."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        namespace = about.namespace or "default"  # where those of objects without a namespace belong
        known = RESOURCES.get(about.kind)
        subject = {"apiVersion": known.api_version if known else "", "kind": about.kind, "name": about.name, "uid": uid}
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"generateName": f"{about.name[:200]}.", "namespace": namespace},
            "involvedObject": {**subject, "namespace": about.namespace},
            "reason": reason,
            "message": message[:LONGEST_MESSAGE],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "clovisor", "host": node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "action": action,
            "reportingComponent": "clovisor.io/agent",
            "reportingInstance": node,
        }
        return self._answer("POST", "create", EVENTS, EVENTS.url(namespace), body=body)

    def may(self, verb: str, resource: Resource) -> bool:
        """Whether the API server would let this account do that to all of them, everywhere."""
        wanted = {"verb": verb, "resource": resource.plural, "group": resource.group}
        status = self._ask(ACCESS_REVIEWS, {"resourceAttributes": wanted})
        return status.get("allowed") is True

    def who(self) -> str:
        """Our account, as the API server calls it. Raises NotFound where that is too old (before 1.28) to say."""
        user = self._ask(REVIEWS).get("userInfo")
        return str(user.get("username", "")) if isinstance(user, dict) else ""

    def _ask(self, resource: Resource, spec: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The status of an object that is a question."""
        body = {"apiVersion": resource.api_version, "kind": resource.kind} | ({} if spec is None else {"spec": spec})
        status = self._answer("POST", "create", resource, resource.url(), body=body).get("status")
        return status if isinstance(status, dict) else {}

    def _answer(
        self,
        verb: str,
        doing: str,
        resource: Resource,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        about: str = "",
        parse: Callable[[bytes], Any] = orjson.loads,
    ) -> Json:
        response = self._connection.request(
            verb,
            _url(url, query or {}),
            read_s=ANSWER_S,
            accept=accept,
            body=None if body is None else orjson.dumps(body),
            content_type=_APPLY if verb == "PATCH" else "application/json",
        )
        return self._read(response, doing, resource, about or resource.plural, parse)

    def _read(
        self,
        response: urllib3.BaseHTTPResponse,
        doing: str,
        resource: Resource,
        about: str,
        parse: Callable[[bytes], Any] = orjson.loads,
    ) -> Json:
        """The answer's body; raises what a status other than 2xx means."""
        try:
            raw = response.read(LONGEST_ANSWER)
        except (HTTPError, OSError) as error:
            raise self._connection.unavailable(error) from error
        finally:
            response.close()  # one that was read to its end has given its connection back already
        good = 200 <= response.status < 300
        try:
            answer = parse(raw) if good else orjson.loads(raw)
        except ValueError:
            answer = None
        if not good:
            message = answer.get("message") if isinstance(answer, dict) else None
            raise self._refusal(response.status, str(message or response.reason or ""), doing, resource, about)
        if not isinstance(answer, dict):
            raise ApiUnavailable(NONSENSE.format(self.host, doing, about))
        return answer

    def _refusal(self, code: int, message: str, doing: str, resource: Resource, about: str) -> ClovisorError:
        """What a status means, in a sentence."""
        match code:
            case 401:
                return Forbidden(NOT_KNOWN.format(self.host, doing, about))
            case 403:
                return Forbidden(FORBIDDEN.format(doing, about, doing, resource.rule))
            case 404:
                return NotFound(NOT_FOUND.format(about))
            case 410:
                return Gone(GONE.format(doing, about))
            case 429 | 502 | 503 | 504 | 0:
                return ApiUnavailable(OVERLOADED.format(self.host, doing, about, message or code))
        return ApiRefused(REFUSED.format(doing, about, code, message))


def _selectors(field_selector: str, label_selector: str) -> Mapping[str, str]:
    return {"fieldSelector": field_selector, "labelSelector": label_selector}


def _url(path: str, query: Mapping[str, str]) -> str:
    asked = urlencode({key: value for key, value in query.items() if value})
    return f"{path}?{asked}" if asked else path


def _about(kind: str, namespace: str, name: str) -> str:
    return str(Ref(kind, namespace, name))
