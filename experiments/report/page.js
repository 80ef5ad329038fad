"use strict";
// Each range shows its frame, which CSS moves into view, and says the latent value.
for (const range of document.querySelectorAll("input[type=range]")) {
  const card = range.closest("figure");
  const output = card.querySelector("output");
  const { low, high, unit } = range.dataset;
  const show = () => {
    const value = Number(low) + (Number(high) - Number(low)) * range.value / range.max;
    card.style.setProperty("--frame", range.value);
    output.value = value.toFixed(2) + unit;
    range.setAttribute("aria-valuetext", output.value);
  };
  range.addEventListener("input", show);
  range.addEventListener("dblclick", () => { range.value = range.defaultValue; show(); });
  show(); // a browser may remember where the range stood
}
// On paper nothing is folded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
