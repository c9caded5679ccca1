// Search by example: other spans where the neurons that are on over a selection are on too.

const ON = 0.3;
const MATCHES = 50, CANDIDATES = 2000;

/** Bytes at or beyond which a neuron is on, above and below zero. */
const HIGH = Math.ceil((1 + ON) * STEP.value - 1e-9), LOW = Math.floor((1 - ON) * STEP.value + 1e-9);
const isOnByte = (byte, sign) => (sign > 0 ? byte >= HIGH && byte !== 255 : byte <= LOW);

/** Neurons that are on with one sign over a whole span, as `[neuron, sign]`. */
function activeOver(begin, end) {
  const active = [];
  for (let neuron = 0; neuron < VALUES.length; neuron++) {
    for (const sign of [1, -1]) {
      let i = begin;
      while (i < end && isOnByte(VALUES[neuron][i], sign)) i++;
      if (i === end) active.push([neuron, sign]);
    }
  }
  return active;
}

/** Spans of other text, those that share most neurons first, then those with fewest others, then the longest. */
function matching(begin, end, active) {
  const together = new Uint8Array(N);
  for (const [neuron, sign] of active) {
    const values = VALUES[neuron];
    for (let i = 0; i < N; i++) if (isOnByte(values[i], sign)) together[i]++;
  }
  const found = [], taken = new Uint8Array(N).fill(1, begin, end);
  for (let least = active.length; least > 0 && found.length < MATCHES; least--) {
    found.push(...runs(together, least, taken).map((run) => described(run, active)));
    for (const { begin: from, end: to } of found) taken.fill(1, from, to);
  }
  const order = (a, b) => b.shared - a.shared || a.union - b.union || b.end - b.begin - (a.end - a.begin);
  return found.filter(({ shared }) => shared > 0).sort(order).slice(0, MATCHES);
}

/** The longest runs of characters where at least so many neurons are on, each within one piece. */
function runs(together, least, taken) {
  const found = [];
  DATA.stretches.forEach(({ begin }, k) => {
    const stop = DATA.stretches[k + 1]?.begin ?? N;
    for (let i = begin; i < stop; i++) {
      if (together[i] < least || taken[i]) continue;
      const from = i;
      while (i < stop && together[i] >= least && !taken[i]) i++;
      found.push([from, i]);
    }
  });
  return found.sort((a, b) => b[1] - b[0] - (a[1] - a[0])).slice(0, CANDIDATES);
}

function described([begin, end], active) {
  const own = activeOver(begin, end).map(String), asked = active.map(String);
  const shared = asked.filter((one) => own.includes(one)).length;
  return { begin, end, shared, union: new Set([...own, ...asked]).size };
}

/** Hypotheses that hold in more, or fewer, of the matches than of the text, the most telling first. */
function composition(matches) {
  const inside = (h, { begin, end }) => {
    let on = 0;
    for (let i = begin; i < end; i++) on += isOn(h, i);
    return on * 2 > end - begin;
  };
  return DATA.hypotheses.flatMap(({ name, type }, h) => {
    if (type !== "binary") return [];
    const count = matches.filter((match) => inside(h, match)).length;
    const base = LABELS[h].reduce((sum, value) => sum + (value > 0 && value !== LABEL_NONE[h]), 0) / N;
    return [{ name, h, count, base, lift: Math.abs(count / matches.length - base) }];
  }).sort((a, b) => b.lift - a.lift).slice(0, 4);
}

function drawSpans() {
  const panel = byId("spans");
  if (!state.span) {
    panel.replaceChildren(el("p", { class: "quiet" }, "Select some text with the mouse, or with shift and the arrow keys: " +
      `here come the spans where the same neurons are on (beyond ±${unsigned(ON, 1)} all the time, with the same sign).`));
    return;
  }
  const [begin, end] = state.span, active = activeOver(begin, end);
  const matches = active.length ? matching(begin, end, active) : [];
  panel.replaceChildren(
    el("h2", {}, "Spans like ", el("q", { class: "mono" }, quoted(begin, end))),
    el("p", { class: "chips" }, el("span", { class: "quiet" }, active.length ? "on over all of it " : `none of the ${DATA.neurons.length} neurons is on over all of it`), ...active.map(neuronChip)),
    ...(matches.length ? [compositionOf(matches), ...matches.map((match) => matchOf(match, active.length))] : []),
  );
}

function neuronChip([neuron, sign]) {
  return el("button", { type: "button", class: `chip mono ${sign < 0 ? "negative" : "positive"}`, onclick: () => change({ neuron }) },
    `${DATA.neurons[neuron]} ${sign < 0 ? "−" : "+"}`);
}

function compositionOf(matches) {
  return el("ul", { class: "composition" }, ...composition(matches).map(({ name, h, count, base }) => el("li", {},
    el("strong", {}, `${count} of ${matches.length}`), " inside ",
    el("button", { type: "button", class: "chip", onclick: () => change({ hypothesis: h }) }, name), ` base ${percent(base)}`)));
}

function matchOf({ begin, end, shared }, asked) {
  const around = Math.max(0, Math.min(40, 60 - (end - begin)));
  const stretch = DATA.stretches[stretchAt(begin)], stop = DATA.stretches[stretchAt(begin) + 1]?.begin ?? N;
  const body = sample(Math.max(stretch.begin, begin - around), Math.min(stop, Math.min(end, begin + 120) + 12));
  for (const char of body.querySelectorAll(".c")) {
    const i = Number(char.dataset.i);
    char.classList.toggle("picked", i >= begin && i < end);
  }
  return el("article", { class: "excerpt" },
    el("button", { type: "button", class: "go", onclick: () => jump(begin) },
      el("strong", {}, `${shared} of ${asked} neurons`), ` ${(end - begin).toLocaleString("en")} characters · ${place(begin)}`), body);
}

const quoted = (begin, end) => {
  const shown = Array.from({ length: Math.min(40, end - begin) }, (_, k) => GLYPHS[TEXT[begin + k]]).join("");
  return end - begin > 40 ? `${shown}…` : shown;
};
