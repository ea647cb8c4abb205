// Sorts a table by the column whose heading is pressed; without this the page is the same, in the ledger's order.
const sortKey = (cell) => {
  if (cell.querySelector(":scope > .unknown")) return null;
  return cell.matches("th, .number") ? parseFloat(cell.textContent) : cell.textContent;
};
const sortTable = (table, heading, up) => {
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const keys = new Map([...body.rows].map((row) => [row, sortKey(row.cells[heading.dataset.column])]));
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is unknown comes last, both ways
    const order = typeof a === "number" ? a - b : a.localeCompare(b);
    return up ? order : -order;
  };
  body.append(...[...body.rows].sort((a, b) => compare(keys.get(a), keys.get(b))));
};
const makeSortable = (root) => {
  for (const table of root.querySelectorAll("table.sortable")) {
    table.querySelectorAll("th[data-column]").forEach((heading) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sortTable(table, heading, heading.getAttribute("aria-sort") !== "ascending"));
    });
  }
};
makeSortable(document);
