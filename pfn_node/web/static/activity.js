// The page of the activity: marks what is new since the page was opened, and says when the stream was lost and resumed.
// What is new comes with the refreshed page itself (live.js).

const connection = document.getElementById("connection");
const arrivals = document.getElementById("arrivals");

const newest = () =>
  Math.max(0, ...Array.from(document.querySelectorAll("[data-entry]"), (entry) => Number(entry.dataset.entry)));

let seen = newest();
let lostAt = null;

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
  let count = 0;
  for (const entry of document.querySelectorAll("[data-entry]")) {
    if (Number(entry.dataset.entry) <= seen) continue;
    entry.classList.add("fresh");
    count += 1;
  }
  if (count === 0) return;
  seen = newest();
  arrivals.textContent = count === 1 ? "1 new entry" : `${count} new entries`;
});
