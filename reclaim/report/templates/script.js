"use strict";
/* The page is read without this; it adds looking for guests and their order. */
const guests = document.getElementById("guests");
const sections = [...guests.querySelectorAll("section[data-number]")];
const boxes = [...document.querySelectorAll(".filters input[type=checkbox]")];
const find = document.getElementById("find");
const order = document.getElementById("order");
const shown = document.getElementById("shown");

for (const one of document.querySelectorAll(".scripted")) one.hidden = false;

function filter() {
  const wanted = find.value.toLowerCase();
  const verdicts = boxes.filter((box) => box.checked).map((box) => ".rows tr." + box.id.replace("show-", "v-"));
  const rows = verdicts.join(",");
  let count = 0;
  for (const section of sections) {
    const match = section.dataset.name.toLowerCase().includes(wanted) && rows !== "" && section.querySelector(rows) !== null;
    section.hidden = !match;
    count += match;
  }
  shown.textContent = count === sections.length ? "" : `${count} of ${sections.length} guests shown`;
}

const ORDERS = {
  number: (a, b) => a.number - b.number,
  name: (a, b) => a.name.localeCompare(b.name) || a.number - b.number,
  findings: (a, b) => b.findings - a.findings || a.number - b.number,
  bytes: (a, b) => b.bytes - a.bytes || a.number - b.number,
};

function sort() {
  sections.sort((a, b) => ORDERS[order.value](a.dataset, b.dataset));
  guests.prepend(...sections);
}

/* A link to a row that is filtered away shows everything again. */
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || !guests.contains(target) || target.checkVisibility()) return;
  for (const box of boxes) box.checked = true;
  find.value = "";
  filter();
  target.scrollIntoView();
}

for (const box of boxes) box.addEventListener("change", filter);
find.addEventListener("input", filter);
order.addEventListener("change", sort);
addEventListener("hashchange", reveal);
filter();
sort();
reveal();
