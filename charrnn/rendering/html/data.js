// What the page holds, decoded, and how numbers and characters are written.

const DATA = JSON.parse(document.getElementById("data").textContent);
const STEP = DATA.steps;
const END = -1, UNKNOWN = -2;

/** Undo pack.py: base64, deflate, little-endian unsigned integers. */
async function unpack({ data, type }) {
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return new { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array }[type](buffer);
}

const unpackAll = (packed) => Promise.all(packed.map(unpack));
const [[TEXT, NEXT, PROBS, SURPRISAL], VALUES, LABELS, GATES] = await Promise.all([
  unpackAll([DATA.text, DATA.next, DATA.probs, DATA.surprisal]),
  unpackAll(DATA.values),
  unpackAll(DATA.labels),
  unpackAll(DATA.gateValues),
]);
const DELTA = new Map();
for (const [name, packed] of Object.entries(DATA.delta)) DELTA.set(name, await unpack(packed));

const N = TEXT.length;
const FOUND = DATA.findings;
const LABEL_NONE = LABELS.map((values) => (values.BYTES_PER_ELEMENT === 1 ? 255 : 65535));
const SCORED = new Uint8Array(N).fill(1);
for (const { begin, skip } of DATA.stretches) SCORED.fill(0, begin, begin + skip);

const fromByte = (byte, steps) => (byte === 255 ? NaN : byte / steps - 1);
const valueAt = (neuron, i) => fromByte(VALUES[neuron][i], STEP.value);
const gateAt = (neuron, gate, i) => fromByte(GATES[neuron][gate * N + i], STEP.gate);
const labelAt = (h, i) => (LABELS[h][i] === LABEL_NONE[h] ? NaN : LABELS[h][i]);
const bitsAt = (i) => (SURPRISAL[i] === 255 ? NaN : SURPRISAL[i] / STEP.surprisal);

function deltaAt(neuron, i) {
  const byte = DELTA.get(DATA.neurons[neuron])?.[i] ?? 255;
  return byte === 255 ? NaN : (byte - STEP.deltaZero) / STEP.delta;
}

/** The number of the piece that holds a character. */
function stretchAt(i) {
  return lastAtMost(DATA.stretches.length, (k) => DATA.stretches[k].begin, i);
}

/** The last of `count` ascending numbers that is at most `limit`. */
function lastAtMost(count, numberAt, limit) {
  let low = 0, high = count - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (numberAt(middle) <= limit) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Where a character lies, for people. */
function place(i) {
  const { document, offset, begin } = DATA.stretches[stretchAt(i)];
  return `document ${document + 1}, character ${(offset + i - begin + 1).toLocaleString("en")}`;
}

/** Pearson's r of a neuron and a hypothesis over the scored characters here, and the least-squares line. */
function fit(neuron, h) {
  const values = VALUES[neuron], labels = LABELS[h], none = LABEL_NONE[h];
  let n = 0, a = 0, y = 0, aa = 0, yy = 0, ay = 0;
  for (let i = 0; i < N; i++) {
    if (!SCORED[i] || labels[i] === none || values[i] === 255) continue;
    const v = values[i] / STEP.value - 1, l = labels[i];
    n++; a += v; y += l; aa += v * v; yy += l * l; ay += v * l;
  }
  const covariance = ay - (a * y) / n, varied = yy - (y * y) / n, moved = aa - (a * a) / n;
  const slope = varied > 0 ? covariance / varied : 0;
  return {
    n, slope, intercept: (a - slope * y) / n,
    r: varied > 0 && moved > 0 ? covariance / Math.sqrt(varied * moved) : 0,
  };
}

const unsigned = (value, digits = 2) =>
  Number.isFinite(value) ? value.toFixed(digits).replace(/^0(?=\.)/, "") : "–";
const signed = (value, digits = 2) =>
  Number.isFinite(value) ? (value < 0 ? "−" : "+") + unsigned(Math.abs(value), digits) : "–";
const percent = (share) => `${share < 0.1 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`;

const codeAt = (i) => DATA.symbols[TEXT[i]];
const isHidden = (code) =>
  (code >= 0x80 && code < 0xa0) || code === 0x61c || code === 0x200e || code === 0x200f || code === 0xfeff ||
  code === 0xfffe || code === 0xffff ||
  (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || (code >= 0xd800 && code <= 0xdfff);
const hex = (code, digits) => code.toString(16).padStart(digits, "0");

/** A code point as it may be shown: nothing that a screen would obey. */
function glyph(code) {
  if (code === END) return "end";
  if (code === UNKNOWN) return "other";
  if (code === 10) return "⏎";
  if (code === 9) return "→";
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "␡";
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${hex(code - 0xdc00, 2)}`;
  return isHidden(code) ? `\\u${hex(code, 4)}` : String.fromCodePoint(code);
}

/** The same where it stands alone, so that a space is seen. */
const loneGlyph = (code) => (code === 32 ? "␣" : glyph(code));

/** What a character is called where it stands alone. */
function spelled(code) {
  const names = { 32: "space", 10: "newline", 9: "tab", 13: "carriage return", [END]: "end of document",
    [UNKNOWN]: "a character not seen in training" };
  return names[code] ?? glyph(code);
}

const isMark = (code) => code === 0x200d || (code > 0x2ff && /^\p{M}$/u.test(glyph(code)));
const WIDE = /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]$|^\p{Emoji_Presentation}$/u;
const GLYPHS = DATA.symbols.map(glyph);
const MARK = DATA.symbols.map(isMark);
const CELLS = GLYPHS.map((text, s) => (MARK[s] ? 0 : WIDE.test(text) ? 2 : [...text].length));

/** The characters themselves; a half of a surrogate pair stays one. */
function textOf(begin, end) {
  let text = "";
  for (let i = begin; i < end; i++) text += String.fromCodePoint(codeAt(i));
  return text;
}

/** An element with properties and children; strings become text, never markup. */
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
