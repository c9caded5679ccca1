// The text pane: rows of equal height, of which only those in sight exist.

const ROW = 30; // as --row in page.css
const OVERSCAN = 15;
const rows = { begin: [], end: [] }; // a row that begins where it ends is the heading of a piece
const inSight = new Map();
let columns = 0;

/** Break the text into rows of at most `width` cells. */
function fold(width) {
  rows.begin = [];
  rows.end = [];
  const close = (begin, end) => { rows.begin.push(begin); rows.end.push(end); };
  DATA.stretches.forEach(({ begin }, k) => {
    const stop = DATA.stretches[k + 1]?.begin ?? N;
    close(begin, begin);
    let first = begin, used = 0;
    for (let i = begin; i < stop; i++) {
      const cells = CELLS[TEXT[i]];
      if (used && used + cells > width) { close(first, i); first = i; used = 0; }
      used += cells;
      if (codeAt(i) === 10) { close(first, i + 1); first = i + 1; used = 0; }
    }
    if (first < stop) close(first, stop);
  });
}

const rowOf = (i) => lastAtMost(rows.begin.length, (row) => rows.begin[row], i);

/** Fold again if the pane's width holds another number of characters. */
function layout() {
  const pane = byId("pane");
  const probe = el("span", { class: "probe" }, "0".repeat(50));
  byId("rows").append(probe);
  const cell = probe.getBoundingClientRect().width / 50;
  probe.remove();
  const fits = Math.max(16, Math.min(120, Math.floor((pane.clientWidth - 24) / (cell || 9))));
  if (fits === columns) return false;
  columns = fits;
  fold(columns);
  byId("rows").style.height = `${rows.begin.length * ROW}px`;
  clearRows();
  return true;
}

function clearRows() {
  for (const row of inSight.values()) row.remove();
  inSight.clear();
}

/** Make the rows that came into sight, drop those that left. */
function drawRows(extra = 0) {
  const pane = byId("pane");
  const first = Math.max(0, Math.floor(pane.scrollTop / ROW) - OVERSCAN);
  const last = Math.min(rows.begin.length, Math.ceil((pane.scrollTop + pane.clientHeight) / ROW) + OVERSCAN + extra);
  for (const [number, row] of inSight) {
    if (number < first || number >= last) { row.remove(); inSight.delete(number); }
  }
  for (let number = first; number < last; number++) {
    if (inSight.has(number)) continue;
    const row = drawRow(number);
    inSight.set(number, row);
    byId("rows").append(row);
  }
}

function drawRow(number) {
  const begin = rows.begin[number], end = rows.end[number];
  const row = begin === end
    ? el("div", { class: "row heading" }, place(begin))
    : el("div", { class: "row" }, ...characters(begin, end));
  row.style.top = `${number * ROW}px`;
  return row;
}

/** One painted element per character; marks stand on the character before them. */
function characters(begin, end) {
  const made = [];
  for (let i = begin; i < end; i++) {
    if (MARK[TEXT[i]] && made.length) { made.at(-1).append(GLYPHS[TEXT[i]]); continue; }
    const char = el("span", {}, MARK[TEXT[i]] ? `◌${GLYPHS[TEXT[i]]}` : GLYPHS[TEXT[i]]);
    char.dataset.i = i;
    dress(char, i);
    made.push(char);
  }
  return made;
}

function dress(char, i) {
  const { hypothesis, at, span } = state;
  const shown = [10, 9].includes(codeAt(i)) || GLYPHS[TEXT[i]].length > 2;
  char.className = `c${shown ? " picture" : ""}${i === at ? " at" : ""}${SCORED[i] ? "" : " unscored"}` +
    (span && i >= span[0] && i < span[1] ? " picked" : "");
  paint(char, paintedAt(i));
  const label = labelAt(hypothesis, i);
  char.style.borderBottomColor = label > 0 ? trackColour(hypothesis, label) : "";
}

/** The line under a character: full for yes or no, the paler the smaller for counts. */
function trackColour(h, label) {
  if (DATA.hypotheses[h].type === "binary") return "var(--track)";
  const share = Math.min(1, Math.log1p(label) / Math.log1p(typicalMost(h)));
  return `color-mix(in srgb, var(--track) ${Math.round(15 + 85 * share)}%, transparent)`;
}

const most = new Map();
/** The 98th percentile of a hypothesis' values above zero. */
function typicalMost(h) {
  if (!most.has(h)) {
    const positive = LABELS[h].filter((value) => value > 0 && value !== LABEL_NONE[h]).sort();
    most.set(h, positive[Math.floor(positive.length * 0.98)] ?? 1);
  }
  return most.get(h);
}

function repaint() {
  for (const row of inSight.values()) {
    for (const char of row.children) dress(char, Number(char.dataset.i));
  }
}

/** Bring a character into sight; `force` puts it into the upper third even if it is in sight. */
function reveal(i, force = false) {
  const pane = byId("pane"), top = rowOf(i) * ROW;
  const outside = top < pane.scrollTop + ROW || top > pane.scrollTop + pane.clientHeight - 2 * ROW;
  if (force || outside) pane.scrollTop = Math.max(0, top - pane.clientHeight / 3);
  drawRows();
}

const isOn = (h, i) => labelAt(h, i) > 0;

/** Whether a label changes at a character in a way that is worth a jump. */
function isBoundary(h, i) {
  if (i === 0 || isOn(h, i) !== isOn(h, i - 1)) return true;
  if (DATA.hypotheses[h].type === "level") return isOn(h, i) && labelAt(h, i) !== labelAt(h, i - 1);
  return labelAt(h, i) < labelAt(h, i - 1);
}

/** The next character, forwards or backwards, where the label changes; the same one if there is none. */
function boundaryFrom(i, direction) {
  for (let k = i + direction; k >= 0 && k < N; k += direction) {
    if (isBoundary(state.hypothesis, k)) return k;
  }
  return i;
}

/** What the mouse selected, as first and last character (exclusive); null if nothing. */
function selectedSpan() {
  const selection = document.getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!byId("rows").contains(range.commonAncestorContainer)) return null;
  const inside = [...byId("rows").querySelectorAll(".c")].filter((char) => touches(range, char));
  const indices = inside.map((char) => Number(char.dataset.i));
  return indices.length ? [Math.min(...indices), Math.max(...indices) + 1] : null;
}

/** Whether a range holds something of a character, not just its edge. */
function touches(range, char) {
  const own = document.createRange();
  own.selectNodeContents(char);
  return range.compareBoundaryPoints(Range.END_TO_START, own) < 0 &&
    range.compareBoundaryPoints(Range.START_TO_END, own) > 0;
}
