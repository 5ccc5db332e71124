// What every figure shares that the reader can change: its controls, its drawing, its one number.
//
// A figure is live("NAME", (frame, constants) => ...), in a file of its name. The builder makes
// controls and sets frame.paint = (width) => ({ height, markup, number }). Nothing moves by itself:
// paint is called when a control, the width or the drawing under the pointer changes.
"use strict";

class Frame {
  constructor(box) {
    this.controls = box.appendChild(document.createElement("div"));
    this.controls.className = "live-controls";
    this.svg = box.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", box.dataset.alt);
    this.number = box.appendChild(document.createElement("output"));
    this.number.setAttribute("aria-live", "polite");
    this.width = 0;
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === this.width) return;
      this.width = contentRect.width;
      this.draw();
    }).observe(this.controls);
  }

  draw() {
    if (!this.width) return;
    const { height, markup, number } = this.paint(this.width);
    this.svg.setAttribute("width", this.width);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.innerHTML = markup;
    this.number.textContent = number;
  }

  control(label, tag, settings) {
    const line = this.controls.appendChild(document.createElement("label"));
    line.append(label);
    const input = line.appendChild(Object.assign(document.createElement(tag), settings));
    input.addEventListener("input", () => this.draw());
    return input;
  }

  // A slider; its value stands beside it.
  range(label, { min, max, step, value }) {
    const input = this.control(label, "input", { type: "range", min, max, step });
    const shown = document.createElement("span");
    const show = () => (shown.textContent = input.value);
    input.value = value;
    input.addEventListener("input", show);
    input.after(shown);
    show();
    return input;
  }

  // One of several names.
  choice(label, names) {
    const select = this.control(label, "select", {});
    select.append(...names.map((name) => new Option(name)));
    return select;
  }

  toggle(label) {
    return this.control(label, "input", { type: "checkbox" });
  }
}

function live(name, build) {
  for (const box of document.querySelectorAll(`.live[data-live="${name}"]`)) {
    const frame = new Frame(box);
    build(frame, JSON.parse(box.querySelector("script").textContent));
    box.closest("figure").classList.add("is-live");
  }
}

// Axes around a part of the drawing: its markup, and where a value lies in it.
function axes({ left, top, width, height, xs, ys, xlabel, ylabel, xticks, yticks }) {
  const x = (value) => left + ((value - xs[0]) / (xs[1] - xs[0])) * width;
  const y = (value) => top + height - ((value - ys[0]) / (ys[1] - ys[0])) * height;
  const text = (at, down, words, anchor = "middle") =>
    `<text x="${at}" y="${down}" text-anchor="${anchor}">${words}</text>`;
  const line = (x1, y1, x2, y2) => `<path class="axis" d="M${x1} ${y1}L${x2} ${y2}"/>`;
  const markup = [
    ...xticks.map((t) => text(x(t), top + height + 16, String(t).replace("-", "−"))),
    ...yticks.map((t) => line(left, y(t), left + width, y(t))),
    ...yticks.map((t) => text(left - 6, y(t) + 4, String(t).replace("-", "−"), "end")),
    text(left + width / 2, top + height + 34, xlabel),
    text(left - 24, top - 12, ylabel, "start"),
  ].join("");
  const curve = (points, kind) =>
    `<polyline class="${kind}" points="${points
      .map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`)
      .join(" ")}"/>`;
  return { x, y, markup, curve };
}
