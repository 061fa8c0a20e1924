"""URLs that a record may keep: no user, no password, no query."""

import re
from urllib.parse import urlsplit

from harness.retrievers.errors import InputError

_WANT = "want http://HOST:PORT/PATH, or https"


def checked(url: str, secrets: str) -> str:
    """The URL of a service, without a slash at its end.

    `secrets` says where its credentials belong. Raises InputError for a URL that holds them, or that is none; of one
    that may hold a secret the message shows nothing.
    """
    if "@" in url:
        raise InputError(
            f"the service's URL holds an @, so perhaps a user name and a password, which a record would keep. {secrets}"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"the service's URL has no valid host and port; {_WANT}.") from error
    if "?" in url or "#" in url:
        raise InputError(f"the service's URL goes on with ? or # behind {parts.hostname}; {_WANT}. {secrets}")
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\0-\x20\x7f]", url):
        raise InputError(f"{url!r:.80} is no URL of a service; {_WANT}.")
    return url.rstrip("/")


def short(url: str) -> str:
    """A checked URL as a table shows it: without its scheme."""
    return url.partition("://")[2]
