"""No network: in tests and notebook kernels every connection to another machine is refused.

A notebook that downloads would fail on a train and in a classroom, and print something else
tomorrow. Assets are fetched before anything runs (:func:`minift.course.environment.fetch_assets`).
"""

import ipaddress
import socket
import sys
from typing import Any

_STATE = {"cut": False}
_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_ADDRESSES = {"socket.connect", "socket.sendto", "socket.sendmsg"}


class NetworkRefused(RuntimeError):
    """A test or a notebook's cell tried to reach another machine.

    No ``OSError``, which libraries catch to try again or to go another way in silence.
    """


def cut_network() -> None:
    """Refuse, from here to the end of this process, to look up or to reach any other machine.

    This machine's own addresses stay: kernels, browsers and test servers use them. It rests on
    Python's audit events, so that no library's own copy of ``connect`` goes past it; a process
    started from here has a network again.
    """
    if not _STATE["cut"]:
        _STATE["cut"] = True
        sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _NAMES:
        host = arguments[0]
    elif event in _ADDRESSES:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else None
    else:
        return
    if not _here(host):
        raise NetworkRefused(
            f"network: {_text(host)} is another machine; tests and notebooks run without a "
            "network: what they need is fetched before, as an asset (minift/assets/catalog.py)"
        )


def _here(host: Any) -> bool:
    """Whether a host is this machine; a path (a Unix socket) and an empty name are."""
    text = _text(host)
    if text in ("", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _text(host: Any) -> str:
    if isinstance(host, (bytes, bytearray)):
        return host.decode("ascii", "replace")
    return "" if host is None else str(host)
