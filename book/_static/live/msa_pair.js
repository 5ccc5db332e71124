// Two columns of an alignment, and what three scores make of them as rows are added (Eqs. 3.1 to
// 3.3; the table W of Proposition 3.1 is one that a network has learned).
"use strict";

const BASES = "ACGU";
const LETTERS = "ACGU-";
const q = LETTERS.length;

// A number for every pair of columns, 0 on the diagonal, line by line.
function map(n, value) {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = i + 1; j < n; j++) out[n * i + j] = out[n * j + i] = value(i, j);
  return out;
}

function dot(x, y, count = x.length) {
  let sum = 0;
  for (let k = 0; k < count; k++) sum += x[k] * y[k];
  return sum;
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);

// A pair's table of bases: 16 numbers.
function bases(value) {
  const table = new Float64Array(16);
  for (let k = 0; k < 16; k++) table[k] = value(k >> 2, k & 3);
  return table;
}

// The size of each pair's table, then the average product correction off the diagonal.
function sizes(n, table) {
  const size = map(n, (i, j) => {
    const one = table(i, j);
    return Math.sqrt(dot(one, one));
  });
  const line = Array.from({ length: n }, (_, i) => total(size.subarray(n * i, n * i + n)));
  const all = total(line) || 1;
  return map(n, (i, j) => size[n * i + j] - ((line[i] * line[j]) / all) * (n / (n - 1)));
}

function countsOf(rows, i, j) {
  const counts = new Float64Array(q * q);
  for (const row of rows) counts[q * row[i] + row[j]]++;
  return counts;
}

function covariance(rows, f) {
  return (i, j) => {
    const counts = countsOf(rows, i, j);
    return bases((a, b) => counts[q * a + b] / rows.length - f[q * i + a] * f[q * j + b]);
  };
}

// J = -C^-1 with half pseudocounts, in the gauge whose lines sum to 0. There C is D plus u u' for
// each u below, and D^-1 is 2 q. So only the small K = 1 + 2 q U U' = G G' is to be inverted: J is
// (2 q)^2 times the sum of v v', where G v = u.
function meanField(rows, f) {
  const u = rows.map((row) => {
    const line = f.map((share) => -share);
    row.forEach((a, i) => line[q * i + a]++);
    return line.map((value) => value * Math.sqrt(0.5 / rows.length));
  });
  u.push(f.map((share) => (share - 1 / q) / 2));
  const [G, v] = [[], []];
  u.forEach((line, m) => {
    const g = (G[m] = []);
    const rest = line.slice();
    for (let k = 0; k <= m; k++) {
      const left = +(k === m) + 2 * q * dot(line, u[k]) - dot(g, G[k], k);
      g[k] = k < m ? left / G[k][k] : Math.sqrt(left);
      if (k < m) for (let x = 0; x < rest.length; x++) rest[x] -= g[k] * v[k][x];
    }
    v.push(rest.map((value) => value / g[m]));
  });
  const at = Array.from(f, (_, x) => Float64Array.from(v, (line) => 2 * q * line[x]));
  return (i, j) => bases((a, b) => dot(at[q * i + a], at[q * j + b]));
}

live("msa_pair", (frame, { rows, pairs, likings, separation, first, second, depth, depths, curves }) => {
  const letters = rows.map((row) => [...row].map((letter) => LETTERS.indexOf(letter)));
  const n = letters[0].length;
  const names = ["learned likings", "covariance", "mean field"];
  const known = new Set(pairs.map(([i, j]) => n * i + j));
  const eligible = [...new Array(n * n).keys()].filter((p) => (p % n) - Math.floor(p / n) >= separation);

  function plain(count) {
    const some = letters.slice(0, count);
    const f = new Float64Array(n * q);
    for (const row of some) row.forEach((a, i) => (f[q * i + a] += 1 / count));
    const C = covariance(some, f);
    const W = likings.flat();
    return [map(n, (i, j) => dot(W, C(i, j))), sizes(n, C), sizes(n, meanField(some, f))];
  }
  // Added up over five stacked pairs, this one in their middle.
  function along(score) {
    const at = (i, j) => (i < 0 || j < 0 || i >= n || j >= n ? 0 : score[n * i + j]);
    return map(n, (i, j) => total([-2, -1, 0, 1, 2].map((k) => at(i + k, j - k))));
  }
  const kept = new Map();
  // Of each score: its values, the pairs by rank, and the share of right ones among the best.
  function found(count, stems) {
    const key = `${count} ${stems}`;
    if (!kept.has(key)) {
      const scores = stems ? found(count, false).map(({ score }) => along(score)) : plain(count);
      kept.set(key, scores.map((score) => {
        const value = score.map((one) => Math.round(1e9 * one)); // equal ones keep their order
        const ranked = eligible.slice().sort((p, r) => value[r] - value[p]);
        const best = ranked.slice(0, known.size);
        return { score, ranked, best, right: best.filter((p) => known.has(p)).length / known.size };
      }));
    }
    return kept.get(key);
  }

  const picked = frame.choice("score", names);
  const stems = frame.toggle("sum along stems");
  const columns = [frame.range("column", first), frame.range("and", second)];
  const shown = frame.range("rows", depth);
  let arcs = [];

  frame.paint = (width) => {
    const count = +shown.value;
    const [i, j] = columns.map((one) => +one.value).sort((a, b) => a - b);
    const mine = n * i + j;
    const scored = found(count, stems.checked);
    const words = (x, y, text, anchor = "middle") =>
      `<text x="${x}" y="${y}" text-anchor="${anchor}">${text}</text>`;

    // Above the line the structure, below it as many best pairs.
    const step = (width - 12) / n;
    const flat = Math.min(0.7, 220 / width);
    const line = 8 + (flat * (width - 12)) / 2;
    arcs = [];
    const arc = (p, down, kind) => {
      const left = 6 + step * (Math.floor(p / n) + 0.5);
      const rx = (step * ((p % n) - Math.floor(p / n))) / 2;
      if (kind !== "chosen") arcs.push({ p, down, x: left + rx, rx });
      return `<path class="${kind}" d="M${left} ${line}a${rx} ${flat * rx} 0 0 ${+!down} ${2 * rx} 0"/>`;
    };
    const drawn = [
      `<path class="axis" d="M6 ${line}H${width - 6}"/>`,
      arc(mine, false, "chosen"), arc(mine, true, "chosen"),
      ...[...known].map((p) => arc(p, false, "arc")),
      ...scored[names.indexOf(picked.value)].best.map((p) => arc(p, true, known.has(p) ? "right" : "wrong")),
    ];
    for (let c = 0; c < n; c += 20) drawn.push(words(6 + step * (c + 0.5), 2 * line, c));
    frame.svg.onclick = (event) => {
      const box = frame.svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top - line];
      if (y > line) return;
      const miss = (one) => Math.abs(Math.hypot(x - one.x, y / flat) - one.rx);
      const near = arcs.filter(({ down }) => down === y > 0).sort((a, b) => miss(a) - miss(b))[0];
      [columns[0].value, columns[1].value] = [Math.floor(near.p / n), near.p % n];
      columns.forEach((one) => one.dispatchEvent(new Event("input")));
    };

    const top = 2 * line + 52;
    const counts = countsOf(letters.slice(0, count), i, j);
    const table = (left, wide, heads, title, value, text) => {
      drawn.push(words(left - 14, top - 22, title, "start"));
      [...heads].forEach((head, a) => {
        drawn.push(words(left - 8, top + 24 * a + 16, head), words(left + wide * (a + 0.5), top - 5, head));
        [...heads].forEach((_, b) => drawn.push(
          `<rect class="cell" x="${left + wide * b}" y="${top + 24 * a}" width="${wide - 1}" height="23" fill-opacity="${Math.max(0, value(a, b) / 2)}"/>`,
          words(left + wide * (b + 0.5), top + 24 * a + 16, text(a, b)),
        ));
      });
    };
    table(16, 21, LETTERS, `${i} down, ${j} across`, (a, b) => counts[q * a + b] / count, (a, b) => counts[q * a + b] || "");
    table(143, 30, BASES, names[0], (a, b) => likings[a][b], (a, b) => likings[a][b].toFixed(1).replace("-", "−"));

    const beside = width > 560;
    const most = Math.log2(depth.max);
    const plot = axes({
      left: beside ? 320 : 34, width: width - (beside ? 332 : 46), top: top + (beside ? -4 : 160),
      height: 120, xs: [1, most], ys: [0, 1], xticks: [], yticks: [0, 0.5, 1], xlabel: "rows",
      ylabel: `right of the best ${known.size}`,
    });
    drawn.push(plot.markup, ...depths.map((d) => words(plot.x(Math.log2(d)), plot.y(0) + 16, d)));
    names.forEach((name, k) => {
      const points = depths.map((d, at) => [Math.log2(d), curves[+stems.checked][k][at]]);
      const [x, y] = [plot.x(most) - 126, plot.y(0) - 38 + 15 * k];
      drawn.push(
        plot.curve(points, `score${k}`), `<path class="score${k}" d="M${x} ${y - 4}h22"/>`,
        `<circle class="score${k} dot" r="4" cx="${plot.x(Math.log2(count))}" cy="${plot.y(scored[k].right)}"/>`,
        words(x + 28, y, name, "start"),
      );
    });
    const said = [1, 2, 0].map((k) => {
      const place = scored[k].ranked.indexOf(mine) + 1;
      return `${names[k]} ${scored[k].score[mine].toFixed(3)} (${place ? `place ${place}` : "too near"})`;
    });
    return {
      height: top + (beside ? 160 : 324),
      markup: drawn.join(""),
      number:
        `Columns ${i} and ${j}, ${known.has(mine) ? "a" : "no"} pair of the structure, ${count} rows: ` +
        `${said.join(", ")}. Right of their best ${known.size}: ` +
        `${[1, 2, 0].map((k) => scored[k].right.toFixed(2)).join(", ")}.`,
    };
  };
});
