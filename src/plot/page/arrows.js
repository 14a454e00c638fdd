// Left and right move the focus among the children of `box` that `selector` names; one of them is reached by Tab.
function arrows(box, selector) {
  const items = Array.from(box.querySelectorAll(selector));
  items.forEach((item, place) => { item.tabIndex = place === 0 ? 0 : -1; });
  box.addEventListener("keydown", (event) => {
    const place = items.indexOf(event.target.closest(selector));
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -place, End: items.length - 1 - place }[event.key];
    if (place < 0 || step === undefined || !items[place + step]) { return; }
    event.preventDefault();
    items[place].tabIndex = -1;
    items[place + step].tabIndex = 0;
    items[place + step].focus();
  });
}
