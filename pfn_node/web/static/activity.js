// The page of the activity: marks what is new since the page was opened, and says when the stream was lost and resumed.
// What is new comes with the refreshed page itself (live.js).

const connection = document.getElementById("connection");
const arrivals = document.getElementById("arrivals");

const entries = () => Array.from(document.querySelectorAll("[data-entry]"));
const newest = () => Math.max(0, ...entries().map((entry) => Number(entry.dataset.entry)));

let seen = newest();
let lostAt = null;
let read = null; // the entry at the top of the window of who has scrolled down, and where it stands

addEventListener("scroll", () => {
  const top = scrollY === 0 ? undefined : entries().find((entry) => entry.getBoundingClientRect().top >= 0);
  read = top === undefined ? null : { entry: top.dataset.entry, at: top.getBoundingClientRect().top };
}, { passive: true });

/** What somebody reads stays where it is, whatever came above it. */
function keepPlace() {
  if (read === null) return;
  const same = document.querySelector(`[data-entry="${read.entry}"]`);
  if (same !== null) scrollBy({ top: same.getBoundingClientRect().top - read.at, behavior: "instant" });
}

function clock() {
  return new Date().toLocaleTimeString([], { hour12: false });
}

document.addEventListener("node-connection", (event) => {
  if (event.detail.open) {
    if (lostAt !== null) connection.textContent = `Live again since ${clock()}: what came meanwhile is in the list.`;
    lostAt = null;
    connection.className = "notice good";
    return;
  }
  lostAt ??= clock();
  connection.hidden = false;
  connection.className = "notice warn";
  connection.textContent = `The connection to the node was lost at ${lostAt}. Trying again …`;
});

document.addEventListener("page-refreshed", () => {
  keepPlace();
  let count = 0;
  for (const entry of entries()) {
    if (Number(entry.dataset.entry) <= seen) continue;
    entry.classList.add("fresh");
    count += 1;
  }
  if (count === 0) return;
  seen = newest();
  arrivals.textContent = count === 1 ? "1 new entry" : `${count} new entries`;
});
