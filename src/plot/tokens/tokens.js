// A view of coloured tokens: shows the chosen row, and the value of the token under the mouse or with the focus.
const view = document.currentScript.closest(".token-view");
const output = view.querySelector("output");
const rows = Array.from(view.querySelectorAll("section"));
const choice = view.querySelector("select");
if (choice) {
  choice.addEventListener("change", () => {
    rows.forEach((row, place) => { row.hidden = choice.value !== "all" && choice.value !== String(place); });
  });
}
const show = (event) => {
  const token = event.target.closest("[data-value]");
  if (token) { output.textContent = `${token.dataset.place}: ${token.textContent} = ${token.dataset.value}`; }
};
view.addEventListener("pointerover", show);
view.addEventListener("focusin", show);
rows.forEach((row) => arrows(row, "[data-value]"));
