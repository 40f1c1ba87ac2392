// Step through the drawings of the figure before the box: one is shown, a slider chooses which.
"use strict";

controls.start("frames", (box) => {
  let before = box.previousElementSibling;
  while (!before.querySelector(".frames")) before = before.previousElementSibling;
  const frames = before.querySelector(".frames");
  const images = [...frames.querySelectorAll("img")];

  const chosen = controls.slider(box, {
    label: frames.dataset.title,
    min: 0,
    max: images.length - 1,
    step: 1,
    value: images.findIndex((image) => !image.hidden),
    format: (position) => images[position].dataset.label,
    changed: show,
  });
  const words = controls.element(box, "p", { "aria-live": "polite" });

  function show() {
    images.forEach((image, position) => { image.hidden = position !== chosen.value; });
    words.textContent = images[chosen.value].alt;
  }
  show();
});
