// What is in sight, to take along: as data, as a picture, for a terminal.

const AROUND = 240;

/** The selection, or some text around the chosen character. */
function copied() {
  if (state.span) return state.span;
  const k = stretchAt(state.at);
  const stop = DATA.stretches[k + 1]?.begin ?? N;
  return [Math.max(DATA.stretches[k].begin, state.at - AROUND), Math.min(stop, state.at + AROUND)];
}

const range = (begin, end) => Array.from({ length: end - begin }, (_, k) => begin + k);
const orNull = (value) => (Number.isNaN(value) ? null : Number(value.toFixed(4)));

function asJson() {
  const [begin, end] = copied(), at = range(begin, end), { neuron, hypothesis } = state;
  const data = {
    run: FOUND.run, neuron: DATA.neurons[neuron], hypothesis: DATA.hypotheses[hypothesis].name, source: place(begin),
    text: textOf(begin, end), values: at.map((i) => orNull(valueAt(neuron, i))), labels: at.map((i) => orNull(labelAt(hypothesis, i))),
    surprisal_bits: at.map((i) => orNull(bitsAt(i))),
  };
  if (state.delta) data.delta_loss_bits = at.map((i) => orNull(deltaAt(neuron, i)));
  return JSON.stringify(data);
}

/** Characters by row and by cell, with their colours on light paper. */
function cellsOf(width) {
  const [begin, end] = copied(), cells = [];
  let row = 0, column = 0;
  for (let i = begin; i < end; i++) {
    const size = CELLS[TEXT[i]];
    if (size === 0 && cells.length) { cells.at(-1).text += GLYPHS[TEXT[i]]; continue; }
    if (column && column + size > width) { row++; column = 0; }
    const colours = palette("light")[shade(paintedAt(i)) + SHADES];
    cells.push({ i, row, column, size, text: GLYPHS[TEXT[i]], colours, on: isOn(state.hypothesis, i) });
    column += size;
    if (codeAt(i) === 10) { row++; column = 0; }
  }
  return cells;
}

function asSvg() {
  const wide = 8.4, high = 24, pad = 16, cells = cellsOf(88);
  const width = 88 * wide + 2 * pad, height = (cells.at(-1).row + 2) * high + 2 * pad;
  const title = `${DATA.neurons[state.neuron]} · ${DATA.hypotheses[state.hypothesis].name}${state.delta ? " · Δ loss" : ""}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height,
    "font-family": "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace", "font-size": 14 },
  svg("rect", { width, height, rx: 8, fill: "#ffffff" }), svg("text", { x: pad, y: pad + 12, fill: "#141414", "font-weight": "bold" }, title));
  for (const { row, column, size, text, colours, on } of cells) {
    const x = pad + column * wide, y = pad + (row + 1) * high;
    if (colours) picture.append(svg("rect", { x, y, width: size * wide + 0.3, height: high - 6, fill: colours[0] }));
    if (on) picture.append(svg("rect", { x, y: y + high - 5, width: size * wide + 0.3, height: 2, fill: "#8a5a00" }));
    if (text !== " ") picture.append(svg("text", { x, y: y + 14, fill: colours ? colours[1] : "#141414", textLength: size * wide, lengthAdjust: "spacingAndGlyphs" }, text));
  }
  return new XMLSerializer().serializeToString(picture);
}

/** Escape sequences only where the colour changes, and none open at the end of a row. */
function asAnsi() {
  const parts = (colour) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16)).join(";");
  let text = "", open = "", last = 0;
  const turn = (code) => {
    if (code !== open) text += code || "\x1b[0m";
    open = code;
  };
  for (const { row, text: char, colours } of cellsOf(80)) {
    if (row !== last) { turn(""); text += "\n".repeat(row - last); last = row; }
    turn(colours ? `\x1b[38;2;${parts(colours[1])};48;2;${parts(colours[0])}m` : "");
    text += char;
  }
  turn("");
  return `${text}\n`;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
  } catch {
    const box = byId("manual").querySelector("textarea");
    box.value = text;
    byId("manual").showModal();
    box.select();
  }
}
