// From a value to a colour: 33 steps, unpainted at zero; the palettes come with the data.

const SHADES = 16;
const DELTA_LIMIT = 1; // bits that are painted as strongly as can be

/** What a character is painted by: the activation, or what it costs more without the neuron. */
function paintedAt(i) {
  return state.delta ? deltaAt(state.neuron, i) / DELTA_LIMIT : valueAt(state.neuron, i);
}

const shade = (value) => (Number.isNaN(value) ? 0 : Math.round(Math.max(-1, Math.min(1, value)) * SHADES));
const palette = (theme) => DATA.palettes[`${state.grey ? "grey" : "colour"}-${theme}`];

/** Give an element the paper and ink of a value; both themes at once, so that printing turns light. */
function paint(element, value) {
  const step = shade(value), banded = state.grey && step < 0;
  const light = palette("light")[step + SHADES], dark = palette("dark")[step + SHADES];
  const both = (k) => (step ? `light-dark(${light[k]}, ${dark[k]})` : "");
  element.style.backgroundColor = banded ? "" : both(0);
  element.style.color = banded ? "" : both(1);
  element.style.setProperty("--shade", banded ? both(0) : "");
  element.classList.toggle("banded", banded);
}

function drawLegend() {
  const cells = [];
  for (let step = -SHADES; step <= SHADES; step += 2) {
    const cell = el("i");
    paint(cell, step / SHADES);
    cells.push(cell);
  }
  const unit = state.delta ? " bit" : "";
  const meaning = state.delta ? "blue: costs more without it" : "red −, blue +";
  byId("legend").replaceChildren(
    el("span", {}, `−1${unit}`), el("span", { class: "ramp" }, ...cells), el("span", {}, `+1${unit}`),
    el("span", { class: "meaning" }, state.grey ? meaning.replace("blue", "filled").replace("red", "banded") : meaning),
  );
}
