// The card of a neuron: how it differs where the hypothesis holds, then where it fails, then where it works.

const BINS = 40;
const BEFORE = 110, AFTER = 50, APART = 80, PER_DOCUMENT = 2;

function drawCard() {
  const { neuron, hypothesis } = state;
  const found = split(neuron, hypothesis);
  byId("card").replaceChildren(
    el("h2", {}, el("span", { class: "mono" }, DATA.neurons[neuron]), ` and ${DATA.hypotheses[hypothesis].name}`),
    el("p", { class: "quiet" }, DATA.hypotheses[hypothesis].definition),
    figures(neuron, hypothesis, found),
    remembers(rowOfBoard(neuron, hypothesis)),
    ...promotes(neuron, hypothesis),
    ...causes(rowOfBoard(neuron, hypothesis)),
    counterPlot(neuron, hypothesis) ?? "",
    histogram(found),
    failures(found),
    saturation(neuron) ?? "",
    goesWith(neuron, hypothesis),
    ...examples(neuron, hypothesis, found),
  );
}

/** The label that counts as on: above 0, or for counts above their median, as most are above 0. */
function threshold(h) {
  if (DATA.hypotheses[h].type === "binary") return 0;
  const values = LABELS[h].filter((value, i) => SCORED[i] && value !== LABEL_NONE[h]).sort();
  return values[values.length >> 1] ?? 0;
}

/** Histograms of a neuron's values where a hypothesis is on and off, their means, and the fitted line. */
function split(neuron, h) {
  const limit = threshold(h), line = fit(neuron, h);
  const on = new Float64Array(BINS), off = new Float64Array(BINS);
  let onSum = 0, offSum = 0, onCount = 0, offCount = 0;
  for (let i = 0; i < N; i++) {
    const label = labelAt(h, i), value = valueAt(neuron, i);
    if (!SCORED[i] || Number.isNaN(label) || Number.isNaN(value)) continue;
    const bin = Math.min(BINS - 1, Math.floor(((value + 1) / 2) * BINS));
    if (label > limit) { on[bin]++; onSum += value; onCount++; }
    else { off[bin]++; offSum += value; offCount++; }
  }
  return { ...line, on, off, onCount, offCount, limit, h, neuron, sign: line.r < 0 ? -1 : 1,
    meanOn: onSum / Math.max(1, onCount), meanOff: offSum / Math.max(1, offCount) };
}

/** The row of the board for a neuron and a hypothesis, if they go together there. */
function rowOfBoard(neuron, h) {
  return FOUND.rows.find((one) => one.hypothesis === DATA.hypotheses[h].name && one.neuron === DATA.neurons[neuron]);
}

function figures(neuron, h, found) {
  const row = rowOfBoard(neuron, h);
  const pairs = row
    ? COLUMNS.filter(([key]) => !isText(key)).map(([key, name, , write]) => [name, figure(row, key) === null ? "–" : write(figure(row, key), row)])
    : [];
  const own = [["r on this page", signed(found.r)], ["mean on", signed(found.meanOn)], ["mean off", signed(found.meanOff)]];
  return el("dl", { class: "figures" }, ...[...pairs, ...own].map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** How long it remembers, and what is left of r where other hypotheses are equal, and without the position. */
function remembers(row) {
  const said = [];
  if (row?.forgetting) {
    const { after, left } = row.forgetting;
    said.push(after === null ? `keeps ${percent(left)} of a wrong past for 200 characters`
      : `forgets half of a wrong past in ${Math.max(1, Math.round(after))} characters`);
  }
  if (!isMissing(row?.r_partial)) said.push(`at equal values of ${row.given.join(", ")}: r ${signed(row.r_partial)}`);
  if (!isMissing(row?.r_position)) said.push(`without what the position in the document says of both: r ${signed(row.r_position)}`);
  return el("p", { class: "quiet" }, said.join(" · "));
}

const spelledOut = (text) => ([...text].length === 1 ? loneGlyph(text.codePointAt(0)) : text);

/** Which next characters it makes likelier, by all that it does and by the readout alone, and what it does to an end. */
function promotes(neuron, h) {
  const card = FOUND.cards.find((one) => one.hypothesis === DATA.hypotheses[h].name && one.neuron === DATA.neurons[neuron]);
  if (!card) return [];
  const listed = (changes, sign) => changes.filter(({ nats }) => nats * sign > 0).map(({ char, nats }) => `${spelledOut(char)} ${signed(nats)}`).join("\u2003");
  const { next_characters: next, direct_characters: direct, closing } = card;
  const lines = [["promotes", listed(next.slice(0, 6), 1)], ["suppresses", listed(next.toReversed().slice(0, 6), -1)],
    ["directly", [listed(direct.slice(0, 3), 1), listed(direct.toReversed().slice(0, 3), -1)].filter(Boolean).join(" · ")]];
  if (closing) {
    const outside = isMissing(closing.outside) ? "" : `, outside ${signed(closing.outside)}`;
    lines.push([`its end, ${spelledOut(closing.char)}`, `held, log₂ odds inside ${signed(closing.inside)}${outside} · P there ${unsigned(closing.free)} → ${unsigned(closing.held)}`]);
  }
  return lines.filter(([, text]) => text).map(([name, text]) => el("p", {}, el("strong", {}, name), ` ${text}`));
}

/** What holding the neuron does to predictions and to what is written, where that was measured. */
function causes(row) {
  const effects = [row?.cause?.alone, row?.cause?.group].filter(Boolean).map((effect) => {
    const ends = [effect.controls_on[0], effect.controls_on.at(-1)].map((v) => signed(v ?? NaN, 3)).join(" … ");
    const where = effect.off === null ? "" : `, ${signed(effect.off)} elsewhere`;
    return el("p", {}, el("strong", {}, `Holding ${effect.held.join(", ")}`),
      ` costs ${signed(effect.on)} bpc where the hypothesis holds (95 %: ${signed(effect.on_low)} … ${signed(effect.on_high)})${where}; `,
      el("span", { class: "quiet" }, `${effect.controls_on.length} matched controls: ${ends}`));
  });
  return [...effects, ...otherwise(row?.cause), ...(row?.steering ? [steered(row.steering)] : [])];
}

/** The same neuron held in the other way, and whether that says the same. */
function otherwise(cause) {
  if (!cause?.otherwise) return [];
  const { value, on, on_low: low, on_high: high } = cause.otherwise;
  return [el("p", { class: "quiet" }, `${value === null ? "Resampled" : `Held at its mean, ${signed(value)}`}: ` +
    `${signed(on)} bpc (${signed(low)} … ${signed(high)}), which ${cause.agrees ? "agrees" : "disagrees whether that costs anything"}`)];
}

function steered({ free, high, low }) {
  const rows = [["free", free], ["high", high], ["low", low]].map(([name, one]) => el("tr", {},
    el("td", {}, isMissing(one.value) ? name : `${name} ${signed(one.value)}`),
    el("td", { class: "figure" }, unsigned(one.score)), el("td", { class: "figure" }, unsigned(one.bpc)),
    el("td", { class: "wide" }, el("details", {}, el("summary", {}, "text"), el("div", { class: "sample plain" }, one.sample)))));
  return el("table", { class: "small" }, el("thead", {}, el("tr", {}, ...["held while it writes", "hypothesis", "bpc", ""].map((head, k) =>
    el("th", { class: k === 1 || k === 2 ? "figure" : "" }, head)))), el("tbody", {}, ...rows));
}

/** Values where the hypothesis holds above the axis, elsewhere below it, each as shares of its own. */
function histogram(found) {
  const width = 400, half = 54, step = width / BINS;
  const share = (counts, total) => Array.from(counts, (count) => count / Math.max(1, total));
  const on = share(found.on, found.onCount), off = share(found.off, found.offCount);
  // the square root keeps thin bins visible beside those at ±1
  const height = (value) => Math.sqrt(value / Math.max(...on, ...off, 1e-9)) * half;
  const bars = (shares, kind, top) => shares.map((value, k) => svg("rect", {
    class: kind, x: k * step + 0.5, width: step - 1, y: top ? half - height(value) : half + 2, height: height(value),
  }));
  const name = `${DATA.hypotheses[found.h].name} > ${found.limit}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${2 * half + 2}`, class: "histogram", role: "img",
    "aria-label": `Histogram of ${DATA.neurons[found.neuron]}: mean ${signed(found.meanOn)} on, ${signed(found.meanOff)} off` },
  ...bars(on, "on", true), ...bars(off, "off", false), svg("line", { x1: 0, x2: width, y1: half + 1, y2: half + 1 }));
  return el("figure", {}, picture,
    el("figcaption", {}, el("span", {}, "−1"), el("span", {}, `above: ${name} (${percent(found.onCount / Math.max(1, found.n))}) · below: elsewhere · √ of shares`), el("span", {}, "+1")));
}

/** How often the neuron is on the wrong side of the middle between its two means. */
function failures(found) {
  const middle = (found.meanOn + found.meanOff) / 2, up = found.meanOn > found.meanOff;
  let falseOn = 0, falseOff = 0;
  for (let i = 0; i < N; i++) {
    const label = labelAt(found.h, i), value = valueAt(found.neuron, i);
    if (!SCORED[i] || Number.isNaN(label)) continue;
    const high = value > middle === up;
    if (high && label <= found.limit) falseOn++;
    if (!high && label > found.limit) falseOff++;
  }
  return el("p", {}, `Fails first: beyond the middle of its two means (${signed(middle)}) without the label at `,
    el("strong", {}, percent(falseOn / Math.max(1, found.offCount))), ` of ${found.offCount.toLocaleString("en")} characters, short of it with the label at `,
    el("strong", {}, percent(falseOff / Math.max(1, found.onCount))), ` of ${found.onCount.toLocaleString("en")}.`);
}

function saturation(neuron) {
  if (!GATES[neuron] || !DATA.gates.length) return null;
  const count = (gate, test) => {
    let hits = 0;
    for (let i = 0; i < N; i++) if (test(gateAt(neuron, gate, i))) hits++;
    return unsigned(hits / N);
  };
  const kinds = DATA.gates.map((name, g) => [name, g]).filter(([name]) => !CENTRED_GATES.has(name));
  return el("table", { class: "small" },
    el("thead", {}, el("tr", {}, el("th", {}, "gate"), ...kinds.map(([name]) => el("th", { class: "figure", title: GATE_NAMES[name] }, name)))),
    el("tbody", {}, ...[["below .1", (v) => v < 0.1], ["above .9", (v) => v > 0.9]].map(([name, test]) =>
      el("tr", {}, el("td", {}, name), ...kinds.map(([, g]) => el("td", { class: "figure" }, count(g, test)))))));
}

/** What else the neuron goes with, on this page. */
function goesWith(neuron, h) {
  const others = DATA.hypotheses.map((_, k) => [k, fit(neuron, k).r]).filter(([k]) => k !== h);
  others.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  return el("p", { class: "chips" }, el("span", { class: "quiet" }, "on this page it goes with "), ...others.slice(0, 5).map(([k, r]) =>
    el("button", { type: "button", class: "chip", onclick: () => change({ hypothesis: k }) }, `${DATA.hypotheses[k].name} ${signed(r)}`)));
}

function examples(neuron, h, found) {
  const binary = DATA.hypotheses[h].type === "binary";
  const excess = (i) => found.sign * (valueAt(neuron, i) - found.slope * labelAt(h, i) - found.intercept);
  const on = largest((i) => (binary && labelAt(h, i) > 0 ? -Infinity : excess(i)), 4, []);
  const off = largest((i) => (binary && !(labelAt(h, i) > 0) ? -Infinity : -excess(i)), 4, on);
  return [
    ...on.map((i) => excerpt(i, "fails: on where the text gives no reason", true)),
    ...off.map((i) => excerpt(i, "fails: off where it should be on", true)),
    ...works(neuron, h, found.sign, 3).map((i) => excerpt(i, "works", false)),
    excerpt(anywhere(), "a random place", false),
  ];
}

/** The places of the largest scores, apart from one another and few of one document. */
function largest(scoreAt, count, taken) {
  const candidates = [];
  for (let i = 0; i < N; i++) {
    if (!SCORED[i]) continue;
    const score = scoreAt(i);
    if (score > 0) candidates.push([score, i]);
  }
  candidates.sort((a, b) => b[0] - a[0]);
  const kept = [], perDocument = new Map();
  for (const [, i] of candidates) {
    const { document } = DATA.stretches[stretchAt(i)];
    const near = [...kept, ...taken].some((other) => Math.abs(other - i) < APART);
    if (near || (perDocument.get(document) ?? 0) >= PER_DOCUMENT) continue;
    kept.push(i);
    perDocument.set(document, (perDocument.get(document) ?? 0) + 1);
    if (kept.length === count) break;
  }
  return kept;
}

/** The windows whose values agree best with the labels, among those that hold some of both. */
function works(neuron, h, sign, count) {
  const scored = [];
  for (const { begin, skip } of DATA.stretches) {
    for (let middle = begin + skip + BEFORE; middle + AFTER <= N && stretchAt(middle + AFTER - 1) === stretchAt(begin); middle += BEFORE + AFTER) {
      const score = agreement(neuron, h, sign, middle - BEFORE, middle + AFTER);
      if (score !== null) scored.push([score, middle]);
    }
  }
  return scored.sort((a, b) => b[0] - a[0]).slice(0, count).map(([, middle]) => middle);
}

function agreement(neuron, h, sign, begin, end) {
  let a = 0, y = 0, aa = 0, yy = 0, ay = 0, on = 0;
  const n = end - begin;
  for (let i = begin; i < end; i++) {
    const value = valueAt(neuron, i), label = labelAt(h, i);
    if (Number.isNaN(label)) return null;
    a += value; y += label; aa += value * value; yy += label * label; ay += value * label; on += label > 0;
  }
  const varied = yy - (y * y) / n, moved = aa - (a * a) / n;
  if (!(varied > 0) || !(moved > 0)) return null;
  // a window that is half on and half off shows more than one with a single event
  const balance = 4 * (on / n) * (1 - on / n);
  return ((sign * (ay - (a * y) / n)) / Math.sqrt(varied * moved)) * (0.5 + 0.5 * balance);
}

/** A place that is the same whenever the page is opened. */
function anywhere() {
  for (let i = Math.floor(N * 0.6180339887); i < N; i++) if (SCORED[i]) return i;
  return 0;
}

/** Some text around a character, from the begin of a line where one is near. */
function excerpt(middle, why, fails) {
  const { begin } = DATA.stretches[stretchAt(middle)];
  const stop = DATA.stretches[stretchAt(middle) + 1]?.begin ?? N;
  let first = Math.max(begin, middle - BEFORE);
  for (let i = first; i < first + (middle - first) / 2; i++) if (codeAt(i) === 10) { first = i + 1; break; }
  return el("article", { class: fails ? "excerpt fails" : "excerpt" },
    el("button", { type: "button", class: "go", onclick: () => jump(middle) }, el("strong", {}, why), ` ${place(middle)}`),
    sample(first, Math.min(stop, middle + AFTER), middle));
}

/** Painted text that wraps by itself. */
function sample(begin, end, middle = -1) {
  const made = el("div", { class: "sample" });
  for (const char of characters(begin, end)) {
    const i = Number(char.dataset.i);
    char.classList.remove("at", "picked");
    char.classList.toggle("middle", i === middle);
    made.append(char);
    if (codeAt(i) === 10) made.append(el("br"));
  }
  return made;
}
