"""The one kind of error that leaves a plugin, and its codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Codes below 100 are the specification's (SPEC.md, section "Error").
INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIGURATION = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
# Codes from 100 are a plugin's own; every plugin needs these.
DELEGATE_NOT_FOUND = 108
DELEGATE_FAILED = 109
INTERNAL = 199
# Codes with which a plugin answers a verb that is newer than itself: it asks for variables that the
# verb does not have, or doesn't know the verb or its CNI version.
OF_OLDER_PLUGINS = (INCOMPATIBLE_VERSION, UNKNOWN_CONTAINER, INVALID_ENVIRONMENT)


class CniError(Exception):
    """A failure in the form that the specification defines.

    ``code`` is the specification's, the plugin's or a delegate's own, ``msg`` one
    sentence, and ``details`` help to fix the problem: any number of lines, or
    none. ``private`` is for root only, since it names other containers or host
    interfaces; it is logged but never part of the error document. ``subject`` is the
    variable that is to blame, in ``msg`` or else ``details``; people may know it by another name.
    """

    def __init__(
        self, code: int, msg: str, details: str = "", private: str = "", subject: str = ""
    ) -> None:
        super().__init__(code, msg, details, private)
        self.code = code
        self.msg = msg
        self.details = details
        self.private = private
        self.subject = subject

    def __str__(self) -> str:
        """Return the message and all details, private ones included."""
        return _join(self.msg, self.explanation)

    @property
    def explanation(self) -> str:
        """All details, private ones included."""
        return _join(self.details, self.private)

    def add_details(self, text: str) -> None:
        """Append a line to the details."""
        self.details = _join(self.details, text)

    def add_private(self, text: str) -> None:
        """Append a line to the private details."""
        self.private = _join(self.private, text)

    def add_failure(self, other: CniError) -> None:
        """Append a later failure of the same call to the details, once."""
        text = _join(other.msg, other.details)
        lines = f"\n{_join(self.msg, self.details)}\n"
        if not any(f"\n{start}{text}\n" in lines for start in ("", "also: ")):
            self.add_details(f"also: {text}")
            self.add_private(other.private)

    def document(self, version: str) -> dict[str, object]:
        """Return the JSON error document for a request in CNI ``version``."""
        # Text quoted from a caller or delegate may be of any size; an error document may not.
        msg, details = shortened(self.msg, 1000), shortened(self.details, 4000)
        document: dict[str, object] = {"cniVersion": version, "code": self.code, "msg": msg}
        if self.private:
            details = _join(details, "the node's log has the rest")
        if details:
            document["details"] = details
        return document


def _join(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def shortened(text: str, most: int = 80) -> str:
    """Leave out the middle of a text of more than so many characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"


class Failures:
    """Collects failures, so that every step is tried before the first failure is raised."""

    def __init__(self) -> None:
        self._first: CniError | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Record a CniError and go on."""
        try:
            yield
        except CniError as error:
            if self._first is None:
                self._first = error
            else:
                self._first.add_failure(error)

    def raise_any(self) -> None:
        """Raise the first failure, if any, with the others in its details."""
        if self._first is not None:
            raise self._first
