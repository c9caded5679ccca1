"""Good files made bad: flipped, cut, doubled, and with other numbers and words where the format has some."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

NUMBERS = (0, 1, -1, 2, 127, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64 - 1)
NESTED: list[Any] = []
for _ in range(300):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1.5, 1e308, -1e308, math.inf, -math.inf, math.nan),
    *(2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400, "", "x", "0", "none", "true", "1e400"),
    *("\0", "\ud800", "\x1b[31m", "é" * 50, "a" * 20_000, "9" * 5_000, "(a+)+$", "(" * 200, "[", "*", "**"),
    *(
        "../../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "-",
        "os:system",
        "__class__",
        "undefined",
    ),
    *([], {}, [[]], [None], [0], [-1], [1, 1], ["x"], {"x": 1}, {"": {}}, list(range(300)), NESTED),
)

_WRITTEN = [json.dumps(value) for value in VALUES]


def _hostile(random: Random) -> Any:
    return json.loads(random.choice(_WRITTEN))


# -- bytes --------------------------------------------------------------------------------------


def bytes_mutated(random: Random, data: bytes) -> bytes:
    """Do one to four of the things that disks, networks and people with an editor do."""
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(_BYTES)(random, data)
    return data


def _place(random: Random, data: bytes) -> int:
    """Return a position, often near the begin, where formats keep lengths."""
    return random.randrange(min(len(data), random.choice((16, 64, 1 << 20))) + 1)


def _flipped(random: Random, data: bytes) -> bytes:
    place = _place(random, data)
    return (
        data[:place]
        + bytes(b ^ 1 << random.randrange(8) for b in data[place : place + 1])
        + data[place + 1 :]
    )


def _set(random: Random, data: bytes) -> bytes:
    place, size = _place(random, data), random.choice((1, 1, 2, 4, 8))
    number = random.choice((*NUMBERS, len(data), len(data) - 8, random.getrandbits(64))) % (1 << 8 * size)
    return data[:place] + number.to_bytes(size, random.choice(("little", "big"))) + data[place + size :]


def _cut(random: Random, data: bytes) -> bytes:
    return data[: _place(random, data)]


def _without(random: Random, data: bytes) -> bytes:
    place = _place(random, data)
    return data[:place] + data[place + random.choice((1, 4, 16, 100)) :]


def _doubled(random: Random, data: bytes) -> bytes:
    begin, size = _place(random, data), random.choice((1, 8, 64, 1000))
    place = _place(random, data)
    return data[:place] + data[begin : begin + size] * random.choice((1, 1, 3, 20)) + data[place:]


def _noise(random: Random, data: bytes) -> bytes:
    place = _place(random, data)
    return data[:place] + random.randbytes(random.choice((1, 3, 8, 40))) + data[place:]


_BYTES = (_flipped, _flipped, _set, _set, _cut, _without, _doubled, _noise)


# -- JSON ---------------------------------------------------------------------------------------


def value_mutated(random: Random, value: Any) -> Any:
    """Replace, leave out, double or rename one to three of some plain values, and return them."""
    for _ in range(random.choice((1, 1, 2, 3))):
        holders = [value] if isinstance(value, list | dict) else []
        for holder in holders:
            inside = holder.values() if isinstance(holder, dict) else holder
            holders += [part for part in inside if isinstance(part, list | dict)][:200]
        holders = [holder for holder in holders if holder]
        if not holders:
            return _hostile(random)
        _change(random, random.choice(holders))
    return value


def _change(random: Random, holder: Any) -> None:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    key, other = random.choice(keys), random.choice(keys)
    what = random.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1:
        holder[key] = json.loads(json.dumps(holder[other]))
    elif what == 2 and isinstance(holder, dict):
        holder[str(_hostile(random))[:50]] = holder.pop(key)
    elif what == 2:
        holder += holder[:50]
    elif what == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] += random.choice((1, -1, 255, 2**40))
    elif what == 4 and isinstance(holder[key], str):
        holder[key] = bytes_mutated(random, holder[key].encode("utf-8", "surrogatepass")).decode(
            "utf-8", "surrogateescape"
        )
    else:
        holder[key] = _hostile(random)


def json_mutated(random: Random, data: bytes) -> bytes:
    """Change values of a JSON file, or its bytes."""
    if random.random() < 0.3:
        return bytes_mutated(random, data)
    return json.dumps(value_mutated(random, json.loads(data))).encode()


def checksummed_json_mutated(random: Random, data: bytes) -> bytes:
    """Change JSON below a line with its checksum, which is sometimes made right again."""
    if random.random() < 0.3:
        return bytes_mutated(random, data)
    body = json_mutated(random, data.partition(b"\n")[2])
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


# -- safetensors --------------------------------------------------------------------------------

_DTYPES = ("F32", "F64", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F4", "C64", "X")


def safetensors_mutated(random: Random, data: bytes) -> bytes:
    """Change what charrnn says in the header, what safetensors says there, the numbers, or any byte."""
    if random.random() < 0.15:
        return bytes_mutated(random, data)
    size = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    if random.random() < 0.7:
        meta = header["__metadata__"]
        meta["charrnn"] = json_mutated(random, meta["charrnn"].encode()).decode("utf-8", "replace")
    elif random.random() < 0.5:
        rest = _numbers_mutated(random, rest)
    else:
        name = random.choice([name for name in header if name != "__metadata__"])
        if random.random() < 0.3:
            header[name]["dtype"] = random.choice(_DTYPES)
        elif random.random() < 0.3:
            header[str(random.choice((name + "x", "x", "optimizer.9.step", "optimizer.x.y")))] = header.pop(
                name
            )
        else:
            header = value_mutated(random, header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def _numbers_mutated(random: Random, data: bytes) -> bytes:
    """Put a few numbers in the place of others, such as NaN, infinity and the largest."""
    place = random.randrange(max(1, len(data) // 4)) * 4
    number = random.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\x80\xbf", bytes(4)))
    return data[:place] + number * random.choice((1, 2)) + data[place + 4 :]


# -- .npy ---------------------------------------------------------------------------------------


def npy_mutated(random: Random, data: bytes) -> bytes:
    """Change type, shape or bytes of an array on disk."""
    if random.random() < 0.4:
        return bytes_mutated(random, data)
    size = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + size].decode("latin-1")
    kinds = (
        "<f4",
        "<i8",
        ">u2",
        "|O",
        "|u1",
        "<U9",
        "|S0",
        "|V8",
        "<M8[s]",
        "<f3",
        "<f16",
        "[('a','<i4')]",
        "x",
    )
    shapes = ("()", "(0,)", "(-1,)", f"({10**12},)", f"({10**30},)", "(2, 3)", "(1e9,)", "(True,)", "(" * 500)
    choices = (
        (r"'descr': '[^']*'", f"'descr': {random.choice(kinds)!r}"),
        (r"'shape': \([^)]*\)", f"'shape': {random.choice(shapes)}"),
        (r"\d+", str(random.choice(NUMBERS))),
        (r"'descr'", random.choice(("'desc'", "__import__('os')", "'shape'"))),
        (r"\}", random.choice((", 'x': 1}", "}" * 9, "} + 1", "-" * 3000 + "1}"))),
    )
    pattern, replacement = random.choice(choices)
    text = re.sub(pattern, lambda _: replacement, header, count=1).encode("latin-1")
    return data[:8] + (len(text) % 65536).to_bytes(2, "little") + text + data[10 + size :]


# -- text formats -------------------------------------------------------------------------------

_WORDS = (
    "[model]",
    "[",
    "]",
    "=",
    '"',
    "'''",
    "x",
    "nan",
    "inf",
    "-1",
    "9" * 5000,
    "1e400",
    "true",
    "1979-05-27",
)
_WORDS += (
    "{",
    "}",
    "a.b.c",
    "\n",
    "#",
    "\\u0000",
    "hidden_size",
    "documents",
    '"(a+)+$"',
    "[[model]]",
    "[" * 200,
)


def words_mutated(random: Random, data: bytes) -> bytes:
    """Put other words into a file that people write, or change its bytes."""
    if random.random() < 0.4:
        return bytes_mutated(random, data)
    words = re.split(r"(\s+|=|\[|\]|\")", data.decode("utf-8"))
    for _ in range(random.choice((1, 2, 5))):
        place = random.randrange(len(words))
        words[place : place + random.randrange(2)] = [random.choice((*_WORDS, random.choice(words)))]
    return "".join(words).encode("utf-8")


# -- compressed texts ---------------------------------------------------------------------------


def archive_mutated(header_size: int) -> Mutation:
    """Return what changes a compressed text; most often its checksums are made right again.

    Args:
        header_size: Bytes of its header, the checksum left out.
    """

    def mutated(random: Random, data: bytes) -> bytes:
        head, body = data[:header_size], data[header_size + 8 :]
        if random.random() < 0.25:
            return bytes_mutated(random, data)
        if random.random() < 0.5:
            head = bytes_mutated(random, head)
        else:
            body = bytes_mutated(random, body)
        return b"".join((head, _crc(head), _crc(body), body))

    return mutated


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


# -- whole runs ---------------------------------------------------------------------------------


def run_file_mutated(random: Random, data: bytes) -> bytes:
    """Change a file of a run, whose name is the first line; or say behind it what stands in its place."""
    first, _, content = data.partition(b"\n")
    if random.random() < 0.1:
        places = (first, b"last", b"best", b".lock", b"log.jsonl")
        kinds = (b"link", b"dangling", b"pipe", b"folder", b"gone")
        return random.choice(places) + b" " + random.choice(kinds) + b"\n"
    ways = {b".safetensors": safetensors_mutated, b".json": json_mutated}
    way = next((way for end, way in ways.items() if first.endswith(end)), bytes_mutated)
    return first + b"\n" + way(random, content)


# -- answers of a server ------------------------------------------------------------------------

_PLACES = (
    "http://x/y",
    "https://x/y",
    "file:///etc/passwd",
    "ftp://x",
    "//",
    "http://[",
    "",
    "/a b",
    "http://x:99999/",
)
_HEADERS = (
    "Content-Range: bytes 10-39/*",
    "Content-Range: bytes */40",
    "Content-Length: -1",
    "Content-Length: x",
)
_HEADERS += (
    "Transfer-Encoding: chunked",
    "Content-Encoding: gzip",
    "Connection: close",
    "X: " + "a" * 70_000,
)
_HEADERS += ("x", ": ", "\0: \x1b[31m", *["X: y"] * 3)
_STATUS = (
    b"199",
    b"200",
    b"204",
    b"206",
    b"301",
    b"302",
    b"304",
    b"307",
    b"401",
    b"407",
    b"416",
    b"500",
    b"999",
    b"-1",
)


def answer_mutated(random: Random, data: bytes) -> bytes:
    """Change the numbers of an answer, its status or its headers; add one; or change its bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    way = random.randrange(5)
    if way == 0:
        return bytes_mutated(random, data)
    if way == 1:
        number = str(random.choice((*NUMBERS, "9" * 5000, -1, 9, 10, 11, 39, 40, 41, ""))).encode()
        places = list(re.finditer(rb"\d+", data))[:9]
        begin, end = random.choice(places).span()
        return data[:begin] + number + data[end:]
    if way == 2:
        head = re.sub(rb" \d+ ", b" " + random.choice(_STATUS) + b" ", head, count=1)
        head += b"\r\nLocation: " + random.choice(_PLACES).encode()
    elif way == 3:
        lines = head.split(b"\r\n")
        lines.insert(random.randrange(len(lines) + 1), random.choice(_HEADERS).encode())
        head = b"\r\n".join(lines)
    else:
        body = bytes_mutated(random, body)
    return head + b"\r\n\r\n" + body * random.choice((1, 1, 1, 2, 50))
