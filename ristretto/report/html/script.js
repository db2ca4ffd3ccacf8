"use strict";
(() => {
  const table = document.getElementById("layers");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  // Numbers by size, names by letters; what is not known comes last either way.
  function sortBy(key, descending) {
    const column = heads.findIndex((head) => head.dataset.key === key);
    if (column < 0) return;
    const value = (row) => row.cells[column].dataset.v;
    const number = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text));
    const compare = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const [x, y] = [number(a), number(b)];
      const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x === y ? 0 : x < y ? -1 : 1;
      return descending ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  }

  for (const head of heads) {
    head.firstChild.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      sortBy(head.dataset.key, descending);
      history.replaceState(null, "", `#sort=${head.dataset.key}${descending ? "&desc" : ""}`);
    });
  }

  // #sort=sqnr, #sort=macs&desc, or the place of a layer, whose details open.
  function follow() {
    const wish = /^#sort=([a-z]+)(&desc)?$/.exec(location.hash);
    if (wish) sortBy(wish[1], Boolean(wish[2]));
    const target = /^#layer-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (target) {
      target.open = true;
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", follow);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));

  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.cells[1].textContent.toLowerCase().includes(wanted);
  });

  const tip = document.getElementById("tip");
  function binAt(plot, event) {
    const [low, high] = plot.dataset.range.split(" ").map(Number);
    const [start, end] = plot.dataset.places.split(" ").map(Number);
    const counts = plot.dataset.counts.split(" ").map(Number);
    const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse()).x;
    const bin = Math.floor(((x - start) / (end - start)) * counts.length);
    if (!(bin >= 0 && bin < counts.length)) return "";
    const edge = (n) => (low + (n * (high - low)) / counts.length).toPrecision(3).replace("-", "−");
    return `${edge(bin)} … ${edge(bin + 1)}: ${counts[bin].toLocaleString("en")} values`;
  }
  document.addEventListener("mousemove", (event) => {
    const plot = event.target.closest("[data-counts]");
    const marked = event.target.closest("[data-tip]");
    tip.textContent = plot ? binAt(plot, event) : marked ? marked.dataset.tip : "";
    tip.hidden = !tip.textContent;
    if (tip.hidden) return;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
    tip.style.top = `${Math.max(4, event.clientY - height - 10)}px`;
  });

  document.documentElement.classList.add("scripted");
  document.documentElement.dataset.layers = String(body.rows.length);
  follow();
})();
