// The leader board: one row per hypothesis, the same columns as in the terminal.

const [MARK_OF, TONE_OF, MEANING_OF] = [0, 1, 2].map((k) => (verdict) => DATA.verdicts[verdict]?.[k] ?? "");
const isQuiet = (verdict) => ["dim", ""].includes(TONE_OF(verdict));
const isMissing = (value) => value === null || value === undefined;

/** Columns: key, heading, what it means, how a value is written. Those without any value are not shown. */
const COLUMNS = [
  ["hypothesis", "hypothesis", "A property of the text at each character", String],
  ["neuron", "neuron", "The neuron that the choosing half picked", String],
  ["r", "r", "Pearson's correlation on the reporting half", (v) => signed(v)],
  ["ap", "AP (base)", "Average precision, beside the share of characters where it holds", (v, row) => `${unsigned(v)} (${unsigned(row.prevalence)})`],
  ["r_within_char", "×char", "r at equal current characters", (v) => signed(v)],
  ["r_partial", "×others", "r at equal values of the hypotheses that resemble this one most", (v) => signed(v)],
  ["r_untrained", "untrained", "r of the best neuron before training", (v) => signed(v)],
  ["delta_on_bpc", "Δ bpc on / off", "What holding the neuron costs where the hypothesis holds, and elsewhere", (v, row) => `${signed(v)} / ${signed(row.delta_off_bpc)}`],
  ["q", "q", "Chance, corrected for the number of hypotheses", (v) => unsigned(v, 3)],
  ["verdict", "verdict", "What all this allows to be said", (v) => `${MARK_OF(v) || "·"} ${v}`],
  ["f1", "F1", "Harmonic mean of precision and recall at the threshold of the choosing half", (v) => unsigned(v)],
  ["mcc", "MCC", "Matthews' correlation at the same threshold", (v) => signed(v)],
  ["auc", "AUC", "Area under the ROC curve; never ranked by", (v) => unsigned(v)],
  ["mutual_information", "MI", "Mutual information, bits", (v) => unsigned(v)],
].filter(([key]) => FOUND.rows.some((row) => !isMissing(figure(row, key))));

/** A figure of a row, wherever the findings keep it. */
function figure(row, key) {
  return row[key] ?? row.measures?.[key] ?? null;
}

const sorting = { key: null, down: true };
const hiddenVerdicts = new Set();

function drawBoard() {
  const counts = new Map();
  for (const { verdict } of FOUND.rows) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  byId("board").replaceChildren(
    el("div", { class: "chips", role: "group", "aria-label": "Verdicts shown" }, ...[...counts].map(verdictChip)),
    el("div", { class: "scroller", tabIndex: 0, role: "region", "aria-label": "Leader board" },
      el("table", {}, el("thead", {}, el("tr", {}, ...COLUMNS.map(heading))), el("tbody", {}, ...sortedRows().flatMap(boardRows)))),
  );
}

function verdictChip([verdict, count]) {
  return el("button", {
    type: "button", class: "chip", title: MEANING_OF(verdict), "aria-pressed": String(!hiddenVerdicts.has(verdict)),
    onclick: () => {
      if (!hiddenVerdicts.delete(verdict)) hiddenVerdicts.add(verdict);
      drawBoardKeepingFocus();
    },
  }, `${MARK_OF(verdict) || "·"} ${verdict} `, el("small", {}, String(count)));
}

function heading([key, name, meaning]) {
  const sorted = sorting.key === key ? (sorting.down ? "descending" : "ascending") : "none";
  const arrow = { descending: " ↓", ascending: " ↑", none: "" }[sorted];
  return el("th", { scope: "col", "aria-sort": sorted, class: isText(key) ? "" : "figure" },
    el("button", { type: "button", title: meaning, onclick: () => sortBy(key) }, name + arrow));
}

const isText = (key) => ["hypothesis", "neuron", "verdict"].includes(key);

/** First strongest to weakest (or A to Z), then the other way, then as found. */
function sortBy(key) {
  const first = !isText(key);
  if (sorting.key !== key) Object.assign(sorting, { key, down: first });
  else if (sorting.down === first) sorting.down = !first;
  else sorting.key = null;
  drawBoardKeepingFocus();
}

function drawBoardKeepingFocus() {
  const focusable = () => [...byId("board").querySelectorAll("button")];
  const index = focusable().indexOf(document.activeElement);
  drawBoard();
  focusable()[index]?.focus();
}

const size = (value) => (value === null ? -1 : Math.abs(value));

function sortedRows() {
  const kept = FOUND.rows.filter((row) => !hiddenVerdicts.has(row.verdict));
  if (sorting.key === null) return kept;
  const { key, down } = sorting;
  const order = isText(key)
    ? (a, b) => String(a[key] ?? "").localeCompare(String(b[key] ?? ""))
    : (a, b) => size(figure(a, key)) - size(figure(b, key));
  return kept.sort((a, b) => (down ? -order(a, b) : order(a, b)));
}

function boardRows(row) {
  const made = el("tr", { class: isQuiet(row.verdict) ? "quiet" : "" }, ...COLUMNS.map((column) => cell(row, column)));
  const chosen = DATA.neurons[state.neuron] === row.neuron && DATA.hypotheses[state.hypothesis].name === row.hypothesis;
  if (chosen) made.setAttribute("aria-current", "true");
  made.addEventListener("click", () => choose(row.neuron, row.hypothesis));
  return [made, ...row.runners_up.map((runner) => runnerUp(row, runner))];
}

function cell(row, [key, , , write]) {
  const value = figure(row, key);
  if (key === "neuron" && value !== null) {
    return el("td", { class: row.r < 0 ? "mono negative" : "mono positive" },
      el("button", { type: "button", onclick: () => choose(value, row.hypothesis) }, value));
  }
  const made = el("td", { class: isText(key) ? "" : "figure" }, value === null ? "–" : write(value, row));
  // the verdict stands far to the right where the panel is narrow; its mark comes first
  if (key === "hypothesis") made.prepend(el("span", { class: `mark ${TONE_OF(row.verdict)}`, title: row.verdict, "aria-hidden": "true" }, MARK_OF(row.verdict) || "·"));
  if (key === "verdict") {
    made.className = `verdict ${TONE_OF(value)}`;
    made.title = MEANING_OF(value);
  }
  if (key === "r" && !isMissing(row.measures?.r_low)) {
    made.title = `95 % interval ${signed(row.measures.r_low)} … ${signed(row.measures.r_high)}; `
      + `${signed(row.r_chosen)} on the half that chose`;
  }
  return made;
}

function runnerUp(row, { neuron, r }) {
  const made = el("tr", { class: "quiet" }, el("td"),
    el("td", { class: "mono" }, el("button", { type: "button", onclick: () => choose(neuron, row.hypothesis) }, neuron)),
    el("td", { class: "figure" }, signed(r)), el("td", { colSpan: COLUMNS.length - 3 }));
  made.addEventListener("click", () => choose(neuron, row.hypothesis));
  return made;
}

/** Show a neuron with a hypothesis; a neuron that had no room here is said to be missing. */
function choose(neuron, hypothesis) {
  const h = DATA.hypotheses.findIndex(({ name }) => name === hypothesis);
  const n = DATA.neurons.indexOf(neuron);
  if (n < 0) say(`${neuron ?? "No neuron"} is not on this page.`);
  change({ ...(n < 0 ? {} : { neuron: n }), ...(h < 0 ? {} : { hypothesis: h }) });
}
