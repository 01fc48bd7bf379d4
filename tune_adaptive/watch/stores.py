"""Where trackers write: whether it can be written, and how it is named."""

import errno
import os
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_S = 5.0


def make_writable(folder: Path) -> None:
    """Make a folder and look whether it can be written; trackers find out in mid-search only.

    Raises:
        OSError: It cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has.

    Raises:
        OSError: It has a question mark, and SQLAlchemy is older than 2.1.
    """
    import sqlalchemy

    url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()
    if sqlalchemy.make_url(url).database != str(path):
        raise OSError(f"{path}: no URL can name it: SQLAlchemy before 2.1 leaves ? as it is")
    return url


def knock(uri: str) -> None:
    """See whether a tracking URI leads anywhere; MLflow asks for minutes before it gives up.

    Raises:
        OSError: Nothing answers there, or it cannot be written.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and not urllib.request.getproxies():
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        try:
            socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
        except OSError as error:
            raise OSError(f"nothing answers at {uri} ({error})") from error
    elif parts.scheme == "sqlite":
        import sqlalchemy

        path = Path(sqlalchemy.make_url(uri).database or "")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
