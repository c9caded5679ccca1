// What is chosen, how it comes from and goes into the address, and what keys and the mouse do.

const byId = (id) => document.getElementById(id);
const TABS = ["board", "card", "spans", "method"];
const THEMES = ["auto", "light", "dark"];
const state = { neuron: 0, hypothesis: 0, at: 0, span: null, delta: false, grey: false, theme: "auto", tab: "board" };
let anchor = null; // where a selection by keys began

/** The hypothesis that a neuron is the best for, or its best on this page. */
function ownHypothesis(neuron) {
  const row = FOUND.rows.find((one) => one.neuron === DATA.neurons[neuron]) ??
    FOUND.rows.find((one) => one.runners_up.some((runner) => runner.neuron === DATA.neurons[neuron]));
  const h = DATA.hypotheses.findIndex(({ name }) => name === row?.hypothesis);
  return h < 0 ? 0 : h;
}

/** Change what is chosen, and everything on the page that depends on it. */
function change(patch) {
  Object.assign(state, patch);
  if (state.delta && !DELTA.has(DATA.neurons[state.neuron])) state.delta = false;
  show();
  writeAddress();
}

function show() {
  document.documentElement.dataset.theme = state.theme;
  document.documentElement.dataset.grey = state.grey;
  byId("theme").textContent = state.theme[0].toUpperCase() + state.theme.slice(1);
  byId("grey").setAttribute("aria-pressed", state.grey);
  byId("delta").setAttribute("aria-pressed", state.delta);
  byId("delta").disabled = !DELTA.has(DATA.neurons[state.neuron]);
  byId("neuron").value = state.neuron;
  byId("hypothesis").value = state.hypothesis;
  byId("summary").replaceChildren(...summary());
  byId("where").textContent = state.span
    ? `${(state.span[1] - state.span[0]).toLocaleString("en")} characters selected` : place(state.at);
  drawLegend();
  repaint();
  drawCharacter(state.at);
  showTab();
}

function summary() {
  const hypothesis = DATA.hypotheses[state.hypothesis];
  const row = rowOfBoard(state.neuron, state.hypothesis);
  const figures = row
    ? ` r ${signed(row.r)} · untrained ${signed(row.r_untrained)} · ${row.verdict}`
    : ` r ${signed(fit(state.neuron, state.hypothesis).r)} on this page`;
  return [el("strong", {}, figures.trim()), ` — ${hypothesis.name}: ${hypothesis.definition}`];
}

/** Draw the chosen tab only; the others cost time and nobody sees them. */
function showTab() {
  for (const name of TABS) {
    const chosen = name === state.tab;
    byId(name).hidden = !chosen;
    byId(`tab-${name}`).setAttribute("aria-selected", chosen);
    byId(`tab-${name}`).tabIndex = chosen ? 0 : -1;
  }
  ({ board: drawBoardKeepingFocus, card: drawCard, spans: drawSpans, method: () => {} })[state.tab]();
}

function writeAddress() {
  const parts = new URLSearchParams({ neuron: DATA.neurons[state.neuron], hypothesis: DATA.hypotheses[state.hypothesis].name, at: state.at });
  if (state.span) parts.set("span", state.span.join("-"));
  if (state.delta) parts.set("paint", "delta");
  if (state.grey) parts.set("grey", "1");
  if (state.theme !== "auto") parts.set("theme", state.theme);
  if (state.tab !== "board") parts.set("tab", state.tab);
  history.replaceState(null, "", `#${parts}`);
}

/** Take from the address what makes sense; the rest stays as it is at first. */
function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const neuron = DATA.neurons.indexOf(parts.get("neuron"));
  const hypothesis = DATA.hypotheses.findIndex(({ name }) => name === parts.get("hypothesis"));
  const at = Number(parts.get("at") ?? NaN), span = (parts.get("span") ?? "").split("-").map(Number);
  state.neuron = Math.max(0, neuron);
  state.hypothesis = hypothesis < 0 ? ownHypothesis(state.neuron) : hypothesis;
  state.at = Number.isInteger(at) && at >= 0 && at < N ? at : Math.max(0, SCORED.indexOf(1));
  state.span = span.length === 2 && span.every(Number.isInteger) && span[0] >= 0 && span[0] < span[1] && span[1] <= N ? span : null;
  state.delta = parts.get("paint") === "delta";
  state.grey = parts.get("grey") === "1";
  state.theme = THEMES.includes(parts.get("theme")) ? parts.get("theme") : "auto";
  state.tab = TABS.includes(parts.get("tab")) ? parts.get("tab") : "board";
  change({});
  reveal(state.at, true);
}

function say(text) {
  byId("announce").textContent = text;
  byId("where").textContent = text;
}

function stepNeuron(by) {
  const neuron = (state.neuron + by + DATA.neurons.length) % DATA.neurons.length;
  change({ neuron, hypothesis: ownHypothesis(neuron) });
}

function stepHypothesis(by) {
  change({ hypothesis: (state.hypothesis + by + DATA.hypotheses.length) % DATA.hypotheses.length });
}

/** Go to a character and show it. */
function jump(i) {
  anchor = null;
  change({ at: i, span: null });
  reveal(i, true);
  byId("pane").focus({ preventScroll: true });
}

/** Move to a character by key, selecting on the way if shift is held. */
function walk(to, selecting) {
  const at = Math.max(0, Math.min(N - 1, to));
  if (selecting) {
    anchor ??= state.at;
    change({ at, span: [Math.min(anchor, at), Math.max(anchor, at) + 1], tab: "spans" });
  } else {
    anchor = null;
    change({ at });
  }
  reveal(at);
  announce(at);
}

function rowEdge(end, whole) {
  if (whole) return end ? N - 1 : 0;
  const row = rowOf(state.at);
  return end ? rows.end[row] - 1 : rows.begin[row];
}

const KEYS = {
  ArrowUp: () => stepNeuron(-1), k: () => stepNeuron(-1), "[": () => stepNeuron(-1),
  ArrowDown: () => stepNeuron(1), j: () => stepNeuron(1), "]": () => stepNeuron(1),
  K: () => stepHypothesis(-1), J: () => stepHypothesis(1),
  ArrowLeft: (event) => walk(state.at - 1, event.shiftKey), ArrowRight: (event) => walk(state.at + 1, event.shiftKey),
  Home: (event) => walk(rowEdge(false, event.ctrlKey), event.shiftKey), End: (event) => walk(rowEdge(true, event.ctrlKey), event.shiftKey),
  p: () => walk(boundaryFrom(state.at, -1), false), n: () => walk(boundaryFrom(state.at, 1), false),
  "/": () => openSearch(), "?": () => byId("help").showModal(),
  1: () => change({ tab: "board" }), 2: () => change({ tab: "card" }), 3: () => change({ tab: "spans" }), 4: () => change({ tab: "method" }),
  d: () => DELTA.size && change({ delta: !state.delta }),
  g: () => change({ grey: !state.grey }),
  t: () => change({ theme: THEMES[(THEMES.indexOf(state.theme) + 1) % THEMES.length] }),
  Escape: () => { anchor = null; document.getSelection().removeAllRanges(); change({ span: null }); },
};
const PAGED = { PageUp: -1, PageDown: 1 };

function onKey(event) {
  const typing = event.target.matches("input, select, textarea") || document.querySelector("dialog[open]");
  if (typing || event.altKey || event.metaKey || (event.ctrlKey && !["Home", "End"].includes(event.key))) return;
  if (event.target.role === "tab" && /^Arrow(Left|Right)$/.test(event.key)) {
    const tab = TABS[(TABS.indexOf(state.tab) + (event.key === "ArrowLeft" ? 3 : 1)) % TABS.length];
    change({ tab });
    byId(`tab-${tab}`).focus();
  } else if (event.key in PAGED) {
    byId("pane").scrollTop += PAGED[event.key] * (byId("pane").clientHeight - 2 * ROW);
  } else if (event.key in KEYS) {
    KEYS[event.key](event);
  } else {
    return;
  }
  event.preventDefault();
}

/** Neurons with what they go with, and hypotheses with what they mean, that hold every word of a query. */
function searched(query) {
  const neurons = DATA.neurons.map((name, neuron) => ({
    name, note: DATA.hypotheses[ownHypothesis(neuron)].name, go: () => change({ neuron, hypothesis: ownHypothesis(neuron) }),
  }));
  const hypotheses = DATA.hypotheses.map(({ name, definition }, h) => ({
    name, note: definition,
    go: () => {
      const best = DATA.neurons.indexOf(FOUND.rows.find((row) => row.hypothesis === name)?.neuron);
      change({ hypothesis: h, ...(best < 0 ? {} : { neuron: best }) });
    },
  }));
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return [...neurons, ...hypotheses].filter(({ name, note }) => words.every((word) => `${name} ${note}`.toLowerCase().includes(word)));
}

let hits = [], hit = 0;

function openSearch() {
  byId("query").value = "";
  byId("search").showModal();
  drawHits();
}

function drawHits() {
  hits = searched(byId("query").value);
  hit = 0;
  byId("results").replaceChildren(...hits.map(({ name, note }, k) => el("li", { role: "option", id: `hit-${k}`, onclick: () => takeHit(k) },
    el("span", { class: "mono" }, name), el("span", { class: "quiet" }, note))));
  markHit();
}

function markHit() {
  [...byId("results").children].forEach((item, k) => item.setAttribute("aria-selected", k === hit));
  byId("query").setAttribute("aria-activedescendant", hits.length ? `hit-${hit}` : "");
  byId("results").children[hit]?.scrollIntoView({ block: "nearest" });
}

function takeHit(k) {
  byId("search").close();
  hits[k]?.go();
  byId("pane").focus({ preventScroll: true });
}

function onSearchKey(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by && hits.length) { hit = (hit + by + hits.length) % hits.length; markHit(); }
  else if (event.key === "Enter") takeHit(hit);
  else return;
  event.preventDefault();
}

const charOf = (event) => event.target.closest?.(".c");

function onPaneClick(event) {
  const char = charOf(event);
  if (!char || selectedSpan()) return;
  anchor = null;
  const i = Number(char.dataset.i);
  const onTrack = event.clientY > char.getBoundingClientRect().bottom - 6 && isOn(state.hypothesis, i);
  if (onTrack) walk(boundaryFrom(i, 1), false);
  else change({ at: i, span: null });
}

function onPaneSelected() {
  const span = selectedSpan();
  if (span) change({ span, at: span[0], tab: "spans" });
}

/** Copied text is the text, not the pictures of its newlines. */
function onCopy(event) {
  const span = selectedSpan();
  if (!span) return;
  event.clipboardData.setData("text/plain", textOf(...span));
  event.preventDefault();
}

function listen() {
  const pane = byId("pane"), click = (id, act) => byId(id).addEventListener("click", act);
  pane.addEventListener("scroll", () => requestAnimationFrame(() => drawRows()), { passive: true });
  pane.addEventListener("pointermove", (event) => { const char = charOf(event); if (char) drawCharacter(Number(char.dataset.i)); });
  pane.addEventListener("pointerleave", () => drawCharacter(state.at));
  pane.addEventListener("click", onPaneClick);
  pane.addEventListener("pointerup", () => setTimeout(onPaneSelected));
  document.addEventListener("copy", onCopy);
  document.addEventListener("keydown", onKey);
  byId("query").addEventListener("input", drawHits);
  byId("query").addEventListener("keydown", onSearchKey);
  byId("neuron").addEventListener("change", (event) => { const neuron = Number(event.target.value); change({ neuron, hypothesis: ownHypothesis(neuron) }); });
  byId("hypothesis").addEventListener("change", (event) => change({ hypothesis: Number(event.target.value) }));
  for (const name of TABS) click(`tab-${name}`, () => change({ tab: name }));
  click("previous", KEYS.ArrowUp); click("next", KEYS.ArrowDown); click("label-back", KEYS.p); click("label-on", KEYS.n);
  click("delta", KEYS.d); click("grey", KEYS.g); click("theme", KEYS.t); click("open-search", openSearch); click("open-help", KEYS["?"]);
  click("copy-json", () => copy(asJson(), "JSON")); click("copy-svg", () => copy(asSvg(), "SVG"));
  click("copy-ansi", () => copy(asAnsi(), "ANSI")); click("copy-link", () => copy(location.href, "link"));
  for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  new ResizeObserver(() => { if (layout()) reveal(state.at, true); else drawRows(); }).observe(pane);
  addEventListener("hashchange", readAddress);
  addEventListener("beforeprint", preparePrint);
  addEventListener("afterprint", show);
}

/** Paper shows the board, the card and the method one after the other, and the rows in sight. */
function preparePrint() {
  drawBoard();
  drawCard();
  for (const name of ["board", "card", "method"]) byId(name).hidden = false;
}

function fill() {
  byId("run").textContent = FOUND.run;
  byId("model").textContent = `${FOUND.model} · ${FOUND.text_kind} · ${N.toLocaleString("en")} characters · ` +
    `${DATA.neurons.length} of ${FOUND.neurons_tested.toLocaleString("en")} neurons · ${FOUND.hypotheses_tested} hypotheses`;
  const option = (value, text) => el("option", { value }, text);
  byId("neuron").append(...DATA.neurons.map((name, k) => option(k, name)));
  byId("hypothesis").append(...DATA.hypotheses.map(({ name }, k) => option(k, name)));
  byId("delta").hidden = !DELTA.size;
  byId("method").querySelector("dl").append(...DATA.method.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
}

fill();
layout();
listen();
readAddress();
document.documentElement.dataset.ready = "true";
