// Look into a trained LSTM: go through a text step by step, and force gates of one unit from a step on.
"use strict";

var trained = (function () {
  const longest = 32;
  const gates = ["i", "f", "o"], blocks = ["i", "f", "g", "o"];  // blocks: as the weights stand

  function sigmoid(a) { return 0.5 * Math.tanh(0.5 * a) + 0.5; }

  function softmax(scores) {
    const top = Math.max(...scores), parts = scores.map((score) => Math.exp(score - top));
    const sum = parts.reduce((a, b) => a + b);
    return parts.map((part) => part / sum);
  }

  // What the net makes of each character: gates, candidate, states, and how likely each character is next.
  // forced: { unit, from, i, f, o }; a gate that has a number there stands at it from that step on.
  function run(net, alphabet, text, forced = {}) {
    const units = net.w.length;
    let h = Array(units).fill(0), c = Array(units).fill(0);
    return [...text].map((character, t) => {
      const row = net.u[alphabet.indexOf(character)];
      const values = {};
      blocks.forEach((name, block) => {
        values[name] = h.map((_, unit) => {
          const held = gates.includes(name) && unit === forced.unit && t >= forced.from ? forced[name] : null;
          if (typeof held === "number") return held;
          const column = block * units + unit;
          const a = h.reduce((sum, state, k) => sum + state * net.w[k][column], row[column] + net.b[column]);
          return name === "g" ? Math.tanh(a) : sigmoid(a);
        });
      });
      const { i, f, g, o } = values;
      c = c.map((before, unit) => f[unit] * before + i[unit] * g[unit]);
      h = c.map((state, unit) => o[unit] * Math.tanh(state));
      const scores = net.bv.map((offset, k) => h.reduce((sum, state, unit) => sum + state * net.v[unit][k], offset));
      return { i, f, g, o, c, h, p: softmax(scores) };
    });
  }

  // The state of the language after each character, by its table; every text begins outside.
  function walk(record, text) {
    let state = 0;
    return [...text].map((character) => (state = record.next[state][record.alphabet.indexOf(character)]));
  }

  // A text of the alphabet's characters only, not too long.
  function tidy(alphabet, text) {
    return [...text].filter((character) => alphabet.includes(character)).slice(0, longest).join("");
  }

  function percent(share) { return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`; }

  // How likely a bracket, a quote and a letter are next.
  function tell(p) {
    const letters = p[0] + p[1] + p[2];
    const signs = [..."()\""].map((sign, k) => `${sign}\u00a0${percent(p[3 + k])}`);
    return `${signs.join(", ")}, a letter ${percent(letters)}`;
  }

  // One unit at one step, in words.
  function report(step, unit) {
    const value = (name) => `${name}\u00a0${step[name][unit].toFixed(2)}`;
    return `${["i", "f", "o", "g", "c", "h"].map(value).join(", ")}. Next: ${tell(step.p)}.`;
  }

  return { longest, gates, run, walk, tidy, percent, tell, report };
})();

if (typeof module !== "undefined") {
  module.exports = trained;
} else {
  controls.start("trained", function (box) {
    const { element, shape, slider } = controls;
    const record = controls.data(box), { alphabet, nets, texts, chances } = record;
    const width = Math.min(Math.max(box.clientWidth - 24, 280), 680);
    const left = 34, right = width - 2, cell = 15, tall = 84, bar = 30;
    const ink = "currentColor", chosen = "var(--course-accent)";
    const stops = [[0, 34, 78], [60, 77, 110], [124, 123, 120], [188, 175, 111], [254, 232, 56]];

    function colour(share) {
      const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
      return `rgb(${stops[k].map((from, part) => Math.round(from + (at - k) * (stops[k + 1][part] - from)))})`;
    }

    // Rows from top to bottom: [name, height].
    const rows = [
      ["text", 20], ["( )", 10], ['" "', 10], ["i", cell], ["f", cell], ["o", cell], ["g", cell], ["c", tall],
      ["h", cell], ["next (", bar], ["next )", bar], ['next "', bar],
    ];
    const tops = {};
    let height = 6;
    for (const [name, size] of rows) {
      tops[name] = height;
      height += size + (name === "text" || name === "( )" ? 2 : 5);
    }
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("role", "img");
    const about = "Gates, states and predictions of one unit along a text; the chosen step is described below.";
    picture.setAttribute("aria-label", about);
    box.append(picture);  // below the words, close to the sliders

    const key = element(box, "ul", { class: "key", "aria-live": "polite" });
    const said = [["trained", "as trained"], ["forced", "with your gates"], ["language", "the language itself"]].map(
      ([kind, words]) => {
        const entry = element(key, "li", { class: kind });
        element(entry, "strong", {}, `${words}: `);
        return element(entry, "span");
      });

    const spelt = element(box, "label", { class: "slider" });
    element(spelt, "span", {}, "text");
    const plain = { spellcheck: "false", autocapitalize: "off", autocomplete: "off" };
    const field = element(spelt, "input", { type: "text", maxlength: trained.longest, ...plain });
    field.value = texts[0];
    field.addEventListener("input", () => {
      const tidy = trained.tidy(alphabet, field.value);
      if (tidy !== field.value) field.value = tidy;
      look.value = tidy.length - 1;
      draw();
    });
    const others = slider(box, {
      label: "one of the test", min: 0, max: texts.length - 1, step: 1, value: 0,
      format: (at) => `${at + 1} of ${texts.length}`,
      changed() { field.value = texts[others.value]; draw(); },
    });
    const last = trained.longest - 1;
    const whole = (label, max, value, format = String) =>
      slider(box, { label, min: 0, max, step: 1, value, format, changed: draw });
    const net = whole("net", nets.length - 1, record.chosen);
    const unit = whole("unit", nets[0].w.length - 1, record.unit);
    const look = whole("look at step", last, record.look), from = whole("force from step", last, record.from);
    const format = (at) => (at < 0 ? "trained" : (at / 20).toFixed(2));
    const holder = (label) => slider(box, { label, min: -1, max: 20, step: 1, value: -1, format, changed: draw });
    const held = { i: holder("input gate i"), f: holder("forget gate f"), o: holder("output gate o") };

    let text = "";
    function across(t) { return left + (right - left) * t / Math.max(text.length, 1); }

    // One step's part of a row.
    function block(name, t, height, fill) {
      shape(picture, "rect", { x: across(t), y: tops[name], width: across(1) - left + 0.3, height, fill });
    }

    function heat(name, values, low) {
      values.forEach((value, t) => block(name, t, cell, colour((value - low) / (1 - low))));
    }

    function strip(name, flags) {
      flags.forEach((on, t) => { if (on) block(name, t, 8, chosen); });
    }

    function level(from, to, y, look) {
      shape(picture, "line", { x1: from, x2: to, y1: y, y2: y, stroke: ink, ...look });
    }

    function curve(values, place, look) {
      const points = values.map((value, t) => `${across(t + 0.5).toFixed(2)},${place(value).toFixed(2)}`);
      shape(picture, "polyline", { points: points.join(" "), fill: "none", "stroke-linejoin": "round", ...look });
    }

    const dashed = { stroke: ink, "stroke-width": 1.6, "stroke-dasharray": "4 3" };
    const faint = { "stroke-width": 0.6, opacity: 0.5 };
    const solid = { stroke: chosen, "stroke-width": 2.4 };

    function drawStates(before, after, k) {
      const all = [...before, ...after].map((step) => step.c[k]), most = Math.max(1, ...all.map(Math.abs));
      const place = (value) => tops.c + tall / 2 - (tall / 2 - 4) * value / most;
      level(left, right, place(0), faint);
      for (const end of [-most, most]) {
        const tick = { x: left + 2, y: place(end) + (end > 0 ? 8 : 0), fill: ink, "font-size": 9 };
        shape(picture, "text", tick, end.toFixed(1));
      }
      curve(after.map((step) => step.c[k]), place, solid);
      curve(before.map((step) => step.c[k]), place, dashed);
    }

    function drawChances(before, after) {
      for (const character of "()\"") {
        const k = alphabet.indexOf(character), base = tops[`next ${character}`] + bar;
        const rise = (share) => Math.min(share / 0.3, 1) * (bar - 2), size = across(1) - left;
        level(left, right, base, faint);
        after.forEach((step, t) => {
          const [x, height] = [across(t) + 1, rise(step.p[k])];
          shape(picture, "rect", { x, y: base - height, width: Math.max(size - 2, 1), height, fill: chosen });
        });
        before.forEach((step, t) => level(across(t), across(t + 1), base - rise(step.p[k]), { "stroke-width": 1.6 }));
      }
    }

    function drawFrame(step, start, forced) {
      for (const [name, size] of rows) {
        const small = size < cell || name.startsWith("next");
        shape(picture, "text", { x: 0, y: tops[name] + size / 2 + 4, fill: ink, "font-size": small ? 10 : 12 }, name);
      }
      const letter = { "text-anchor": "middle", fill: ink, "font-family": "monospace", "font-size": 13 };
      [...text].forEach((character, t) =>
        shape(picture, "text", { x: across(t + 0.5), y: tops.text + 14, ...letter }, character));
      const held = { stroke: chosen, "stroke-width": 3 };
      for (const gate of forced) level(across(start), right, tops[gate] + cell + 2, held);
      const frame = { x: across(step), y: 2, width: across(1) - left, height: height - 4, rx: 2 };
      shape(picture, "rect", { ...frame, fill: "none", stroke: ink, "stroke-width": 1.5 });
    }

    function draw() {
      text = field.value;
      picture.replaceChildren();
      if (!text) {
        for (const place of said) place.textContent = "type a text of a, b, c, brackets and quotes.";
        return;
      }
      const end = text.length - 1, k = unit.value, t = Math.min(look.value, end), start = from.value;
      const forced = start > end ? [] : trained.gates.filter((gate) => held[gate].value >= 0);
      const values = Object.fromEntries(forced.map((gate) => [gate, held[gate].value / 20]));
      const before = trained.run(nets[net.value], alphabet, text);
      const after = trained.run(nets[net.value], alphabet, text, { unit: k, from: start, ...values });
      const states = trained.walk(record, text);
      strip("( )", states.map((state) => state % 2));
      strip('" "', states.map((state) => state >= 2));
      for (const gate of trained.gates) heat(gate, after.map((step) => step[gate][k]), 0);
      for (const name of ["g", "h"]) heat(name, after.map((step) => step[name][k]), -1);
      drawStates(before, after, k);
      drawChances(before, after);
      drawFrame(t, start, forced);
      said[0].textContent = trained.report(before[t], k);
      said[1].textContent = forced.length ? trained.report(after[t], k) : "no gate is forced.";
      said[2].textContent = `after ${text.slice(0, t + 1)} it is ${record.states[states[t]]}. ` +
        `Next: ${trained.tell(chances[states[t]])}.`;
    }

    picture.addEventListener("click", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
      const t = Math.floor((at.x - left) / (right - left) * text.length);
      if (t >= 0 && t < text.length) { look.value = t; draw(); }
    });
    draw();
  });
}
