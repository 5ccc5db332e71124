// What style sheets cannot: say where wide content goes on, let a formula that is cut scroll,
// print in light colours, and name the buttons of folded solutions.
"use strict";

const SCROLLERS = [
  "div.highlight pre",
  "div.math",
  "mjx-container[display]",
  ".pst-scrollable-table-container",
  ".cell_output > .output",
].join();

// The edge behind which there is more fades; see book.css.
function fade(box) {
  const left = box.scrollLeft > 2;
  const right = box.scrollLeft + box.clientWidth < box.scrollWidth - 2;
  box.classList.toggle("more-left", left);
  box.classList.toggle("more-right", right);
}

// An inline formula wider than its line scrolls, and only such a one can be reached with Tab.
function widen(formula) {
  const typeset = formula.querySelector("mjx-math");
  const room = formula.getBoundingClientRect().right + formula.scrollLeft + 2;
  const wide = typeset !== null && typeset.getBoundingClientRect().right > room;
  formula.classList.toggle("wide", wide);
  if (wide) formula.tabIndex = 0;
  else formula.removeAttribute("tabindex");
}

function watch() {
  const boxes = new ResizeObserver((seen) => seen.forEach(({ target }) => fade(target)));
  for (const box of document.querySelectorAll(SCROLLERS)) {
    boxes.observe(box);
    box.addEventListener("scroll", () => fade(box), { passive: true });
  }
  const lines = new ResizeObserver((seen) =>
    seen.forEach(({ target }) => target.querySelectorAll("span.math").forEach(widen))
  );
  for (const line of document.querySelectorAll("p, li, td, dd")) {
    if (line.querySelector("span.math")) lines.observe(line);
  }
}

function printLight() {
  const root = document.documentElement;
  let before = null;
  const light = () => {
    before ??= root.dataset.theme;
    root.dataset.theme = "light";
  };
  const back = () => {
    if (before !== null) root.dataset.theme = before;
    before = null;
  };
  addEventListener("beforeprint", light);
  addEventListener("afterprint", back);
  matchMedia("print").addEventListener("change", ({ matches }) => (matches ? light() : back()));
}

function nameFolds() {
  for (const button of document.querySelectorAll("button.toggle-button")) {
    const title = button.closest(".admonition-title").cloneNode(true);
    title.querySelectorAll("button, .headerlink, mjx-container").forEach((part) => part.remove());
    button.setAttribute("aria-label", title.textContent.trim().replace(/\s+/g, " "));
  }
}

// The formulas of the first screen come first: the text, hidden until then, does not jump.
function typesetInOrder() {
  const show = () => document.documentElement.classList.remove("typesetting");
  setTimeout(show, 5000);
  MathJax.startup = {
    async pageReady() {
      const all = [...document.querySelectorAll(".bd-article .math")];
      const first = all.filter((one) => one.getBoundingClientRect().top < 1.5 * innerHeight);
      await MathJax.typesetPromise(first);
      show();
      await MathJax.typesetPromise();
    },
  };
}

if (window.MathJax) typesetInOrder();
printLight();
addEventListener("load", async () => {
  nameFolds();
  await window.MathJax?.startup.promise;
  watch();
});
