"""Which network addresses may be connected to when a program chooses them, or a name of the world's does.

May import: stdlib.

A name is judged by the addresses it stands for, at the moment of connecting, and the connection is made to the very
address that was judged: whoever owns the name can't answer differently in between (DNS rebinding). The world's own
addresses are free. Those of this machine and of private networks need permission, or to be written out in the
configuration. Link-local addresses and those under which clouds hand out credentials have to be written out, whatever
is permitted. What stands for "any" or "many" is nobody's address.

IPv6 has several ways of writing an IPv4 address; all of them are looked through.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

CREDENTIAL_ADDRESSES = frozenset(
    map(ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)
"""Where the clouds answer a machine's questions about itself."""

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")


def literal_address(host: str) -> Address | None:
    """Return the address that a host is written as; None when it is a name. `127.1` and `0x7f.1` count as names."""
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def is_loopback_name(host: str) -> bool:
    """Whether a name means this machine by itself (RFC 6761)."""
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def may_connect(address: Address, *, allow_private: bool, named: Address | None = None) -> bool:
    """Whether a connection may be made to an address.

    Args:
        address: What a name was resolved to.
        allow_private: Whether it may belong to this machine or a private network.
        named: The address that was written out in the configuration.
    """
    if any(face.is_multicast or face.is_unspecified for face in _faces(address)):
        return False
    if address == named:
        return True
    return all(_is_free(face, allow_private) for face in _faces(address))


def why_refused(address: Address) -> str:
    """Return what kind of address one is that was refused."""
    faces = list(_faces(address))
    for is_so, word in (
        (any(face in CREDENTIAL_ADDRESSES for face in faces), "an address of cloud credentials"),
        (any(face.is_loopback for face in faces), "this machine itself"),
        (any(face.is_link_local for face in faces), "a link-local address"),
        (any(face.is_multicast or face.is_unspecified for face in faces), "nobody's own address"),
    ):
        if is_so:
            return word
    return "an address of a private network"


def _is_free(face: Address, allow_private: bool) -> bool:
    if face.is_link_local or face in CREDENTIAL_ADDRESSES:
        return False
    if face.is_loopback:  # before `is_reserved`, which ::1 is, too
        return allow_private
    if face.is_reserved and not face.is_global:
        return False
    return face.is_global or allow_private


def _faces(address: Address) -> Iterator[Address]:
    """Yield an address and every IPv4 address inside it; one that is merely a way of writing IPv4 is only that."""
    if not isinstance(address, IPv6Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    last = IPv4Address(address.packed[-4:])
    if any(address in network for network in _NAT64):
        yield last
        return
    yield address
    if address in _COMPATIBLE and int(address) > 1:
        yield last
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
