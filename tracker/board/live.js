// Asks for the page every few seconds and puts what is new in its place; without this the page is loaded anew.
const readMeta = (name) => document.querySelector(`meta[name=${name}]`)?.content;
let shown = readMeta("state");
let skew = 0; // of this machine's clock behind the board's, in milliseconds
const offline = document.getElementById("offline");

const renderLeft = (seconds) => {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  const two = (number) => String(number).padStart(2, "0");
  return days ? `${days} d ${hours} h ${minutes} min` : `${hours}:${two(minutes)}:${two(seconds % 60)}`;
};
const tick = () => {
  for (const clock of document.querySelectorAll("time.until")) {
    const left = Math.floor((Date.parse(clock.dateTime) - Date.now() - skew) / 1000);
    clock.textContent = left > 0 ? renderLeft(left) : clock.dataset.after;
  }
};

const swap = (fresh) => {
  const sorted = [...document.querySelectorAll("table.sortable th[aria-sort]")].map((heading) => [heading.dataset.column, heading.getAttribute("aria-sort") === "ascending"]);
  const scrolled = [...document.querySelectorAll(".scroll")].map((box) => [box.getAttribute("aria-labelledby"), box.scrollLeft, box.scrollTop]);
  const opened = [...document.querySelectorAll("details[open][id]")].map((box) => box.id);
  const focused = document.activeElement?.closest("[id], [href]");
  const written = document.querySelector("form"); // what is chosen in it stays
  if (written) fresh.querySelector("form")?.replaceWith(written);
  for (const part of ["header", "main", "footer"]) {
    document.querySelector(`body > ${part}`).replaceWith(fresh.querySelector(`body > ${part}`));
  }
  document.title = fresh.title;
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  makeSortable(document);
  for (const [column, up] of sorted) {
    const heading = document.querySelector(`table.sortable th[data-column="${column}"]`);
    if (heading) sortTable(heading.closest("table"), heading, up);
  }
  for (const [name, left, top] of scrolled) document.querySelector(`.scroll[aria-labelledby="${name}"]`)?.scrollTo(left, top);
  if (focused && !focused.isConnected) {
    const same = focused.id ? `#${CSS.escape(focused.id)}` : `[href="${CSS.escape(focused.getAttribute("href"))}"]`;
    document.querySelector(same)?.focus({ preventScroll: true });
  }
  tick();
};

const ask = async () => {
  try {
    const answer = await fetch(location.href, { headers: { "If-None-Match": `"${shown}"` }, cache: "no-store" });
    skew = Date.parse(answer.headers.get("Date")) - Date.now();
    if (answer.status === 200) {
      if (!shown) return location.reload(); // this page says what was wrong
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      shown = fresh.querySelector("meta[name=state]").content;
      swap(fresh);
    }
    offline.hidden = answer.ok || answer.status === 304 || !shown;
  } catch {
    offline.hidden = false;
  }
};
const poll = async () => {
  if (!document.hidden) await ask();
  setTimeout(poll, 1000 * readMeta("poll"));
};
if (shown !== undefined) {
  tick();
  setInterval(tick, 1000);
  poll();
  document.addEventListener("visibilitychange", () => document.hidden || ask());
}
