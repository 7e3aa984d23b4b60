"""Gives a compiled Java class the hash code that its equality asks for.

ScienceWorld's things are equal where their identifiers are, but hash by identity: in sets they stand in an
order that differs from load to load. Hashing them by identifier makes the order a function of the load, and
keeps sets fast. The file format is that of the Java Virtual Machine Specification, chapter 4.
"""

from __future__ import annotations

import struct

_UTF8, _METHOD, _NAME_AND_TYPE = 1, 10, 12
_SIZES = {
    **dict.fromkeys((7, 8, 16, 19, 20), 3),
    15: 4,
    **dict.fromkeys((3, 4, 9, 10, 11, 12, 17, 18), 5),
    **dict.fromkeys((5, 6), 9),
}
"""Bytes of a constant, its tag included, by tag; those of 5 and 6 (long and double) take two numbers."""


def with_hash_code(content: bytes, getter: str) -> bytes:
    """The class with `public int hashCode() { return (int) getter(); }`.

    Args:
        content: a class file whose class has no `hashCode` of its own and calls its own `getter` somewhere.
        getter: name of a method that takes nothing and returns a long.
    """

    def u2(at: int) -> int:
        return int.from_bytes(content[at : at + 2], "big")

    def after_members(at: int) -> int:
        count, at = u2(at), at + 2
        for _ in range(count):
            attributes, at = u2(at + 6), at + 8
            for _ in range(attributes):
                at += 6 + int.from_bytes(content[at + 2 : at + 6], "big")
        return at

    words: dict[bytes, int] = {}
    pairs: dict[tuple[int, int, int], int] = {}  # (tag, first, second) of methods and of names with types
    number, numbers, at = 1, u2(8), 10
    while number < numbers:
        tag = content[at]
        if tag == _UTF8:
            size = 3 + u2(at + 1)
            words[content[at + 3 : at + size]] = number
        else:
            size = _SIZES[tag]
            if tag in (_METHOD, _NAME_AND_TYPE):
                pairs[tag, u2(at + 1), u2(at + 3)] = number
        at += size
        number += 2 if tag in (5, 6) else 1
    constants = at
    named = pairs[_NAME_AND_TYPE, words[getter.encode()], words[b"()J"]]
    method = pairs[_METHOD, u2(constants + 2), named]
    interfaces = constants + 6
    methods = after_members(interfaces + 2 + 2 * u2(interfaces))
    end = after_members(methods)

    def counted(count: int) -> bytes:
        return struct.pack(">H", count)

    new_words = b"".join(struct.pack(">BH", _UTF8, len(word)) + word for word in (b"hashCode", b"()I"))
    body = struct.pack(">BBHBB", 0x2A, 0xB6, method, 0x88, 0xAC)  # aload_0, invokevirtual, l2i, ireturn
    code = struct.pack(">HHI", 2, 1, len(body)) + body + struct.pack(">HH", 0, 0)
    hash_code = struct.pack(">HHHHHI", 1, numbers, numbers + 1, 1, words[b"Code"], len(code)) + code
    pool = counted(numbers + 2) + content[10:constants] + new_words
    members = counted(u2(methods) + 1) + content[methods + 2 : end] + hash_code
    return content[:8] + pool + content[constants:methods] + members + content[end:]
