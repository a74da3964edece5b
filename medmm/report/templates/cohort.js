"use strict";
(function () {
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.sort || "";
      rows.sort((a, b) => (falls ? -1 : 1) * order.compare(key(a), key(b)));
      body.append(...rows);
    });
  });

  // A list of what a column holds, for each column that asks for one.
  const bar = document.getElementById("filter-bar");
  const choices = [];
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const values = new Set(rows.map((row) => row.cells[column].dataset.choice).filter(Boolean));
    if (!("choose" in head.dataset) || values.size < 2) return;
    const label = document.createElement("label"), select = document.createElement("select");
    select.append(new Option(bar.dataset.all, ""), ...Array.from(values).sort(order.compare).map((value) => new Option(value)));
    label.append(head.textContent, select);
    bar.insertBefore(label, document.getElementById("shown"));
    choices.push([column, select]);
    select.addEventListener("change", apply);
  });

  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  function apply() {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word)) ||
        !choices.every(([column, select]) => !select.value || row.cells[column].dataset.choice === select.value);
      if (!row.hidden) count++;
    }
    shown.textContent = shown.dataset.text.replace("{shown}", count).replace("{count}", rows.length);
  }
  filter.addEventListener("input", apply);
  document.getElementById("filter-bar").hidden = false;
  document.getElementById("filter-help").hidden = false;
  apply();
})();
