"use strict";
/* The index is read without this; it adds the filter by hypervisor. */
const host = document.getElementById("host");
const counted = document.getElementById("counted");

function filter() {
  const wanted = host.value;
  let shown = 0;
  for (const each of document.querySelectorAll("[data-host]")) {
    each.hidden = wanted !== "" && each.dataset.host !== wanted;
    if (each.closest(".runs") && !each.hidden) shown += 1;
  }
  for (const month of document.querySelectorAll(".month")) month.hidden = month.querySelector("tr[data-host]:not([hidden])") === null;
  for (const more of document.querySelectorAll(".hosts-more")) more.open = more.open || wanted !== "";
  counted.textContent = wanted === "" ? "" : `${shown} runs shown`;
}

if (host) {
  host.closest(".scripted").hidden = false;
  host.addEventListener("change", filter);
  filter(); /* a browser that comes back fills the field in again */
}
