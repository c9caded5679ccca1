// One character looked at closely: what the neuron did, what was expected, what the labels say.

/** A bar from the middle for numbers from -1 to 1, from the left for shares. */
function bar(value, { middle = false, name = "" } = {}) {
  const fill = el("i", { class: "fill" });
  const size = Math.min(1, Math.abs(value || 0)) * (middle ? 50 : 100);
  fill.style.width = `${size}%`;
  fill.style.left = middle ? `${value < 0 ? 50 - size : 50}%` : "0";
  return el("span", { class: `meter${middle ? " middle" : ""} ${name}${value < 0 ? " negative" : ""}` }, fill);
}

const GATE_NAMES = { i: "input", f: "forget (1 = keep)", g: "candidate", o: "output", r: "reset", z: "update (1 = keep)", n: "candidate" };
const CENTRED_GATES = new Set(["g", "n"]);

function drawCharacter(i) {
  byId("character").replaceChildren(
    el("div", { class: "head" },
      el("span", { class: "big" }, loneGlyph(codeAt(i))),
      el("div", {},
        el("strong", {}, codeAt(i) < 0x20 || codeAt(i) === 32 ? spelled(codeAt(i)) : codeName(codeAt(i))),
        el("p", {}, `${place(i)}${SCORED[i] ? "" : " · not scored"}`)),
    ),
    el("div", { class: "columns" },
      el("div", {}, el("h3", {}, `${DATA.neurons[state.neuron]} after it`), ...activation(i), ...gates(i)),
      el("div", {}, el("h3", {}, surprise(i)), ...expected(i))),
    labels(i),
  );
}

const codeName = (code) => (code >= 0xdc80 && code <= 0xdcff ? `byte ${hex(code - 0xdc00, 2)}`
  : `U+${hex(code, 4).toUpperCase()}`);

function surprise(i) {
  const bits = bitsAt(i);
  return Number.isNaN(bits) ? "then expected" : `surprisal ${bits.toFixed(1)} bits · then expected`;
}

function line(name, meter, number, title = "") {
  return el("div", { class: "line", title }, el("span", { class: "what" }, name), meter, el("span", { class: "number" }, number));
}

function activation(i) {
  const value = valueAt(state.neuron, i);
  const made = [line("value", bar(value, { middle: true, name: "value" }), signed(value))];
  if (DELTA.has(DATA.neurons[state.neuron])) {
    const bits = deltaAt(state.neuron, i);
    made.push(line("Δ loss", bar(bits / 4, { middle: true, name: "value" }), signed(bits), "bits more without the neuron"));
  }
  return made;
}

function gates(i) {
  if (!DATA.gates.length) return [];
  if (!GATES[state.neuron]) return [el("p", { class: "quiet" }, "gates had no room on this page")];
  return DATA.gates.map((name, g) => {
    const value = gateAt(state.neuron, g, i), middle = CENTRED_GATES.has(name);
    return line(name, bar(value, { middle }), middle ? signed(value) : unsigned(value), GATE_NAMES[name]);
  });
}

/** The likeliest next characters; the one that came is marked. */
function expected(i) {
  const next = i + 1 < N && stretchAt(i + 1) === stretchAt(i) ? TEXT[i + 1] : -1;
  return Array.from({ length: NEXT.length / N }, (_, k) => {
    const symbol = NEXT[k * N + i], share = PROBS[k * N + i] / 255;
    const made = line(loneGlyph(DATA.symbols[symbol]), bar(share), unsigned(share));
    made.title = spelled(DATA.symbols[symbol]) + (symbol === next ? ", which came" : "");
    made.classList.toggle("came", symbol === next);
    return made;
  });
}

function labels(i) {
  const on = DATA.hypotheses.flatMap(({ name, type }, h) => {
    const value = labelAt(h, i);
    if (!(value > 0)) return [];
    return [el("button", {
      type: "button", class: h === state.hypothesis ? "chip chosen" : "chip", title: DATA.hypotheses[h].definition,
      onclick: () => change({ hypothesis: h }),
    }, type === "binary" ? name : `${name} ${value}`)];
  });
  return el("div", { class: "chips", "aria-label": "Labels here" }, ...(on.length ? on : [el("span", { class: "quiet" }, "no label here")]));
}

/** What a screen reader says. */
function announce(i) {
  const bits = bitsAt(i);
  byId("announce").textContent = `${spelled(codeAt(i))}, ${DATA.neurons[state.neuron]} ${signed(valueAt(state.neuron, i))}` +
    (Number.isNaN(bits) ? "" : `, surprisal ${bits.toFixed(1)} bits`) + (isOn(state.hypothesis, i) ? `, ${DATA.hypotheses[state.hypothesis].name}` : "");
}
