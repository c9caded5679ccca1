// What a neuron does along what it counts: its mean ± sd, the best untrained neuron dotted, P(newline) beneath.

const PLOT_WIDTH = 400, PLOT_HEIGHT = 110, STRIP = 26, GAP = 6;

function curveOf(neuron, h) {
  return FOUND.counters?.find((one) => one.neuron === DATA.neurons[neuron] && one.hypothesis === DATA.hypotheses[h].name);
}

/** A path through the values that are known, broken where one is not. */
function pathThrough(values, x, y) {
  let path = "", pen = "M";
  values.forEach((value, k) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${x(k).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

/** What lies within one standard deviation of the mean, closed. */
function bandAround({ mean, sd }, x, y) {
  const known = mean.map((_, k) => k).filter((k) => mean[k] !== null && sd[k] !== null);
  const edge = (sign) => known.map((k) => `${x(k).toFixed(1)} ${y(mean[k] + sign * sd[k]).toFixed(1)}`);
  return known.length ? `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z` : "";
}

function counterPlot(neuron, h) {
  const curve = curveOf(neuron, h);
  if (!curve) return null;
  const last = Math.max(1, curve.mean.length - 1);
  const limit = Math.max(1, ...[...curve.mean, ...curve.untrained_mean].map((value) => Math.abs(value ?? 0)));
  const x = (k) => (k / last) * PLOT_WIDTH;
  const y = (value) => Math.max(0, Math.min(PLOT_HEIGHT, ((1 - value / limit) / 2) * PLOT_HEIGHT));
  const parts = [
    svg("line", { x1: 0, x2: PLOT_WIDTH, y1: y(0), y2: y(0) }),
    svg("path", { class: "band", d: bandAround(curve, x, y) }),
    svg("path", { class: "twin", d: pathThrough(curve.untrained_mean, x, y) }),
    svg("path", { class: "mean", d: pathThrough(curve.mean, x, y) }),
  ];
  const chance = curve.p_newline, top = chance ? Math.max(...chance.map((p) => p ?? 0), 1e-9) : 0;
  if (chance) parts.push(...chance.map((p, k) => newlineBar(p ?? 0, k, top, x)));
  const height = PLOT_HEIGHT + (chance ? GAP + STRIP : 0);
  const [first, end] = curve.straight;
  const said = `${signed(curve.slope, 3)} a step, ${curve.flat ? `straight from ${first} to ${end}, then flat` : `one line from ${first} to ${end}`}`;
  return el("figure", {},
    svg("svg", { viewBox: `0 0 ${PLOT_WIDTH} ${height}`, class: "counter", role: "img",
      "aria-label": `Mean activation of ${curve.neuron} by ${curve.hypothesis}: ${said}` }, ...parts),
    el("figcaption", {}, el("span", {}, "0"),
      el("span", {}, `mean ± sd by ${curve.hypothesis}: ${said} · axis ±${unsigned(limit, 1)} · dotted: untrained ${curve.untrained}` +
        (chance ? ` · beneath: P(⏎), up to ${unsigned(top)}` : "")),
      el("span", {}, String(curve.mean.length - 1))));
}

function newlineBar(p, k, top, x) {
  const height = (p / top) * STRIP, width = Math.max(0.5, x(1) - 0.5);
  return svg("rect", { class: "newline", x: Math.max(0, Math.min(PLOT_WIDTH - width, x(k) - width / 2)), width,
    y: PLOT_HEIGHT + GAP + STRIP - height, height });
}
