// Draw a signal, and watch d numbers hold its last theta steps (Eqs. 1.2 to 1.5).
"use strict";

// The matrix of Eq. 1.4 over theta, with B beside it, as the block of one matrix exponential.
function block(d, theta) {
  const rows = Array.from({ length: d + 1 }, () => new Float64Array(d + 1));
  for (let i = 0; i < d; i++) {
    const scale = (2 * i + 1) / theta;
    for (let j = 0; j < d; j++) rows[i][j] = scale * (i < j || (i - j) % 2 === 0 ? -1 : 1);
    rows[i][d] = scale * (i % 2 ? -1 : 1);
  }
  return rows;
}

function product(a, b) {
  return a.map((row) => {
    const out = new Float64Array(row.length);
    row.forEach((value, k) => {
      if (value) for (let j = 0; j < out.length; j++) out[j] += value * b[k][j];
    });
    return out;
  });
}

// exp(a): Taylor's series of a / 2^s, squared s times.
function exponential(a) {
  const norm = Math.max(...a.map((row) => row.reduce((sum, value) => sum + Math.abs(value), 0)));
  const s = Math.max(0, Math.ceil(Math.log2(norm)) + 2);
  const small = a.map((row) => row.map((value) => value / 2 ** s));
  let term = a.map((row, i) => row.map((_, j) => +(i === j)));
  let sum = term.map((row) => row.slice());
  for (let k = 1; k <= 14; k++) {
    term = product(term, small).map((row) => row.map((value) => value / k));
    sum = sum.map((row, i) => row.map((value, j) => value + term[i][j]));
  }
  for (let k = 0; k < s; k++) sum = product(sum, sum);
  return sum;
}

// The state after the last step; one step is the hold's (Eq. 1.5) or Euler's.
function remember(signal, d, theta, euler) {
  const a = block(d, theta);
  const step = euler
    ? a.map((row, i) => row.map((value, j) => value + (i === j && i < d)))
    : exponential(a);
  let m = new Float64Array(d);
  for (const u of signal) {
    m = m.map((_, i) => {
      let sum = step[i][d] * u;
      for (let j = 0; j < d; j++) sum += step[i][j] * m[j];
      return sum;
    });
  }
  return m;
}

// The sum of m_i P_i(2r - 1), by Bonnet's recursion.
function recall(m, r) {
  const x = 2 * r - 1;
  let [previous, current, sum] = [1, x, m[0]];
  for (let i = 1; i < m.length; i++) {
    sum += m[i] * current;
    [previous, current] = [current, ((2 * i + 1) * x * current - i * previous) / (i + 1)];
  }
  return sum;
}

live("lmu_window", (frame, { steps, shown, noise, order, theta, period }) => {
  const wave = (p) => Array.from({ length: steps }, (_, t) => Math.sin((2 * Math.PI * t) / p));
  const kinds = {
    "two sines": (p) => wave(p).map((value, t) => value + Math.sin((2 * Math.PI * t) / (2.5 * p))),
    sine: wave,
    step: () => Array.from({ length: steps }, (_, t) => +(t >= steps - 100)),
    noise: () => noise,
    "drawn by you": () => drawn,
  };
  let drawn = new Array(steps).fill(0);
  const kind = frame.choice("signal", Object.keys(kinds));
  const p = frame.range("steps a period", period);
  const d = frame.range("numbers d", order);
  const window_ = frame.range("window θ (steps)", theta);
  const method = frame.choice("time step", ["zero-order hold", "Euler"]);
  const at = frame.range("draw at (steps ago)", { min: 0, max: shown, step: 5, value: 50 });
  const height = frame.range("height there", { min: -2, max: 2, step: 0.1, value: 0 });
  const pen = [at, height].map((input) => input.parentElement);

  // Near a place the drawn signal goes to the height; further away it stays.
  function draw(ago, value, reach) {
    drawn = drawn.map((old, t) => {
      const near = Math.exp(-(((steps - 1 - ago - t) / reach) ** 2));
      return old + near * (value - old);
    });
    kind.value = "drawn by you";
  }
  height.addEventListener("input", () => draw(+at.value, +height.value, 12), { capture: true });

  let plot;
  frame.paint = (width) => {
    const signal = kinds[kind.value](+p.value);
    const [orderNow, thetaNow] = [+d.value, +window_.value];
    let m = remember(signal, orderNow, thetaNow, method.value === "Euler");
    const finite = m.every(Number.isFinite);
    if (!finite) m = m.map(() => NaN);
    const ago = Array.from({ length: thetaNow }, (_, k) => k);
    const guess = ago.map((k) => recall(m, (k + 0.5) / thetaNow));
    const truth = ago.map((k) => signal[steps - 1 - k]);
    const square = (values) => values.reduce((sum, value) => sum + value * value, 0);
    const error = Math.sqrt(square(guess.map((g, k) => g - truth[k])) / square(truth));

    const wide = width > 560;
    const first = { left: 34, top: 28, height: 200, width: (wide ? width * 0.64 : width) - 46 };
    plot = axes({
      ...first, xs: [-shown, 0], ys: [-2.4, 2.4], xticks: [-300, -200, -100, 0],
      yticks: [-2, -1, 0, 1, 2], xlabel: "time before now (steps)", ylabel: "value",
    });
    const most = finite ? Math.max(1, ...m.map(Math.abs)) : Infinity;
    const bars = axes({
      left: wide ? width * 0.64 + 40 : 34, top: wide ? 28 : 316, height: 200,
      width: wide ? width * 0.36 - 52 : width - 46, xs: [-0.6, order.max - 0.4], ys: [-1, 1],
      xticks: [0, 10, 20, 30, 40], yticks: [-1, 0, 1], xlabel: "coefficient i",
      ylabel: finite ? `m_i, in units of ${most < 1000 ? most.toFixed(1) : most.toExponential(0)}` : "m_i: too large for any number",
    });
    const thick = Math.max(1.5, bars.x(0.8) - bars.x(0));
    const bar = (value, i) =>
      `<path class="bar" stroke-width="${thick}" d="M${bars.x(i)} ${bars.y(0)}V${bars.y(value / most)}"/>`;
    const inside = (value) => Math.max(-2.6, Math.min(2.6, value));
    pen.forEach((line) => (line.hidden = kind.value !== "drawn by you"));
    p.parentElement.hidden = !/sine/.test(kind.value);
    const percent = 100 * error;
    const said = Number.isFinite(percent)
      ? percent < 1000 ? percent.toFixed(2) : percent.toExponential(2)
      : "∞";
    const turns = (2 * thetaNow) / p.value;
    return {
      height: wide ? 266 : 556,
      markup:
        `<rect class="window" x="${plot.x(-thetaNow)}" y="28" height="200" width="${plot.x(0) - plot.x(-thetaNow)}"/>` +
        plot.markup + bars.markup +
        plot.curve(signal.slice(-shown - 1).map((u, k) => [k - shown, u]), "truth") +
        (finite ? plot.curve(guess.map((g, k) => [-k, inside(g)]), "answer") : "") +
        (finite ? Array.from(m, bar).join("") : ""),
      number:
        `The window is recalled with an error of ${said} % (NRMSE), from d = ${orderNow} numbers` +
        (/sine/.test(kind.value) ? `; it holds ${(turns / 2).toFixed(1)} oscillations, twice that is ${turns.toFixed(1)}.` : "."),
    };
  };

  // With a pointer: draw into the picture.
  const point = (event) => {
    const box = frame.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const ago = (shown * (plot.x(0) - x)) / (plot.x(0) - plot.x(-shown));
    const value = (plot.y(0) - y) / (plot.y(0) - plot.y(1));
    if (ago < 0 || ago > shown || Math.abs(value) > 2.4) return;
    if (kind.value !== "drawn by you") drawn = kinds[kind.value](+p.value).slice();
    draw(ago, value, 4);
    frame.draw();
  };
  frame.svg.addEventListener("pointerdown", (event) => {
    frame.svg.setPointerCapture(event.pointerId);
    point(event);
  });
  frame.svg.addEventListener("pointermove", (event) => event.buttons && point(event));
});
