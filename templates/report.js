"use strict";
// Marks of the pictures and rows of the tables that are of one trial light up together;
// what is told of a trial is the row of the table that has them all.
(() => {
  const all = document.querySelector("table[data-tools]");
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;
  const parts = new Map();
  for (const part of document.querySelectorAll("[data-trial]")) {
    const trial = part.dataset.trial;
    parts.set(trial, [...(parts.get(trial) ?? []), part]);
  }
  const heads = [...(all?.tHead?.rows[0].cells ?? [])].map((head) => head.textContent);
  let lit = null;
  let pinned = false;

  function tell(trial) {
    const row = parts.get(trial)?.find((part) => all?.contains(part));
    tip.replaceChildren();
    for (const [i, cell] of [...(row?.cells ?? [])].entries()) {
      if (!cell.textContent.trim()) continue;
      const line = tip.appendChild(document.createElement("div"));
      line.appendChild(document.createElement("b")).textContent = heads[i] + " ";
      line.append(cell.textContent);
    }
  }

  function light(trial, event) {
    if (trial !== lit) {
      for (const part of parts.get(lit) ?? []) part.classList.remove("lit");
      for (const part of parts.get(trial) ?? []) part.classList.add("lit");
      lit = trial;
      if (trial) tell(trial);
    }
    tip.hidden = !trial || !event.target.closest("svg") || !tip.childElementCount;
    if (tip.hidden) return;
    const right = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 14;
    const fits = below + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, right)}px`;
    tip.style.top = `${fits ? below : Math.max(8, event.clientY - tip.offsetHeight - 14)}px`;
  }

  // The trial at a place, or the nearest within a finger's reach of it.
  function at(event) {
    const there = event.target.closest("[data-trial]");
    if (there || !event.target.closest("svg")) return there?.dataset.trial ?? null;
    for (const reach of [5, 10, 15]) {
      for (let turn = 0; turn < 8; turn++) {
        const x = event.clientX + reach * Math.cos((turn * Math.PI) / 4);
        const y = event.clientY + reach * Math.sin((turn * Math.PI) / 4);
        const near = document.elementFromPoint(x, y)?.closest("svg [data-trial]");
        if (near) return near.dataset.trial;
      }
    }
    return null;
  }

  document.addEventListener("pointermove", (event) => {
    if (!pinned && event.target instanceof Element) light(at(event), event);
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("button, input")) return;
    const trial = at(event);
    light(trial, event);
    pinned = trial !== null;
  });
  document.addEventListener("scroll", () => (tip.hidden = true), { passive: true });
})();

// Tables with tools are sorted by the heads of their columns and filtered by words.
for (const table of document.querySelectorAll("table[data-tools]")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const bar = document.createElement("div");
  bar.className = "tools";
  const input = bar.appendChild(document.createElement("input"));
  input.type = "search";
  input.placeholder = "only rows with these words";
  input.setAttribute("aria-label", input.placeholder);
  const shown = bar.appendChild(document.createElement("span"));
  shown.setAttribute("aria-live", "polite");
  table.parentElement.before(bar);

  function filter() {
    const words = input.value.toLowerCase().split(/\s+/);
    let left = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      left += !row.hidden;
    }
    shown.textContent = `${left} of ${rows.length} rows`;
  }
  input.addEventListener("input", filter);
  filter();

  function order(a, b, column, numbers) {
    const [x, y] = [a, b].map((row) => row.cells[column].textContent.trim());
    if (!x || !y) return !x - !y;
    return numbers
      ? parseFloat(x.replaceAll(",", "")) - parseFloat(y.replaceAll(",", ""))
      : x.localeCompare(y, undefined, { numeric: true });
  }
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numbers = head.classList.contains("number");
      const empty = (row) => !row.cells[column].textContent.trim();
      const sorted = [...rows].sort((a, b) => {
        const found = order(a, b, column, numbers);
        return up || empty(a) || empty(b) ? found : -found;
      });
      body.append(...sorted);
    });
  }
}
