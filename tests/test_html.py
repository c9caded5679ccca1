"""The interactive page: its numbers are the recorded ones, its text is inert, a browser obeys its keys."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from types import SimpleNamespace

import chromium
import numpy as np
import pytest
import torch

from charrnn.config import ModelConfig
from charrnn.errors import CharrnnError, InspectionError
from charrnn.inspection.delta_loss import delta_losses
from charrnn.inspection.hypotheses import get
from charrnn.inspection.hypotheses.base import TextProfile
from charrnn.inspection.names import Neuron
from charrnn.inspection.page import NONE, STEPS, Stretch, make_page, page_pieces, quantised
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, raw_values
from charrnn.model.network import Network
from charrnn.rendering import html
from charrnn.rendering.html.pack import json_text, pack, packed
from charrnn.rendering.paint import value_style
from charrnn.text.vocabulary import BOUNDARY, Vocabulary

ATTACK = "</script><img src=x onerror=alert(1)><!--{{style}}\u2028\u2029\ud800\x00\x1b\t'\"&amp;\ufffe"
PLAIN = 'He said (twice) "no" and went 12 miles.\nThen 😀 came e\u0301t 界 (again).\n\n'
PROFILE = TextProfile("prose", 60, 1)
HYPOTHESES = [get(name) for name in ("in_quote", "column", "is_space")]
NAMES = ["L2.c3", "L1.c0", "L1.c7"]
HIDDEN = 8


NEXT = [(" ", 0.5), ("<b>", 0.25), ('"', -0.75)]
CONSEQUENCES = {
    "next_characters": [{"char": char, "nats": nats} for char, nats in NEXT],
    "direct_characters": [{"char": "a", "nats": 0.125}],
    "closing": {"char": '"', "share": 0.9, "inside": 1.5, "outside": None, "free": 0.25, "held": 0.5},
}
HELD = {"held": ["L2.c3"], "value": 0.2, "on": 0.04, "on_low": 0.03, "on_high": 0.05, "off": None}
HELD |= {"controls_on": [-0.01, 0.01]}
CAUSE = {"alone": HELD, "group": None, "otherwise": HELD | {"value": None, "on_low": -0.01}, "agrees": False}


# what is shown


def text_of(number):
    return (PLAIN * 3 + ATTACK + PLAIN * (4 + number)) * 2


TEXTS = [text_of(number) for number in range(6)]
SYMBOLS = sorted(set("".join(TEXTS)))
VOCABULARY = Vocabulary.of_chars(ord(c) for c in SYMBOLS if not 0xD800 <= ord(c) < 0xE000)
PLACES = {char: place for place, char in enumerate(SYMBOLS, 1)}
TABLE = VOCABULARY.lookup(np.array([-1, *map(ord, SYMBOLS)]))


def piece(number, text):
    places = np.array([PLACES[char] for char in text])
    labels = np.stack([h.label(text, PROFILE) for h in HYPOTHESES], axis=1)
    return Piece(text, places, labels, 20, number, 100 * number, number % 2 == 0)


def make_subject(cell="lstm", layers=2):
    network = Network(ModelConfig(cell, HIDDEN, layers, dropout=0.0), len(VOCABULARY), 3).eval()
    pieces = [piece(number, text) for number, text in enumerate(TEXTS)]
    return SimpleNamespace(
        network=network,
        table=TABLE,
        pieces=pieces,
        hypotheses=HYPOTHESES,
        half=lambda chooses: [piece for piece in pieces if piece.chooses == chooses],
    )


def board_row(hypothesis, neuron, r, verdict="tracks", runners_up=()):
    figures = dict.fromkeys(("ap", "p", "q"), 0.04) | dict.fromkeys(("r_within_char", "r_untrained"), r / 2)
    runners = [{"neuron": name, "r": value} for name, value in runners_up]
    row = {"hypothesis": hypothesis, "type": "binary", "neuron": neuron, "r": r, "r_chosen": r}
    return row | figures | {"prevalence": 0.2, "verdict": verdict, "runners_up": runners}


def make_findings(asked=None, names=NAMES):
    rows = [
        board_row("in_quote", names[0], -0.7),
        board_row("column", names[1], 0.5, "found"),
        board_row("is_space", names[0], 0.6, "char detector", [(names[2], 0.4)]),
    ]
    data = {"run": "runs/<b>{{data}}", "model": "lstm 2×8", "kind": "c", "text_kind": "prose", "chars": 1000}
    data |= {"documents": 6, "split_by": "documents", "neurons_tested": 16, "hypotheses_tested": 3}
    data |= {"null_units": None, "null_by": "blocks", "float_error": 1e-6, "asked": asked}
    plain = [
        SimpleNamespace(neuron=row["neuron"], runners_up=[(r["neuron"], r["r"]) for r in row["runners_up"]])
        for row in rows
    ]
    curve = {"neuron": names[1], "hypothesis": "column", "untrained": "L1.c1", "slope": -0.02, "flat": True}
    curve |= {
        "straight": [1, 3],
        "chars": [9] * 5,
        "mean": [0.1, None, -0.20004999, 0.3, 0.4],
        "sd": [0.1] * 5,
    }
    curve |= {"untrained_mean": [0.0, 0.1, 0.2, 0.3, None], "p_newline": [0.0, 0.1, 0.5, 0.25, None]}
    rows[0] |= {"r_position": -0.31, "cause": CAUSE}
    card = {"neuron": names[0], "row": {"hypothesis": "in_quote"}, "excerpts": []} | CONSEQUENCES
    parts = {"rows": rows, "cards": [card], "counters": [curve]}
    to_json = lambda: data | parts  # noqa: E731
    return SimpleNamespace(rows=plain, asked=asked, to_json=to_json)


def make(subject=None, findings=None, **how):
    subject = subject or make_subject()
    how = {"vocabulary": VOCABULARY, "command": "charrnn inspect neurons mine --html x.html"} | how
    return make_page(subject, findings or make_findings(), **how)


def with_delta(subject):
    length = sum(map(len, page_pieces(subject)))
    return {"L2.c3": np.linspace(-6, 6, length), "L9.c9": np.zeros(length)}


@pytest.fixture(scope="module")
def subject():
    return make_subject()


@pytest.fixture(scope="module")
def page(subject):
    return make(subject, delta_loss=with_delta(subject), ablation="c held at its mean.")


@pytest.fixture(scope="module")
def document(page):
    return html.page_html(page)


class Parsed(HTMLParser):
    """Elements, their attributes, and the text of scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.inside, self.open = [], {}, ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open = f"{tag} {dict(attrs).get('type', '')}".strip()

    def handle_endtag(self, tag):
        self.open = ""

    def handle_data(self, data):
        self.inside[self.open] = self.inside.get(self.open, "") + data


def data_of(document):
    return json.loads(Parsed(document).inside["script application/json"])


def unpacked(array):
    kind = np.dtype(array["type"]).newbyteorder("<")
    return np.frombuffer(zlib.decompress(base64.b64decode(array["data"])), dtype=kind)


# the data


def test_values_are_the_recorded_ones(subject, page):
    pieces = subject.half(chooses=False)
    wanted = [Neuron(2, "c", 3), Neuron(1, "c", 0), Neuron(1, "c", 7)]
    recorded = np.concatenate(raw_values(Recorder(subject.network, TABLE, wanted), pieces)).T
    assert np.abs(page.values / STEPS - 1 - recorded).max() <= 0.5001 / STEPS
    for g, gate in enumerate("ifgo"):
        gates = [Neuron(n.layer, gate, n.index) for n in wanted]
        recorded = np.concatenate(raw_values(Recorder(subject.network, TABLE, gates), pieces)).T
        assert np.abs(page.gate_values[:, g] / STEPS - 1 - recorded).max() <= 0.5001 / STEPS


def test_next_characters_and_surprisal_are_those_of_the_network(subject, page):
    first = subject.half(chooses=False)[0]
    ids = TABLE[first.places]
    start = torch.tensor([[BOUNDARY, *ids]])
    with torch.inference_mode():
        logits, _ = subject.network(start, subject.network.initial_state(1))
    probs = logits[0].softmax(-1).double().numpy()
    assert page.surprisal[0] == NONE
    bits = -np.log2(probs[np.arange(1, len(ids)), ids[1:]])
    unknown = ids[1:] == 1
    assert unknown.any()
    bits[unknown] += 8 * 3  # the UTF-8 bytes of the half of a surrogate pair
    np.testing.assert_allclose(page.surprisal[1 : len(ids)] / 10, np.minimum(bits, 25.4), atol=0.051)
    best = np.sort(probs[1:], axis=1)[:, ::-1][:, :5].T
    np.testing.assert_allclose(page.next_probs[:, : len(ids)] / 255, best, atol=0.0021)
    code_of_id = np.array([-1, -2, *VOCABULARY.symbols])
    codes = np.array(page.symbols)[page.next_symbols[:, : len(ids)]]
    found = np.array(
        [[probs[t + 1][np.flatnonzero(code_of_id == c)[0]] for t, c in enumerate(row)] for row in codes]
    )
    np.testing.assert_allclose(found, best, atol=1e-6)


def test_text_and_labels_are_those_of_the_reporting_half(subject, page):
    pieces = subject.half(chooses=False)
    text = "".join(piece.text for piece in pieces)
    assert [page.symbols[i] for i in page.text] == [ord(char) for char in text]
    labels = np.concatenate([piece.labels for piece in pieces])
    for own, wanted in zip(page.labels, labels.T, strict=True):
        assert (np.where(own == np.iinfo(own.dtype).max, np.nan, own) == wanted)[~np.isnan(wanted)].all()
        assert ((own == np.iinfo(own.dtype).max) == np.isnan(wanted)).all()
    assert page.stretches[1] == Stretch(len(pieces[0]), 20, 3, 300)


def test_whole_pieces_up_to_the_limit_but_at_least_one(subject):
    lengths = [len(piece) for piece in subject.half(chooses=False)]
    assert [len(p) for p in page_pieces(subject, 1)] == lengths[:1]
    assert [len(p) for p in page_pieces(subject, sum(lengths[:2]))] == lengths[:2]
    assert len(make(subject, max_chars=1).text) == lengths[0]


def test_neurons_come_asked_for_first_then_as_found(subject):
    assert make(subject).neurons == NAMES
    assert make(subject, make_findings(asked="L1.c5"), max_neurons=3).neurons == ["L1.c5", *NAMES[:2]]
    with pytest.raises(InspectionError, match="nothing to show"):
        make(subject, SimpleNamespace(rows=[], asked=None, to_json=dict))


@pytest.mark.parametrize(("cell", "gates"), [("gru", ["r", "z", "n"]), ("elman", [])])
def test_other_cells(cell, gates):
    findings = make_findings(names=["L2.h3", "L1.h0", "L1.h7"])
    page = make(make_subject(cell), findings)
    assert page.gates == gates and page.gate_values.shape[:2] == (3, len(gates))
    assert data_of(html.page_html(page))["gates"] == gates


def test_bytes_that_are_no_ascii_are_shown_as_bytes():
    vocabulary = Vocabulary.of_bytes()
    subject = make_subject()
    network = Network(ModelConfig("lstm", HIDDEN, 2, dropout=0.0), len(vocabulary), 3).eval()
    text = PLAIN.encode().decode("latin-1") * 3
    places = np.array([ord(char) + 1 for char in text])
    one = replace(subject.pieces[1], text=text, places=places, labels=np.zeros((len(text), 3), np.float32))
    subject.network, subject.table, subject.half = network, np.arange(257), lambda chooses: [one]
    page = make(subject, vocabulary=vocabulary)
    codes = [page.symbols[i] for i in page.text]
    assert bytes(code if code < 128 else code - 0xDC00 for code in codes) == PLAIN.encode() * 3


def test_values_beyond_one_and_nan_are_told_apart():
    values = np.array([-3, -1, 0, 1, 7, np.nan])
    assert quantised(values).tolist() == [0, 0, STEPS, 2 * STEPS, 2 * STEPS, NONE]


def test_delta_loss_of_shown_neurons_only(page):
    assert list(page.delta_loss) == ["L2.c3"]
    bits = (page.delta_loss["L2.c3"].astype(float) - STEPS) / 31
    np.testing.assert_allclose(
        bits, np.clip(np.linspace(-6, 6, len(bits)), -STEPS / 31, STEPS / 31), atol=0.017
    )
    assert make(delta_loss=None).delta_loss == {}


def held_step_by_step(subject, piece, index, value):
    """Nats of every character after the first, with one h neuron of the top layer overwritten each step."""
    network, nats = subject.network, []
    state = network.initial_state(1)
    for symbol, following in zip([BOUNDARY, *TABLE[piece.places]], TABLE[piece.places], strict=False):
        _, state = network.step(torch.tensor([int(symbol)]), state)
        hidden = state[-1][0].clone()
        hidden[:, index] = hidden[:, index] if value is None else value
        state = (*state[:-1], (hidden, *state[-1][1:]))
        nats.append(float(-network.readout(hidden).log_softmax(-1)[0, int(following)]))
    return np.array(nats[1:])


@torch.no_grad()
def test_delta_loss_is_that_of_a_neuron_overwritten_at_each_step():
    subject = make_subject("gru")
    pieces = subject.half(chooses=False)[:2]
    alone = SimpleNamespace(value=0.7)
    rows = [SimpleNamespace(neuron="L2.h3", cause=SimpleNamespace(alone=alone))]
    rows += [SimpleNamespace(neuron="L2.h3", cause=None), SimpleNamespace(neuron="L1.h0", cause=None)]
    found = delta_losses(subject, SimpleNamespace(rows=rows), pieces)
    assert list(found) == ["L2.h3"] and len(found["L2.h3"]) == sum(map(len, pieces))
    wanted = []
    for piece in pieces:
        held, free = (held_step_by_step(subject, piece, 3, value) for value in (0.7, None))
        wanted += [np.nan, *(held - free) / np.log(2)]
    np.testing.assert_allclose(found["L2.h3"], wanted, atol=1e-4)
    assert delta_losses(subject, SimpleNamespace(rows=rows[1:]), pieces) == {}
    alone.value = None
    assert delta_losses(subject, SimpleNamespace(rows=rows), pieces) == {}


# the document


def test_corpus_text_is_inert(page, document):
    parsed = Parsed(document)
    assert {tag for tag, _ in parsed.elements}.isdisjoint(("img", "b", "iframe", "object", "link"))
    assert [tag for tag, _ in parsed.elements].count("script") == 2
    block = parsed.inside["script application/json"]
    assert block.isascii() and not set("<>&") & set(block)
    assert "{{data}}" in parsed.inside["title"] and "<b>" in parsed.inside["title"]
    data = json.loads(block)
    symbols, text = data["symbols"], unpacked(data["text"])
    wanted = "".join(TEXTS[number] for number in (1, 3, 5))
    assert [symbols[i] for i in text] == [ord(char) for char in wanted]


def test_hostile_names_are_inert(subject, document):
    hypotheses = [replace(h, name=f"{h.name}{ATTACK}", definition=ATTACK) for h in HYPOTHESES]
    findings = make_findings()
    data = findings.to_json() | {"run": ATTACK, "model": ATTACK, "text_kind": ATTACK}
    findings.to_json = lambda: data
    own = SimpleNamespace(**(vars(subject) | {"hypotheses": hypotheses}))
    parsed = Parsed(html.page_html(make(own, findings, command=ATTACK)))
    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in Parsed(document).elements]
    assert parsed.inside["title"].startswith("</script><img src=x")
    shown = json.loads(parsed.inside["script application/json"])
    assert shown["findings"]["run"] == shown["hypotheses"][0]["definition"] == ATTACK
    assert dict(shown["method"])["command"] == ATTACK


@pytest.mark.parametrize("text", ["</script>", "<!--", "\u2028\u2029", "\ud800", "\x00\x07", "&lt;"])
def test_json_can_stand_in_a_page_and_comes_back(text):
    written = json_text({text: [text]})
    assert written.isascii() and not set("<>&") & set(written)
    assert json.loads(written) == {text: [text]}


def test_nothing_is_loaded_and_only_the_own_script_runs(document):
    parsed = Parsed(document)
    assert not [
        a for _, attrs in parsed.elements for a in attrs if a in ("src", "srcset", "data", "style", "action")
    ]
    assert not [a for _, attrs in parsed.elements for a in attrs if a.startswith("on")]
    assert {attrs.get("href", "#pane") for _, attrs in parsed.elements} == {"#pane"}
    assert not re.search(
        r"url\(|@import|\bfetch\(|XMLHttpRequest|innerHTML|outerHTML|insertAdjacent|\beval\(", document
    )
    policy = next(attrs["content"] for _, attrs in parsed.elements if "Policy" in attrs.get("http-equiv", ""))
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for part, kind in (("style", "style"), ("script module", "script")):
        digest = base64.b64encode(hashlib.sha256(parsed.inside[part].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy


def test_the_colours_are_those_of_the_terminal(document):
    palettes = data_of(document)["palettes"]
    assert {len(palette) for palette in palettes.values()} == {33}
    assert all(palette[16] is None for palette in palettes.values())
    for step in (-16, -3, 1, 16):
        style = value_style(step / 16)
        assert palettes["colour-light"][step + 16][0] == style.bgcolor.get_truecolor().hex


@pytest.mark.parametrize("name", ["colour-light", "colour-dark", "grey-light", "grey-dark"])
def test_ink_is_readable_on_every_paper(document, name):
    def luminance(colour):
        channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for paper, ink in filter(None, data_of(document)["palettes"][name]):
        light, dark = sorted((luminance(paper), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def large_page(page, noise, chars=100_000, neurons=40):
    """A page of the largest size, with values and gates that wander as a network's do."""
    random = np.random.default_rng(0)

    def wandering(*shape):
        steps = random.normal(0, noise, (*shape, chars)) * (random.random((*shape, chars)) < 0.3)
        return quantised(np.tanh(np.sin(steps.cumsum(-1)) * 2 + random.normal(0, noise / 4, (*shape, chars))))

    return replace(
        page,
        neurons=[f"L1.c{i}" for i in range(neurons)],
        stretches=[Stretch(begin, 500, 0, begin) for begin in range(0, chars, 10_000)],
        symbols=list(range(97)),
        text=np.minimum(random.geometric(0.07, chars), 96).astype(np.uint8),
        values=wandering(neurons),
        gate_values=np.stack([wandering(4) for _ in range(neurons)]),
        next_symbols=np.minimum(random.geometric(0.2, (5, chars)), 96).astype(np.uint8),
        next_probs=np.sort(random.geometric(0.02, (5, chars)) % 256, axis=0)[::-1].astype(np.uint8),
        surprisal=np.minimum(random.geometric(0.05, chars), 254).astype(np.uint8),
        labels=[np.repeat(random.integers(0, 3, chars // 20), 20).astype(np.uint8) for _ in page.labels],
        delta_loss={},
    )


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_the_largest_page_stays_below_five_megabytes(page, noise):
    large = large_page(page, noise)
    document = html.page_html(large)
    assert 3_000_000 < len(document.encode()) <= 5_000_000
    data = data_of(document)
    steps, fits = data["steps"], len(data["gateValues"])
    assert len(data["values"]) == 40 and fits < 40
    for row, wanted in zip(data["values"], large.values, strict=True):
        error = unpacked(row) / steps["value"] - wanted / STEPS
        assert np.abs(error).max() <= 0.501 / steps["value"]
    said = dict(data["method"])
    assert f"the first {fits} neurons" in said["gates"] and f"1/{steps['value']}." in said["activation"]


def test_gates_are_rounded_before_they_are_left_out(page):
    roomy = packed(page, 10**9)
    bare = len(json_text(roomy | {"gateValues": []}))
    tight = packed(page, bare + len(roomy["gateValues"][0]["data"]) + 200)
    assert roomy["steps"]["gate"] == 31 and len(roomy["gateValues"]) == 3
    assert tight["steps"]["gate"] == 15 and 0 < len(tight["gateValues"]) < 3
    wanted = page.gate_values[0].ravel() / STEPS
    assert np.abs(unpacked(roomy["gateValues"][0]) / 31 - wanted).max() <= 0.501 / 31


def test_arrays_keep_their_type():
    for kind in (np.uint8, np.uint16, np.uint32):
        array = np.array([0, 1, np.iinfo(kind).max], kind)
        assert unpacked(pack(array)).tolist() == array.tolist()


def test_the_page_is_written_whole_or_not_at_all(tmp_path, page):
    path = tmp_path / "deep" / "page.html"
    html.save_html(path, replace(page, findings=page.findings | {"run": "bad\udcff"}))
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    for wrong in (tmp_path, "."):
        with pytest.raises(CharrnnError, match="cannot write"):
            html.save_html(wrong, page)


def test_the_sources_lie_in_the_package_and_are_small():
    folder = files("charrnn.rendering.html")
    for name in ("page.html", "page.css", *html.SCRIPTS):
        assert 0 < folder.joinpath(name).read_text(encoding="utf-8").count("\n") < 450, name


# in a browser

needs_chromium = pytest.mark.skipif(
    chromium.find() is None, reason="there is no chromium to open the page in"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def file(tmp_path_factory, page):
    path = tmp_path_factory.mktemp("page") / "page.html"
    html.save_html(path, page)
    return path


@pytest.fixture
def at(browser, file):
    """Open the page at an address; nothing may go wrong, and nothing be asked for, until the test ends."""
    browser.problems.clear()

    def open_at(fragment=""):
        browser.open(file, fragment)
        return browser

    yield open_at
    assert browser.problems == []
    assert {url.split("#")[0] for url in browser.requests} == {file.as_uri()}


def hash_of(browser):
    return browser.js("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")


def shown_text(browser):
    return browser.js("[...document.querySelectorAll('.rows .c')].map((c) => c.textContent).join('')")


@needs_chromium
def test_hostile_text_is_shown_and_does_nothing(at):
    browser = at("at=0")
    text = shown_text(browser)
    assert "</script><img src=x onerror=alert(1)><!--{{style}}\\u2028\\u2029\\ud800␀␛→'\"&amp;\\ufffe" in text
    assert "miles.⏎Then 😀 came e\u0301t 界 (again).⏎⏎" in text
    assert browser.js("document.images.length") == 0
    assert browser.text("#run") == "runs/<b>{{data}}"
    assert browser.js("document.title") == "runs/<b>{{data}} · neurons"


@needs_chromium
def test_the_policy_forbids_what_the_page_does_not_do(browser, file):
    browser.open(file)
    browser.problems.clear()
    with pytest.raises(RuntimeError, match="TrustedHTML"):
        browser.js("document.body.innerHTML = '<b>x</b>'")
    with pytest.raises(RuntimeError, match="Failed to fetch"):
        browser.js("fetch('https://example.org/')")
    assert any("connect-src" in problem for problem in browser.problems)
    browser.js(
        "document.body.append(Object.assign(document.createElement('style'), {textContent: 'b {top: 0}'}))"
    )
    assert any("style-src" in problem for problem in browser.problems)


@needs_chromium
def test_the_numbers_in_the_browser_are_those_of_the_page(at, page):
    position = 137
    browser = at(f"neuron=L1.c0&hypothesis=column&at={position}")
    lines = browser.js("[...document.querySelectorAll('.line')].map((l) => l.textContent)")
    value = page.values[1, position] / STEPS - 1
    assert lines[0] == "value" + signed(value)
    assert lines[1].startswith("i.") and len(lines) == 1 + 4 + 5
    assert f"surprisal {page.surprisal[position] / 10:.1f} bits" in browser.text("#character")
    best = page.symbols[page.next_symbols[0, position]]
    share = f"{round(float(page.next_probs[0, position])) / 255:.2f}".removeprefix("0")
    assert lines[5].endswith(share) and lines[5][0] in (chr(best), "␣", "⏎", "→", "e", "o", "\\", "␀", "␛")
    assert f"column {page.labels[1][position]}" in browser.text("#character")


def signed(value):
    return ("−" if value < 0 else "+") + f"{abs(value):.2f}".removeprefix("0")


@needs_chromium
def test_r_in_the_browser_is_pearsons(at, page):
    browser = at("neuron=L1.c7&hypothesis=column&tab=card")
    scored = np.ones(len(page.text), bool)
    for stretch in page.stretches:
        scored[stretch.begin : stretch.begin + stretch.skip] = False
    r = np.corrcoef(page.values[2][scored], page.labels[1][scored])[0, 1]
    assert f"r on this page{signed(r)}" in browser.text("#card .figures")


@needs_chromium
def test_keys_step_neurons_hypotheses_and_characters(at):
    browser = at("at=60")
    assert hash_of(browser) == {"neuron": "L2.c3", "hypothesis": "in_quote", "at": "60"}
    for key, neuron in (
        ("ArrowDown", "L1.c0"),
        ("j", "L1.c7"),
        ("]", "L2.c3"),
        ("k", "L1.c7"),
        ("[", "L1.c0"),
    ):
        browser.press(key)
        assert hash_of(browser)["neuron"] == neuron, key
    assert hash_of(browser)["hypothesis"] == "column"
    browser.press("J")
    assert hash_of(browser)["hypothesis"] == "is_space"
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press("ArrowLeft")
    assert hash_of(browser)["at"] == "61"
    assert browser.js("document.querySelector('.rows .at').dataset.i") == "61"
    assert "L1.c0" in browser.text("#announce")


@needs_chromium
def test_a_key_jumps_to_where_the_label_changes(at, page):
    browser = at("hypothesis=in_quote&at=0")
    on = page.labels[0] > 0
    first, second = (np.flatnonzero(on[1:] != on[:-1])[:2] + 1).tolist()
    browser.press("n")
    assert hash_of(browser)["at"] == str(first)
    browser.press("n")
    assert hash_of(browser)["at"] == str(second)
    browser.press("p")
    assert hash_of(browser)["at"] == str(first)


@needs_chromium
def test_labels_are_underlined_and_values_painted(at, page):
    browser = at("neuron=L2.c3&hypothesis=in_quote&theme=light&at=0")
    chars = browser.js(
        "[...document.querySelectorAll('.rows .c')].slice(0, 150).map((c) => [Number(c.dataset.i), "
        "getComputedStyle(c).borderBottomColor !== 'rgba(0, 0, 0, 0)', getComputedStyle(c).backgroundColor])"
    )
    assert len(chars) == 150
    for i, underlined, paper in chars:
        assert underlined == bool(page.labels[0][i] == 1)
        step = np.floor((page.values[0, i] / STEPS - 1) * 16 + 0.5)  # as Math.round
        style = value_style(float(step) / 16)
        wanted = style and "rgb({}, {}, {})".format(*style.bgcolor.get_truecolor())
        assert paper == (wanted or "rgba(0, 0, 0, 0)")


@needs_chromium
def test_search_finds_neurons_and_hypotheses(at):
    browser = at()
    browser.press("/")
    assert browser.js("document.activeElement.id") == "query"
    browser.call("Input.insertText", text="spac")
    assert browser.js("document.querySelectorAll('#results li').length") >= 1
    browser.press("Enter")
    assert hash_of(browser)["hypothesis"] == "is_space"
    browser.press("/")
    browser.call("Input.insertText", text="c7")
    browser.press("Enter")
    assert hash_of(browser)["neuron"] == "L1.c7"
    assert not browser.js("document.querySelector('dialog[open]')")


@needs_chromium
def test_hovering_shows_a_character_and_leaving_the_chosen_one(at):
    browser = at("at=0")
    browser.mouse("mouseMoved", *browser.centre("[data-i='9']"))
    assert "document 2, character 110" in browser.text("#character")
    browser.mouse("mouseMoved", 3, 3)
    assert "document 2, character 101" in browser.text("#character")
    browser.click("[data-i='12']")
    assert hash_of(browser)["at"] == "12"


@needs_chromium
def test_dragging_looks_for_spans_like_the_selected_one(at, page):
    browser = at("at=0")
    (x, y), (to, _) = browser.centre("[data-i='4']"), browser.centre("[data-i='9']")
    browser.mouse("mousePressed", x - 3, y)
    browser.mouse("mouseMoved", to + 3, y, buttons=1)
    browser.mouse("mouseReleased", to + 3, y)
    browser.wait("new URLSearchParams(location.hash.slice(1)).get('tab') === 'spans'")
    assert hash_of(browser)["span"] == "4-10"
    assert browser.text("#spans h2").startswith("Spans like ")
    browser.press("Escape")
    assert "span" not in hash_of(browser)


@needs_chromium
def test_matching_spans_share_the_neurons_that_are_on(at, page):
    values = page.values.astype(float) / STEPS - 1
    on = np.concatenate([values >= 0.3, values <= -0.3])
    begin = int(np.flatnonzero(on.any(0))[30])
    active = int(on[:, begin].sum())
    browser = at(f"span={begin}-{begin + 1}&tab=spans&at={begin}")
    heads = browser.js("[...document.querySelectorAll('#spans .go strong')].map((s) => s.textContent)")
    assert 0 < len(heads) <= 50 and heads[0] == f"{active} of {active} neurons"
    shared = [int(head.split()[0]) for head in heads]
    assert shared == sorted(shared, reverse=True)
    lines = browser.js("[...document.querySelectorAll('.composition li')].map((l) => l.textContent)")
    assert lines and all(re.fullmatch(r"\d+ of \d+ inside \S+ base [\d.]+ %", line) for line in lines)
    base = f"{(page.labels[2] == 1).mean() * 100:.0f} %"
    assert next(line for line in lines if "is_space" in line).endswith(base)


@needs_chromium
def test_the_board_sorts_filters_and_chooses(at):
    browser = at()
    first = "[...document.querySelectorAll('#board tbody tr')].map((r) => r.cells[0].textContent.slice(1))"
    assert browser.js(first) == ["in_quote", "column", "is_space", ""]
    heads = browser.js("[...document.querySelectorAll('#board th')].map((h) => h.textContent)")
    assert heads == ["hypothesis", "neuron", "r", "AP (base)", "×char", "untrained", "q", "verdict"]
    browser.click("#board th:nth-child(3) button")
    assert browser.js(first)[0] == "in_quote" and browser.js(
        "document.querySelector('[aria-sort=descending]') !== null"
    )
    browser.click("#board th:nth-child(3) button")
    assert browser.js(first)[0] == "column"
    browser.click("#board .chips button:nth-child(2)")
    assert browser.js(first) == ["is_space", "", "in_quote"]
    browser.click("#board tbody tr:nth-child(2) button")
    assert hash_of(browser)["neuron"] == "L1.c7" and hash_of(browser)["hypothesis"] == "is_space"


@needs_chromium
def test_a_card_shows_failures_first(at):
    browser = at("neuron=L2.c3&hypothesis=in_quote&tab=card")
    reasons = browser.js("[...document.querySelectorAll('#card .go strong')].map((s) => s.textContent)")
    fails = [reason.startswith("fails") for reason in reasons]
    assert fails[0] and fails == sorted(fails, reverse=True)
    assert len(set(reasons[: sum(fails)])) == 2 and reasons[-1] == "a random place" and "works" in reasons
    assert browser.js("document.querySelectorAll('.histogram rect').length") == 80


@needs_chromium
def test_a_card_says_what_the_neuron_does(at):
    said = at("neuron=L2.c3&hypothesis=in_quote&tab=card").text("#card")
    for part in (
        "promotes ␣ +.50 <b> +.25",
        'suppresses " −.75',
        "directly a +.13",
        'its end, " held, log₂ odds inside +1.50 · P there .25 → .50',
        "the position in the document says of both: r −.31",
        "Resampled: +.04 bpc (−.01 … +.05), which disagrees whether",
    ):
        assert part in " ".join(said.split())


def test_curves_are_rounded_and_nothing_stays_nothing(page):
    (curve,) = page.findings["counters"]
    assert curve["mean"] == [0.1, None, -0.2, 0.3, 0.4] and curve["p_newline"][0] == 0.0


@needs_chromium
def test_the_card_of_a_counting_neuron_shows_its_curve(at, page):
    browser = at("neuron=L1.c0&hypothesis=column&tab=card")
    paths = browser.js("[...document.querySelectorAll('.counter path')].map((p) => p.getAttribute('d'))")
    band, twin, mean = paths
    x = [f"{100 * k}.0" for k in range(5)]
    assert mean == f"M{x[0]} 49.5M{x[2]} 66.0L{x[3]} 38.5L{x[4]} 33.0"
    assert twin == f"M{x[0]} 55.0L{x[1]} 49.5L{x[2]} 44.0L{x[3]} 38.5"
    assert band.count("L") == 7 and band.endswith("Z")
    heights = browser.js("[...document.querySelectorAll('.newline')].map((r) => +r.getAttribute('height'))")
    assert heights == [0, pytest.approx(5.2), 26, 13, 0]
    assert "−.020 a step, straight from 1 to 3, then flat" in browser.text("#card")
    assert "dotted: untrained L1.c1" in browser.text("#card")
    browser = at("neuron=L2.c3&hypothesis=in_quote&tab=card")
    assert browser.js("document.querySelector('.counter') === null")


@needs_chromium
def test_delta_loss_is_painted_where_there_is_some(at, file, tmp_path, browser, page):
    browser = at("neuron=L2.c3&at=0")
    browser.press("d")
    assert hash_of(browser)["paint"] == "delta" and "bit" in browser.text("#legend")
    browser.press("j")
    assert "paint" not in hash_of(browser) and browser.js("document.getElementById('delta').disabled")


@needs_chromium
def test_without_delta_loss_there_is_no_toggle(browser, tmp_path, page):
    html.save_html(tmp_path / "bare.html", replace(page, delta_loss={}))
    browser.open(tmp_path / "bare.html", "paint=delta")
    assert browser.js("document.getElementById('delta').hidden")
    browser.press("d")
    assert "paint" not in hash_of(browser)


@needs_chromium
@pytest.mark.parametrize(
    "fragment", ["neuron=L9.c9&at=-4", "at=1e9&span=9-2", "tab=%00&hypothesis=__proto__", "%E0%A4%A"]
)
def test_addresses_that_make_no_sense_show_the_page_all_the_same(at, fragment):
    browser = at(fragment)
    assert hash_of(browser) == {"neuron": "L2.c3", "hypothesis": "in_quote", "at": "20"}


@needs_chromium
def test_text_is_taken_along_as_it_is(at, page):
    browser = at("neuron=L2.c3&hypothesis=in_quote&span=30-60&at=30")
    copied = []
    for kind in ("json", "svg", "ansi"):
        browser.js("navigator.clipboard.writeText = () => Promise.reject()")
        browser.js(f"document.getElementById('copy-{kind}').click()")
        browser.wait("document.getElementById('manual').open")
        copied.append(browser.js("document.querySelector('#manual textarea').value"))
        browser.js("document.getElementById('manual').close()")
    data = json.loads(copied[0])
    assert data["text"] == TEXTS[1][30:60] and data["neuron"] == "L2.c3"
    np.testing.assert_allclose(data["values"], page.values[0, 30:60] / STEPS - 1, atol=1e-4)
    assert copied[1].startswith("<svg") and "He said" not in copied[1] and copied[1].count("<text") > 20
    painted = re.sub(r"\x1b\[[\d;]*m", "", copied[2])
    assert painted == TEXTS[1][30:60].replace("\n", "⏎\n") + "\n"


@needs_chromium
def test_the_largest_page_is_drawn_row_by_row(browser, tmp_path, page):
    html.save_html(tmp_path / "large.html", large_page(page, 0.3))
    browser.open(tmp_path / "large.html", "at=99990")
    count = "document.querySelectorAll('.rows .c').length"
    assert 0 < browser.js(count) < 10_000
    assert browser.js("document.querySelector('.at').dataset.i") == "99990"
    browser.js("document.getElementById('pane').scrollTop = 20000")
    browser.wait("document.querySelector('.rows .c').dataset.i < 90000")
    assert 0 < browser.js(count) < 10_000
