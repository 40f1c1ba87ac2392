// What every interactive drawing uses: finding its box, sliders that a keyboard moves, and parts of an SVG.
"use strict";

var controls = (function () {
  // Call draw(box) for every box of this name, and show the box: without scripts it stays hidden.
  function start(name, draw) {
    for (const box of document.querySelectorAll(`[data-interactive="${name}"]`)) {
      box.hidden = false;
      draw(box);
    }
  }

  // What the page's option :data: wrote into the box.
  function data(box) {
    return JSON.parse(box.querySelector('script[type="application/json"]').textContent);
  }

  function element(parent, tag, attributes = {}, text = "") {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  function shape(parent, tag, attributes = {}, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  // A labelled range input. format(position) is what the reader sees and hears; changed() follows every move.
  function slider(parent, { label, min, max, step, value, format = String, changed }) {
    const row = element(parent, "label", { class: "slider" });
    element(row, "span", {}, label);
    const input = element(row, "input", { type: "range", min, max, step, value });
    const output = element(row, "output", { "aria-hidden": "true" });  // a screen reader hears it from the input
    function say() {
      output.textContent = format(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    }
    input.addEventListener("input", () => { say(); changed(); });
    say();
    return {
      get value() { return Number(input.value); },
      set value(position) { input.value = position; say(); },
    };
  }

  return { start, data, element, shape, slider };
})();
