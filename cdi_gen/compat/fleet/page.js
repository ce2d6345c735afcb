"use strict";
(() => {
  const table = document.getElementById("matrix");
  if (!table || !table.tHead) return;
  const controls = document.getElementById("controls");
  const panel = document.getElementById("panel");
  const fixed = 3; // columns before those of hosts
  const heads = [...table.tHead.rows[1].cells];
  const branches = [...table.tHead.rows[0].cells].slice(2);
  const groups = [...table.tBodies].map(body => ({
    body,
    title: body.querySelector("tr.group"),
    rows: [...body.rows].filter(row => !row.classList.contains("group")),
  }));
  const rows = groups.flatMap(group => group.rows);
  const rank = { "no": 0, "unknown": 1, "minor-version": 2, "forward-compat": 3, "native": 4 };
  const lower = element => element.textContent.toLowerCase();
  const nameOf = new Map(rows.map(row => [row, lower(row.cells[0])]));
  const classes = heads.map((head, index) => index < fixed ? "" : lower(document.getElementById(`class-${head.dataset.class}`)));
  const visible = heads.map(() => true);
  const isUnread = row => row.classList.contains("unread");

  // Filters: of images by name and kind of verdict, of hosts by name, driver and GPU.
  const words = id => document.getElementById(id).value.toLowerCase().split(/\s+/).filter(Boolean);
  function filter() {
    const images = words("image-filter"), hosts = words("host-filter");
    const boxes = [...controls.elements.kind ? [controls.elements.kind].flatMap(box => box.length ? [...box] : [box]) : []];
    const kinds = new Set(boxes.filter(box => box.checked).map(box => box.value));
    const isAll = kinds.size === boxes.length;
    heads.forEach((head, index) => {
      const show = index < fixed || hosts.every(word => classes[index].includes(word));
      if (show === visible[index]) return;
      visible[index] = show;
      head.hidden = !show;
      for (const row of rows) if (!isUnread(row)) row.cells[index].hidden = !show;
    });
    let column = fixed;
    for (const branch of branches) {
      const width = Number(branch.dataset.width ??= branch.colSpan);
      const shown = visible.slice(column, column + width).filter(Boolean).length;
      branch.hidden = !shown;
      branch.colSpan = shown || 1;
      column += width;
    }
    let count = 0;
    for (const row of rows) {
      const named = images.every(word => nameOf.get(row).includes(word));
      const ofKind = isAll || isUnread(row) ||
        [...row.cells].some((cell, index) => index >= fixed && visible[index] && kinds.has(cell.dataset.kind));
      row.hidden = !(named && ofKind);
      count += row.hidden ? 0 : 1;
    }
    titles();
    const columns = visible.slice(fixed).filter(Boolean).length;
    document.getElementById("shown").value = `${count} of ${rows.length} images, ${columns} of ${heads.length - fixed} classes of hosts`;
    enter();
  }
  function titles() {
    for (const group of groups) if (group.title) group.title.hidden = sorted || group.rows.every(row => row.hidden);
  }

  // Sorting: by a column, all groups together; the third click restores the groups.
  let sorted = false;
  const flat = document.createElement("tbody");
  function value(row, index, how) {
    if (how === "name") return nameOf.get(row);
    if (isUnread(row)) return Infinity;
    const cell = row.cells[index];
    return how === "number" ? Number(cell.dataset.value) : rank[cell.dataset.kind] + (cell.classList.contains("limited") ? 0 : .5);
  }
  function sort(head, index) {
    const before = head.getAttribute("aria-sort");
    for (const other of heads) other.removeAttribute("aria-sort");
    sorted = before !== "descending";
    if (sorted) {
      const direction = before === "ascending" ? -1 : 1;
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const how = head.dataset.sort;
      const keyed = rows.map((row, place) => ({ row, place, key: value(row, index, how) }));
      keyed.sort((one, other) => (isUnread(one.row) - isUnread(other.row)) ||
        (one.key < other.key ? -direction : one.key > other.key ? direction : one.place - other.place));
      table.append(flat);
      flat.append(...keyed.map(entry => entry.row));
    } else {
      for (const group of groups) group.body.append(...group.rows);
      flat.remove();
    }
    titles();
  }
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort the images by this column";
    const label = index < fixed ? head.firstChild : head.querySelector("a");
    button.append(label.textContent);
    label.replaceWith(button);
    button.addEventListener("click", () => sort(head, index));
  });

  // One cell is reached by Tab, the others by the arrow keys; the reason stands at the lower edge.
  table.setAttribute("role", "grid");
  const links = [...table.querySelectorAll("td > a")];
  for (const link of links) link.tabIndex = -1;
  let entry = null;
  function enter(link) {
    const usable = link ?? (entry && entry.offsetParent ? entry : links.find(other => other.offsetParent));
    if (entry) entry.tabIndex = -1;
    entry = usable ?? null;
    if (entry) entry.tabIndex = 0;
  }
  function neighbour(cell, right, down) {
    let row = cell.parentElement, index = cell.cellIndex;
    if (down) {
      const shown = [...table.querySelectorAll("tbody tr:not(.group):not(.unread)")].filter(other => !other.hidden);
      row = shown[shown.indexOf(row) + down];
      return row && row.cells[index];
    }
    do index += right; while (row.cells[index] && row.cells[index].hidden);
    return index >= fixed && row.cells[index];
  }
  const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  table.addEventListener("keydown", event => {
    const cell = event.target.closest("td");
    if (!cell || !(event.key in steps)) return;
    const next = neighbour(cell, ...steps[event.key]);
    const link = next && next.querySelector("a");
    if (link) { enter(link); link.focus(); }
    event.preventDefault();
  });
  function explain(link) {
    const cell = link.parentElement, row = cell.parentElement;
    const reason = document.getElementById(link.hash.slice(1));
    const head = heads[cell.cellIndex];
    const title = document.createElement("strong");
    const facts = document.getElementById(`class-${head.dataset.class}`).cells;
    title.append(row.cells[0].textContent, ` on ${head.dataset.class} (driver ${facts[1].textContent}, ${facts[4].textContent})`);
    const close = document.createElement("button");
    close.type = "button";
    close.append("Close");
    close.addEventListener("click", dismiss);
    panel.replaceChildren(close, title, reason.querySelector(".why").cloneNode(true));
    panel.hidden = false;
    document.body.classList.add("with-panel");
  }
  function dismiss() {
    panel.hidden = true;
    document.body.classList.remove("with-panel");
  }
  const linkOf = event => event.target.closest && event.target.closest("td > a");
  let pinned = false;
  table.addEventListener("mouseover", event => { const link = linkOf(event); if (link && !pinned) explain(link); });
  table.addEventListener("focusin", event => { const link = linkOf(event); if (link) { enter(link); explain(link); } });
  table.addEventListener("click", event => {
    const link = linkOf(event);
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    pinned = true;
    link.focus();
    explain(link);
  });
  document.addEventListener("keydown", event => { if (event.key === "Escape") { pinned = false; dismiss(); } });
  panel.addEventListener("click", () => { pinned = false; });

  controls.hidden = false;
  controls.addEventListener("input", filter);
  controls.addEventListener("reset", event => {
    event.preventDefault(); // the values are reset only after this event, too late for the filter
    for (const field of controls.elements) field.type === "checkbox" ? field.checked = true : field.value = "";
    filter();
  });
  controls.addEventListener("submit", event => event.preventDefault());
  filter();
})();
