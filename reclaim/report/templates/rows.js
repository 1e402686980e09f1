"use strict";
/* What pytest-html leaves to the mouse, for the keyboard and for screen readers; links into a table that is made anew. */
(() => {
  let focus = null;

  function dress() {
    const table = document.getElementById("results-table");
    for (const fold of table.querySelectorAll("button.fold")) {
      const folded = fold.closest("tbody").querySelector(".extras-row").classList.contains("hidden");
      fold.setAttribute("aria-expanded", String(!folded));
    }
    for (const head of table.querySelectorAll("th.sortable")) {
      const direction = head.classList.contains("asc") ? "ascending" : head.classList.contains("desc") ? "descending" : "none";
      head.setAttribute("aria-sort", direction);
    }
    for (const row of table.querySelectorAll("tbody.aimed")) row.classList.remove("aimed");
    aimed()?.classList.add("aimed");
    if (focus !== null) table.querySelector(focus)?.focus({ preventScroll: true });
    focus = null;
  }

  function aimed() {
    return /^#row-[0-9a-f]+$/.test(location.hash) ? document.getElementById(location.hash.slice(1)) : null;
  }

  function reveal() {
    if (!/^#row-[0-9a-f]+$/.test(location.hash)) return;
    if (aimed() === null) {
      for (const box of document.querySelectorAll("input.filter:not(:checked):not(:disabled)")) box.click();
    }
    const row = aimed();
    if (row === null) return;
    if (row.querySelector(".extras-row").classList.contains("hidden")) row.querySelector(".col-result").click();
    dress();
    aimed().scrollIntoView({ block: "center" });
    aimed().querySelector("button.fold").focus({ preventScroll: true });
  }

  document.addEventListener("click", (event) => {
    const fold = event.target.closest?.("button.fold");
    const head = event.target.closest?.("th.sortable button");
    if (head) focus = `th[data-column-type="${head.dataset.columnType}"] button`;
    if (!fold) return;
    event.stopPropagation();
    focus = `#${fold.closest("tbody").id} button.fold`;
    fold.parentElement.click();
  }, true);

  document.addEventListener("DOMContentLoaded", () => {
    const main = document.querySelector("main");
    main.append(document.getElementById("environment-header"), document.getElementById("environment"));
    for (const box of document.querySelectorAll("input.filter")) {
      box.setAttribute("aria-label", box.nextElementSibling.textContent.trim().replace(/,$/, ""));
    }
    new MutationObserver(dress).observe(main, { childList: true });
    dress();
    reveal();
  });
  addEventListener("hashchange", reveal);
})();
