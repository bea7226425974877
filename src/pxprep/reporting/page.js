"use strict";
const number = (text) => {
  const found = /-?[\d.]+(e[+-]?\d+)?/i.exec(text.replaceAll(",", ""));
  return found ? Number(found[0]) : NaN;
};
const compare = (one, other, numbers) => {
  if (!numbers) return one.localeCompare(other, undefined, { numeric: true });
  const [a, b] = [number(one), number(other)];
  return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : a - b;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.title = "sort";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const isUp = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
      const text = (row) => row.cells[column].textContent;
      const numbers = head.classList.contains("number");
      const rows = [...body.rows].sort((a, b) => compare(text(a), text(b), numbers));
      body.append(...(isUp ? rows : rows.reverse()));
    });
  });
}
for (const box of document.querySelectorAll("[data-filter]")) {
  const items = [...document.getElementById(box.dataset.filter).children];
  if (items.length < 9) continue;
  const label = document.createElement("label");
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "filter";
  const count = document.createElement("span");
  label.append(field, " ", count);
  box.append(label);
  field.setAttribute("aria-label", `Filter: ${box.dataset.what}`);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const item of items) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    const n = items.filter((item) => !item.hidden).length;
    count.textContent = wanted ? `${n} of ${items.length}` : "";
  });
}
const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const section = target?.closest("details");
  if (!section) return;
  section.open = true;
  (target.matches(".card") ? target : section).scrollIntoView();
};
addEventListener("hashchange", reveal);
addEventListener("click", (event) => {
  if (event.target.closest("a")?.hash === location.hash && location.hash) reveal();
});
reveal();
