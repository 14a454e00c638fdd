// A view of attention patterns: all heads small, one large, and what the token under the mouse attends to.
const view = document.currentScript.closest(".attention-view");
const { tokens, heads, first, top, steps } = JSON.parse(view.querySelector("script[type='application/json']").textContent);
const part = (name) => view.querySelector("." + name);
const [heads_box, large, output, title] = [part("heads"), part("large"), part("number"), part("name")];
let head = heads[first];
let chosen = tokens.length - 1;

// The weights are the rows of the lower triangle, one after the other, in steps of the greatest.
const weight = (one, query, key) => {
  const step = key <= query ? one.weights[query * (query + 1) / 2 + key] : null;
  return step === null ? NaN : step / steps * top;
};
const color = (value) => [...(value < 0 ? [33, 102, 172] : [178, 24, 43]), Number.isNaN(value) ? 0 : Math.abs(value) / top];
const number = (value) => Number.isNaN(value) ? "none" : String(Number(value.toPrecision(3)));

function paint(canvas, one) {
  canvas.width = canvas.height = tokens.length;
  const context = canvas.getContext("2d");
  const image = context.createImageData(tokens.length, tokens.length);
  for (let query = 0; query < tokens.length; query += 1) {
    for (let key = 0; key <= query; key += 1) {
      const [red, green, blue, share] = color(weight(one, query, key));
      image.data.set([red, green, blue, Math.round(share * 255)], 4 * (query * tokens.length + key));
    }
  }
  context.putImageData(image, 0, 0);
}

function element(parent, kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  parent.append(made);
  return made;
}

// A line of tokens, of which each is coloured by `value(token)`.
function line(box, value) {
  const spans = tokens.map((token, place) => {
    const span = element(box, "span", token);
    span.dataset.place = place;
    return span;
  });
  arrows(box, "span");
  const show = (event) => {
    const span = event.target.closest("span");
    if (span) { choose(Number(span.dataset.place)); }
  };
  box.addEventListener("pointerover", show);
  box.addEventListener("focusin", show);
  return () => spans.forEach((span, place) => {
    const [red, green, blue, share] = color(value(place));
    span.style.background = `rgba(${red}, ${green}, ${blue}, ${share * 0.7})`;
    span.title = number(value(place));
    span.classList.toggle("chosen", place === chosen);
  });
}
const lines = [
  line(part("to"), (place) => weight(head, chosen, place)),
  line(part("from"), (place) => weight(head, place, chosen)),
];

function choose(token) {
  chosen = token;
  lines.forEach((update) => update());
  const targets = tokens.map((_, key) => [weight(head, chosen, key), key]).filter(([value]) => !Number.isNaN(value));
  const [most] = targets.sort(([one], [other]) => Math.abs(other) - Math.abs(one));
  output.textContent = `${chosen} ${tokens[chosen]}: most to ${most ? `${most[1]} ${tokens[most[1]]} (${number(most[0])})` : "none"}`;
}

const buttons = heads.map((one) => {
  const button = element(heads_box, "button", "");
  button.type = "button";
  paint(element(button, "canvas", ""), one);
  element(button, "span", one.name);
  button.addEventListener("click", () => enlarge(one));
  return button;
});
arrows(heads_box, "button");

function enlarge(one) {
  head = one;
  buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(heads[place] === one)));
  title.textContent = one.name;
  paint(large, one);
  choose(chosen);
}

large.addEventListener("pointermove", (event) => {
  const place = (at, length) => Math.min(tokens.length - 1, Math.max(0, Math.floor(at / length * tokens.length)));
  const query = place(event.offsetY, large.clientHeight);
  const key = place(event.offsetX, large.clientWidth);
  choose(query);
  if (key <= query) {
    output.textContent = `${query} ${tokens[query]} to ${key} ${tokens[key]}: ${number(weight(head, query, key))}`;
  }
});
enlarge(head);
