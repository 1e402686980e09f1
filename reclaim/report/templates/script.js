"use strict";
/* The page is read without this; it adds looking for guests, requirements and text, and another order. */
const guests = document.getElementById("guests");
const sections = [...guests.querySelectorAll("section[data-number]")];
const boxes = [...document.querySelectorAll(".filters input[type=checkbox]")];
const [find, requirement, search, order, all, shown] =
  ["find", "requirement", "search", "order", "all", "shown"].map((id) => document.getElementById(id));
/* guests that a filter unfolds */
const UNFOLDED = 50;

/* The line of the grid of each guest, by the id of its rows. */
const lines = new Map();
for (const line of document.querySelectorAll(".grid tr.one")) {
  lines.set(line.querySelector("th a").hash.slice(1), line);
}

function filter() {
  const wanted = find.value.trim().toLowerCase();
  const text = search.value.trim().toLowerCase();
  const slug = requirement.value;
  const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.id.replace("show-", "v-")));
  const every = !wanted && !text && !slug && verdicts.size === boxes.length;
  const matches = [];
  for (const section of sections) {
    let match = section.dataset.name.toLowerCase().includes(wanted);
    if (match && !every) match = rows(section, verdicts, slug, text) > 0;
    else if (every) for (const row of section.querySelectorAll(".rows tr[hidden]")) row.hidden = false;
    section.hidden = !match;
    const line = lines.get(section.id);
    if (line) line.hidden = !match;
    if (match) matches.push(section);
  }
  if (!every && matches.length <= UNFOLDED) for (const section of matches) section.querySelector("details").open = true;
  for (const part of document.querySelectorAll("section:has(> .grid)")) {
    part.hidden = part.querySelector("tr.one:not([hidden]), .totals") === null;
  }
  shown.textContent = every ? "" : `${matches.length} of ${sections.length} guests shown`;
}

/* Hide the rows of *section* that do not match; return the number of the others. */
function rows(section, verdicts, slug, text) {
  let count = 0;
  for (const row of section.querySelectorAll(".rows tbody tr")) {
    const match = verdicts.has(row.className) && (!slug || row.cells[1].querySelector("a").textContent === slug)
      && (!text || row.textContent.toLowerCase().includes(text));
    row.hidden = !match;
    count += match;
  }
  return count;
}

const ORDERS = {
  number: (a, b) => a.number - b.number,
  name: (a, b) => a.name.localeCompare(b.name) || a.number - b.number,
  findings: (a, b) => b.findings - a.findings || a.number - b.number,
  bytes: (a, b) => b.bytes - a.bytes || a.number - b.number,
};

/* Put guests and lines of the grid into the order; each part of the grid keeps its number of lines. */
function sort() {
  const places = [...document.querySelectorAll(".grid tr.one")].map((line) => {
    const place = document.createComment("");
    line.replaceWith(place);
    return place;
  });
  sections.sort((a, b) => ORDERS[order.value](a.dataset, b.dataset));
  guests.prepend(...sections);
  sections.forEach((section, number) => places[number]?.replaceWith(lines.get(section.id)));
}

function reset() {
  for (const box of boxes) box.checked = true;
  find.value = search.value = requirement.value = "";
  filter();
}

/* A link to a row that is filtered or folded away shows it. */
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || !guests.contains(target)) return;
  const details = target.closest("section").querySelector("details");
  if (target.checkVisibility() && details.open) return;
  if (target.closest("[hidden]") || boxes.some((box) => !box.checked)) reset();
  details.open = true;
  target.scrollIntoView();
}

if (find) {
  for (const each of document.querySelectorAll(".scripted")) each.hidden = false;
  for (const box of boxes) box.addEventListener("change", filter);
  for (const field of [find, search]) field.addEventListener("input", filter);
  requirement.addEventListener("change", filter);
  order.addEventListener("change", sort);
  all.addEventListener("click", reset);
  addEventListener("hashchange", reveal);
  /* a tooltip costs a third of the grid if it is written out */
  document.addEventListener("mouseover", (event) => {
    const cell = event.target.closest?.(".grid td a");
    if (cell) cell.title = cell.getAttribute("aria-label");
  });
  filter(); /* a browser that comes back fills the fields in again */
  if (order.value !== "number") sort();
  reveal();
}
