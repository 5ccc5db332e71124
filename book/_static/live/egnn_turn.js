// Turn the molecule, and see whether the network's answer turns with it (Eqs. 2.1 to 2.4).
"use strict";

const silu = (values) => values.map((value) => value / (1 + Math.exp(-value)));
const linear = ({ weight, bias }, x) =>
  weight.map((row, i) => row.reduce((sum, w, k) => sum + w * x[k], bias ? bias[i] : 0));
const mlp = ([first, last], x) => linear(last, silu(linear(first, x)));
const added = (a, b) => a.map((value, k) => value + b[k]);

// One displacement per atom; `gate` stretches each axis of a difference, which an EGNN must not.
function egnn({ embed, layers }, h, x, gate) {
  const start = x;
  h = h.map((row) => linear(embed, row));
  for (const { phi_e, phi_h, phi_x } of layers) {
    const pushed = [];
    h = h.map((h_i, i) => {
      let m_i = h_i.map(() => 0);
      let push = [0, 0];
      for (let j = 0; j < h.length; j++) {
        if (j === i) continue;
        const r = x[i].map((value, axis) => value - x[j][axis]);
        const m = silu(mlp(phi_e, [...h_i, ...h[j], r[0] ** 2 + r[1] ** 2]));
        const [scale] = mlp(phi_x, m);
        m_i = added(m_i, m);
        push = push.map((value, axis) => value + (r[axis] * gate[axis] * scale) / (h.length - 1));
      }
      pushed.push(added(x[i], push));
      return added(h_i, mlp(phi_h, [...h_i, ...m_i]));
    });
    x = pushed;
  }
  return x.map((row, i) => row.map((value, axis) => value - start[i][axis]));
}

// The plain network: coordinates are two more features.
function gnn({ embed, layers, read }, h, x) {
  h = h.map((row, i) => linear(embed, [...row, ...x[i]]));
  for (const { phi_e, phi_h } of layers) {
    h = h.map((h_i, i) => {
      let m_i = h_i.map(() => 0);
      h.forEach((h_j, j) => {
        if (j !== i) m_i = added(m_i, silu(mlp(phi_e, [...h_i, ...h_j])));
      });
      return added(h_i, mlp(phi_h, [...h_i, ...m_i]));
    });
  }
  return h.map((row) => mlp(read, row));
}

live("egnn_turn", (frame, { x, h, z, bonds, networks }) => {
  const kinds = {
    "plain GNN": (points) => gnn(networks.gnn, h, points),
    EGNN: (points) => egnn(networks.egnn, h, points, [1, 1]),
    "EGNN, a gate per axis": (points) => egnn(networks.egnn, h, points, [1, 2]),
  };
  const kind = frame.choice("network", Object.keys(kinds));
  const angle = frame.range("turn by (degrees)", { min: 0, max: 360, step: 5, value: 120 });
  const mirror = frame.toggle("mirror first");
  const length = (rows) => Math.sqrt(rows.flat().reduce((sum, value) => sum + value * value, 0));

  frame.paint = (width) => {
    const turn = (angle.value * Math.PI) / 180;
    const [c, s] = [Math.cos(turn), Math.sin(turn)];
    const side = mirror.checked ? -1 : 1;
    const Q = (rows) => rows.map(([a, b]) => [c * side * a - s * b, s * side * a + c * b]);
    const f = kinds[kind.value];
    const [still, wanted, found] = [f(x), Q(f(x)), f(Q(x))];
    const gap = length(found.map((row, i) => row.map((value, k) => value - wanted[i][k])));
    const longest = Math.max(...still.map((row) => Math.hypot(...row)));

    const half = Math.min(width / 2, 330);
    const scale = half / 7.6;
    const panel = (middle, title, points, layers) => {
      const at = ([a, b]) => [middle + a * scale, half * 0.42 + 26 - b * scale];
      const pair = (p) => p.map((value) => value.toFixed(1)).join(" ");
      const arrow = (i, [a, b], kind) => {
        const [from, to] = [points[i], [points[i][0] + a / longest, points[i][1] + b / longest]];
        const [x1, y1] = at(from);
        const [x2, y2] = at(to);
        const head = [2.6, -2.6].map((bend) => {
          const way = Math.atan2(y2 - y1, x2 - x1) + bend;
          return `M${pair([x2, y2])}l${pair([6 * Math.cos(way), 6 * Math.sin(way)])}`;
        });
        return `<path class="${kind}" d="M${pair([x1, y1])}L${pair([x2, y2])}${head.join("")}"/>`;
      };
      return (
        `<text x="${middle}" y="16" text-anchor="middle">${title}</text>` +
        bonds.map(([i, j]) => `<path class="bond" d="M${pair(at(points[i]))}L${pair(at(points[j]))}"/>`).join("") +
        layers.map(([rows, kind]) => rows.map((row, i) => arrow(i, row, kind)).join("")).join("") +
        points.map((p, i) => {
          const [cx, cy] = at(p);
          return `<circle class="atom" cx="${cx.toFixed(1)}" cy="${cy.toFixed(1)}" r="${(0.45 * scale * z[i] ** 0.35 * 0.35).toFixed(1)}"/>`;
        }).join("")
      );
    };
    return {
      height: half * 0.84 + 34,
      markup:
        panel(width / 2 - half / 2, "as it lies", x, [[still, "answer"]]) +
        panel(width / 2 + half / 2, "moved", Q(x), [[wanted, "truth"], [found, "answer"]]),
      number:
        `The answer to the moved molecule misses the moved answer by ${(gap / length(still)).toFixed(3)} ` +
        `times its length. The longest arrow on the left stands for ${longest.toFixed(3)} Å.`,
    };
  };
});
