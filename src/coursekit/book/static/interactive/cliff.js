// The cliff of a recurrent net with one unit: the same net as on the page, and a start that the reader moves.
"use strict";

var cliff = (function () {
  // The page's own choices; a test compares them with coursekit.figures.cliff.
  const net = { steps: 50, h0: 0, target: 0.6 };
  const descent = { w: 1.6, b: 0.3, rate: 0.05, limit: 0.5, count: 120 };
  const map = { w: [0.8, 1.8], b: [-0.4, 0.8] };

  // h_t = tanh(w h_{t-1} + b) from h_{-1} = h0; the loss is (h_{T-1} - target)^2.
  function states(w, b, { steps, h0 }) {
    const h = [h0];
    for (let t = 0; t < steps; t++) h.push(Math.tanh(w * h[t] + b));
    return h;
  }

  function loss(w, b, settings = net) {
    return (states(w, b, settings)[settings.steps] - settings.target) ** 2;
  }

  // Backward through time: dh is the gradient of the state after step t.
  function gradient(w, b, settings = net) {
    const h = states(w, b, settings);
    let dh = 2 * (h[settings.steps] - settings.target), dw = 0, db = 0;
    for (let t = settings.steps - 1; t >= 0; t--) {
      const da = dh * (1 - h[t + 1] * h[t + 1]);
      dw += da * h[t];
      db += da;
      dh = da * w;
    }
    return [dw, db];
  }

  // Gradient descent; a gradient longer than the limit is scaled down to it.
  function descend(w, b, { rate, limit, count }, settings = net) {
    const path = [];
    for (let k = 0; k <= count; k++) {
      const [dw, db] = gradient(w, b, settings);
      const norm = Math.hypot(dw, db);
      path.push({ w, b, loss: loss(w, b, settings), norm });
      const scale = norm > limit ? limit / norm : 1;
      w -= rate * scale * dw;
      b -= rate * scale * db;
    }
    return path;
  }

  // One sentence about a descent: where its longest step came from, and what it reached.
  function report(path, limit, rate) {
    const at = path.reduce((best, point, k) => (point.norm > path[best].norm ? k : best), 0);
    const step = rate * Math.min(path[at].norm, limit);
    const end = path[path.length - 1];
    return `gradient at most ${short(path[at].norm)}, at step ${at}; longest step ${short(step)}; ` +
      `loss ${short(end.loss)} after ${path.length - 1} steps, at w = ${short(end.w)}, b = ${short(end.b)}.`;
  }

  // Three digits, without an exponent where a reader can do without.
  function short(number) {
    const size = Math.abs(number);
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) return number.toExponential(1);
    return String(Number(number.toPrecision(3)));
  }

  return { net, descent, map, states, loss, gradient, descend, report, short };
})();

if (typeof module !== "undefined") {
  module.exports = cliff;
} else {
  controls.start("cliff", function (box) {
    const { element, shape, slider } = controls;
    const { map, descent } = cliff;
    const width = Math.min(Math.max(box.clientWidth - 24, 280), 680), height = Math.round(0.5 * width + 70);
    const left = 52, right = width - 12, top = 12, bottom = height - 44;
    const ink = "currentColor";
    const stops = [[0, 34, 78], [60, 77, 110], [124, 123, 120], [188, 175, 111], [254, 232, 56]];

    function across(w) { return left + (right - left) * (w - map.w[0]) / (map.w[1] - map.w[0]); }
    function down(b) { return bottom - (bottom - top) * (b - map.b[0]) / (map.b[1] - map.b[0]); }
    function between(low, high, share) { return low + (high - low) * share; }

    // Dark where the loss is small, bright where it is large, by its logarithm from 1e-4 to 3.
    function colour(loss) {
      const share = (Math.log10(loss + 1e-4) + 4) / 4.5 * (stops.length - 1);
      const k = Math.min(Math.max(Math.floor(share), 0), stops.length - 2);
      return stops[k].map((from, channel) => between(from, stops[k + 1][channel], Math.min(share - k, 1)));
    }

    function surface(net) {
      const canvas = document.createElement("canvas");
      const [columns, rows] = [canvas.width, canvas.height] = [150, 120];
      const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const w = between(...map.w, (column + 0.5) / columns), b = between(...map.b, 1 - (row + 0.5) / rows);
          image.data.set([...colour(cliff.loss(w, b, net)), 255], 4 * (row * columns + column));
        }
      }
      context.putImageData(image, 0, 0);
      return canvas.toDataURL();
    }

    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", "Map of the loss over w and b with the two paths; described below it.");
    box.prepend(picture);
    const window_ = { x: left, y: top, width: right - left, height: bottom - top };
    shape(shape(picture, "clipPath", { id: "cliff-window" }), "rect", window_);
    const ground = shape(picture, "image", { ...window_, preserveAspectRatio: "none" });
    for (const w of [0.8, 1, 1.2, 1.4, 1.6, 1.8]) {
      shape(picture, "text", { x: across(w), y: bottom + 17, "text-anchor": "middle", fill: ink, "font-size": 12 }, w);
    }
    for (const b of [-0.4, 0, 0.4, 0.8]) {
      shape(picture, "text", { x: left - 7, y: down(b) + 4, "text-anchor": "end", fill: ink, "font-size": 12 }, b);
    }
    const middle = (left + right) / 2;
    shape(picture, "text", { x: middle, y: height - 8, "text-anchor": "middle", fill: ink, "font-size": 13 }, "weight w");
    const turned = `translate(14 ${(top + bottom) / 2}) rotate(-90)`;
    shape(picture, "text", { transform: turned, "text-anchor": "middle", fill: ink, "font-size": 13 }, "bias b");

    const lines = shape(picture, "g", { "clip-path": "url(#cliff-window)", fill: "none", "stroke-linejoin": "round" });
    function line(stroke, dashes) {
      return [["#16191d", 4.5, ""], [stroke, 2.2, dashes]].map(([colour, thickness, dash]) =>
        shape(lines, "polyline", { stroke: colour, "stroke-width": thickness, "stroke-dasharray": dash }));
    }
    const rawLine = line("#ff9d5c", "6 3"), clippedLine = line("#ffffff", "");
    const handle = shape(picture, "g", { class: "handle" });
    shape(handle, "circle", { r: 20, fill: "transparent" });
    shape(handle, "circle", { r: 7, fill: "#ffffff", stroke: "#16191d", "stroke-width": 2 });

    const key = element(box, "ul", { class: "key" });
    const said = [["raw", "without clipping"], ["clipped", "with clipping"]].map(([kind, words]) => {
      const entry = element(key, "li", { class: kind });
      element(entry, "strong", {}, `${words}: `);
      return element(entry, "span");
    });

    const limits = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100, 1000], rates = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
    const lengths = [5, 10, 20, 30, 50, 100];
    function choice(label, values, value) {
      const options = { min: 0, max: values.length - 1, step: 1, value: values.indexOf(value) };
      return slider(box, { label, ...options, format: (index) => String(values[index]), changed: draw });
    }
    function place(label, [min, max], value) {
      return slider(box, { label, min, max, step: 0.01, value, format: (at) => at.toFixed(2), changed: draw });
    }
    const startW = place("start, w", map.w, descent.w), startB = place("start, b", map.b, descent.b);
    const limit = choice("threshold", limits, descent.limit), rate = choice("learning rate", rates, descent.rate);
    const length = choice("steps T of the net", lengths, cliff.net.steps);

    let drawnLength = 0;
    function draw() {
      const net = { ...cliff.net, steps: lengths[length.value] };
      if (net.steps !== drawnLength) ground.setAttribute("href", surface(net));
      drawnLength = net.steps;
      const runs = [[rawLine, Infinity], [clippedLine, limits[limit.value]]];
      runs.forEach(([drawn, bound], which) => {
        const chosen = { rate: rates[rate.value], limit: bound, count: descent.count };
        const path = cliff.descend(startW.value, startB.value, chosen, net);
        // A point far outside is as good as one just outside, and no renderer draws 1e15 pixels.
        const far = (at) => Math.min(Math.max(at, -1e4), 1e4).toFixed(2);
        const points = path.map(({ w, b }) => `${far(across(w))},${far(down(b))}`).join(" ");
        for (const one of drawn) one.setAttribute("points", points);
        said[which].textContent = cliff.report(path, bound, chosen.rate);
      });
      handle.setAttribute("transform", `translate(${across(startW.value)} ${down(startB.value)})`);
    }

    function follow(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
      startW.value = between(...map.w, (at.x - left) / (right - left));
      startB.value = between(...map.b, (bottom - at.y) / (bottom - top));
      draw();
    }
    handle.addEventListener("pointerdown", (event) => { handle.setPointerCapture(event.pointerId); event.preventDefault(); });
    handle.addEventListener("pointermove", (event) => { if (handle.hasPointerCapture(event.pointerId)) follow(event); });
    draw();
  });
}
