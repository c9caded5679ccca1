"""Painted text: golden rows in fixed consoles, alignment, and which colour means what."""

from __future__ import annotations

import io
import random
import re

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console, Group
from rich.text import Text

from charrnn.rendering.paint import is_plain, legend, paint, value_style
from charrnn.rendering.text import visible

FAMILY = "👨\u200d👩\u200d👧"
HOSTILE = [
    *"ab 1#\n\n\t\r\0\x07\x1b\x7f\x80\x9b\u200e\u202e\u2028\ud800\udc80\xad",
    *"日本한ｱ…⏎→█é\u0301\u0308\u20e3\u200b\u200c\u200d\ufe0f\ufeff\u0e31क\u094d",
    *"👨👩❤♂🏳🏽🇩🇪🇫☺\U000e0067\U000e007f",
    FAMILY,
    "❤\ufe0f",
    "1\ufe0f\u20e3",
    "🏳\ufe0f\u200d🌈",
    "\r\n",
    "👋🏽",
]
SGR = re.compile(r"\x1b\[([0-9;]*)m")
DEEP_RED, DEEP_BLUE = "38;2;255;255;255;48;2;103;0;31", "38;2;255;255;255;48;2;5;48;97"


def console(color_system: str | None = "truecolor", width: int = 80, **settings: bool) -> Console:
    settings = {"force_terminal": True, **settings}
    return Console(
        width=width,
        file=io.StringIO(),
        color_system=color_system,
        _environ={},
        legacy_windows=False,
        **settings,
    )


def printed(rows: list[Text], color_system: str | None = "truecolor", width: int = 80) -> list[str]:
    target = console(color_system, width)
    target.print(Group(*rows))
    return target.file.getvalue().splitlines()


def plain_rows(text: str, width: int = 80, value: float = 0.0, marks: np.ndarray | None = None) -> list[str]:
    rows = paint(text, np.full(len(text), value), width=width, plain=True, marks=marks)
    return [row.plain for row in rows]


def text_rows(text: str, width: int = 80) -> list[str]:
    return plain_rows(text, width)[0::2]


def background(value: float, color_system: str = "truecolor") -> tuple[int, int, int]:
    return tuple(value_style(value, color_system).bgcolor.get_truecolor())


def hostile_texts(count: int = 200) -> list[str]:
    rng = random.Random(7)
    return ["".join(rng.choices(HOSTILE, k=rng.randrange(60))) for _ in range(count)]


@pytest.mark.parametrize(
    ("color_system", "expected"),
    [
        (
            "truecolor",
            [
                f"\x1b[{DEEP_RED}mif\x1b[0m\x1b[38;2;0;0;0;48;2;253;219;199m→\x1b[0m"
                f"(x\x1b[38;2;0;0;0;48;2;175;212;230m)\x1b[0m\x1b[{DEEP_BLUE}m⏎\x1b[0m",
                f"\x1b[{DEEP_BLUE}m}}\x1b[0m",
            ],
        ),
        (
            "256",
            [
                "\x1b[38;5;231;48;5;52mif\x1b[0m→(x\x1b[38;5;16;48;5;153m)\x1b[0m\x1b[38;5;231;48;5;17m⏎\x1b[0m",
                "\x1b[38;5;231;48;5;17m}\x1b[0m",
            ],
        ),
        ("standard", ["\x1b[97;41mif\x1b[0m→(x)\x1b[97;44m⏎\x1b[0m", "\x1b[97;44m}\x1b[0m"]),
        (None, ["if→(x)⏎", "}"]),
    ],
)
@pytest.mark.parametrize("width", [80, 120])
def test_colour_golden(color_system, expected, width):
    values = np.array([-1, -1, -0.07, 0, 0, 0.2, 1, 1])
    rows = paint("if\t(x)\n}", values, width=width, plain=False, color_system=color_system)
    assert printed(rows, color_system, width) == expected


def test_plain_golden():
    text = "if\t(x)\n日本 e\u0301!"
    values = np.array([-1, -0.7, -0.4, -0.1, 0.1, 0.4, 0.7, 1, -1, np.nan, 1, -1, 0])
    marks = np.array([0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1, 0], dtype=bool)
    rows = paint(text, values, width=80, plain=True, marks=marks)
    assert [row.plain for row in rows] == [
        *("if→(x)⏎", "▁▂▃▄▅▆▇", "   └─┘"),
        *("日本 e\u0301!", "██▁▁ █▅", "└┘   ╵"),
    ]
    assert all(not row.spans and not row.style for row in rows)


@pytest.mark.parametrize("width", [80, 120])
def test_folds_exactly_at_the_width(width):
    assert text_rows("x" * (2 * width + 1), width) == ["x" * width, "x" * width, "x"]
    wide = text_rows("x" + "語" * width, width)
    assert wide[0] == "x" + "語" * (width // 2 - 1)
    assert wide[1] == "語" * (width // 2)
    painted = paint("x y " * width, np.ones(4 * width), width=width, plain=False)
    assert printed(painted, width=width) == [f"\x1b[{DEEP_BLUE}m{'x y ' * (width // 4)}\x1b[0m"] * 4


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("\n\n", ["⏎", "⏎"]),
        ("a\r\nb", ["a␍⏎", "b"]),
        ("\0\x1b[31m\x7f", ["␀␛[31", "m␡"]),
        ("\x80", ["\\u008", "0"]),
        ("abcde\u0301f", ["abcde\u0301", "f"]),
        ("abc" + FAMILY + "f", ["abc" + FAMILY, "f"]),
        ("abcd" + FAMILY, ["abcd", FAMILY]),
        ("abcd🇩🇪🇫🇷", ["abcd", "🇩🇪🇫🇷"]),
        ("abcd1\ufe0f\u20e3", ["abcd", "1\ufe0f\u20e3"]),
        ("\u0301a\n\u0301", ["◌\u0301a⏎", "◌\u0301"]),
        ("ab\u200dc", ["ab\\u2", "00dc"]),
    ],
)
def test_rows_of_five_cells(text, rows):
    assert text_rows(text, 5) == rows


def test_one_piece_shows_the_value_of_its_base():
    text = "e\u0301" + FAMILY + "\x80"
    values = np.array([-1, 1, 1, -1, -1, -1, -1, -1])
    rows = [row.plain for row in paint(text, values, width=80, plain=True, marks=values > 0)]
    assert rows == ["e\u0301" + FAMILY + "\\u0080", "▁██▁▁▁▁▁▁", " └┘"]
    assert printed(paint(text, values, width=80, plain=False)) == [
        f"\x1b[{DEEP_RED}me\u0301\x1b[0m\x1b[{DEEP_BLUE}m{FAMILY}\x1b[0m\x1b[{DEEP_RED}m\\u0080\x1b[0m"
    ]


def test_marks_stay_open_at_a_fold_and_blank_rows_are_omitted():
    marks = np.zeros(14, dtype=bool)
    marks[3:7] = True
    rows = paint("abcdefghij\nklm", np.zeros(14), width=5, plain=False, marks=marks)
    assert [row.plain for row in rows] == ["abcde", "   └─", "fghij", "─┘", "⏎", "klm"]


@pytest.mark.parametrize("width", [2, 3, 7, 80])
def test_hostile_text_lines_up(width):
    for text in hostile_texts():
        rows = plain_rows(text, width, 1.0)
        assert len(rows) % 2 == 0
        for row, blocks in zip(rows[0::2], rows[1::2], strict=True):
            assert 0 < cell_len(row) == cell_len(blocks) <= width, ascii(text)
            assert set(blocks) == {"█"}


def test_a_narrower_console_crops_and_never_rewraps():
    rows = paint("two words " * 8, np.zeros(80), width=80, plain=True)
    assert printed(rows, None, 36) == ["two words " * 3 + "two wo", "▅" * 36]


@pytest.mark.parametrize("width", [2, 11, 80])
def test_hostile_text_is_all_there(width):
    for text in hostile_texts():
        drawn = "".join(text_rows(text, width)).replace("◌", "").replace("\\u200d", "\u200d")
        assert drawn == visible(text).replace("\n", "⏎").replace("\t", "→"), ascii(text)


def test_colour_is_closed_in_each_row_and_changes_only_with_the_value():
    values = np.random.default_rng(3)
    for text in hostile_texts(50):
        rows = paint(text, values.uniform(-1, 1, len(text)).round(1), width=9, plain=False)
        for line in printed(rows, width=9):
            codes = SGR.findall(line)
            assert codes[1::2] == ["0"] * (len(codes) // 2)
            assert len(codes) % 2 == 0
            assert "\x1b" not in SGR.sub("", line)
            touching = re.findall(r"\x1b\[([0-9;]+)m[^\x1b]*\x1b\[0m(?=\x1b\[([0-9;]+)m)", line)
            assert all(left != right for left, right in touching)


@pytest.mark.parametrize("color_system", ["truecolor", "256", "standard"])
@pytest.mark.parametrize("value", [0.0, -0.0, np.nan, 0.03, -0.03])
def test_zero_and_nan_emit_no_codes(color_system, value):
    rows = paint("a b\tc\n日", np.full(7, value), width=80, plain=False, color_system=color_system)
    assert printed(rows, color_system) == ["a b→c⏎", "日"]


@pytest.mark.parametrize(
    ("color_system", "steps"), [("truecolor", 33), ("256", 11), ("standard", 3), ("windows", 3)]
)
def test_sign_is_hue_and_size_is_darkness(color_system, steps):
    styles = [value_style(value, color_system) for value in np.linspace(-1, 1, 2001)]
    shades = list(dict.fromkeys(styles))
    assert len(shades) == steps
    assert shades[steps // 2] is None
    for sign in (-1, 1):
        colors = [background(sign * size, color_system) for size in np.linspace(0.51, 1, 50)]
        assert all((red > blue) == (sign < 0) for red, _, blue in colors)
        sizes = [sum(color) for color in colors]
        assert sizes == sorted(sizes, reverse=True)
    assert value_style(-3, color_system) == styles[0]
    assert value_style(np.inf, color_system) == styles[-1]


@pytest.mark.parametrize("color_system", ["truecolor", "256"])
def test_ink_is_readable_on_its_paper(color_system):
    def luminance(color):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in color.get_truecolor().normalized
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for value in np.linspace(-1, 1, 200):
        if style := value_style(value, color_system):
            low, high = sorted((luminance(style.color), luminance(style.bgcolor)))
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_legend():
    assert legend(True).plain == "−1 ▁▂▃▄▅▆▇█ +1"
    assert not legend(True).spans
    assert legend(False).plain == "−1 ▓▓▒▒░░  ░░▒▒▓▓ +1   red −  blue +"
    assert legend(False, "standard").plain == "−1 ▓▓▒▒      ▒▒▓▓ +1   red −  blue +"
    (line,) = printed([legend(False, "256")], "256")
    codes = [code for code in SGR.findall(line) if code != "0"]
    assert codes[0] == "38;5;52;48;5;52"
    assert codes[5] == "38;5;17;48;5;17"
    for line in (legend(True), legend(False)):
        assert cell_len(line.plain) < 80


def test_is_plain():
    assert not is_plain(console())
    assert not is_plain(console("standard"))
    assert is_plain(console(None))
    assert is_plain(console(no_color=True))
    assert is_plain(console(force_terminal=False))


def test_a_broken_contract_is_refused():
    with pytest.raises(ValueError, match="3 characters"):
        paint("abc", np.zeros(2), width=80, plain=True)
    with pytest.raises(ValueError, match="3 characters"):
        paint("abc", np.zeros(3), width=80, plain=True, marks=np.zeros((3, 1)))
    with pytest.raises(ValueError, match="width"):
        paint("abc", np.zeros(3), width=1, plain=True)
