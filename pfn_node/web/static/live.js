// Keeps the marked parts of a page (`data-live`, each with an id) as the node knows them, without a reload.
//
// When something happened (an event of the stream, where the visitor may read it; else now and then) the page is
// asked for again, and those parts that differ are put in the place of the old ones. The node writes each page once,
// and text stays text: the answer is read as a document that runs nothing. Whether the stream is open is told as the
// event "node-connection".

const SECONDS_BETWEEN = 1; // however much happens
const SECONDS_WITHOUT_EVENTS = 10;
const SECONDS_FOR_TIMES = 30;
const SECONDS_AFTER_REFUSAL = 5; // a stream that was refused (the node is full, or starts) is not opened again by itself

const state = document.getElementById("live-state");
const isLive = document.querySelector("[data-live]") !== null;
let stream = null;
let due = null;
let asking = false;
let missed = false; // something happened while the page was asked for
let last = 0;
let signedOut = false;

document.documentElement.dataset.scripts = "yes";

/** The page as it is now, as a document of its own. */
function fetchPage() {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.href);
    request.responseType = "document";
    request.setRequestHeader("Accept", "text/html");
    request.onload = () => {
      signedOut = new URL(request.responseURL || location.href).pathname === "/sign-in";
      if (signedOut) say("Signed out");
      if (request.status === 200 && request.response && !signedOut) resolve(request.response);
      else reject();
    };
    request.onerror = reject;
    request.send();
  });
}

/** Whether somebody is typing, choosing or deciding inside of an element: it is left alone. What is open from the
 * beginning (`data-open`) nobody opened. */
function isInUse(element) {
  const opened = "details[open]:not([data-open]), dialog[open]";
  return element.contains(document.activeElement) || element.querySelector(opened) !== null;
}

async function refresh() {
  due = null;
  asking = true;
  let page;
  try {
    page = await fetchPage();
  } catch {
    return;
  } finally {
    asking = false;
    last = Date.now();
    if (missed) refreshSoon();
  }
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (fresh === null || fresh.isEqualNode(old) || isInUse(old)) continue;
    old.replaceWith(document.adoptNode(fresh));
  }
  document.dispatchEvent(new CustomEvent("page-refreshed"));
}

/** Ask for the page soon; many reasons at once lead to one request. */
export function refreshSoon() {
  missed = asking; // a slow node is asked again when it has answered, not meanwhile
  if (due !== null || asking || signedOut || document.hidden) return;
  due = setTimeout(refresh, Math.max(50, last + SECONDS_BETWEEN * 1000 - Date.now()));
}

function say(words) {
  if (state !== null) state.textContent = words;
}

function tellConnection(open, again) {
  document.dispatchEvent(new CustomEvent("node-connection", { detail: { open, again } }));
}

// A browser holds at most six connections to a node: a page that nobody sees gives its own back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && stream !== null) {
    stream.close();
    stream = null;
  } else if (!document.hidden && stream === null && isLive && document.body.dataset.events) {
    listen(document.body.dataset.events, true);
  }
});

function listen(path, wasLost = false) {
  if (document.hidden) return;
  const events = new EventSource(path);
  stream = events;
  let lost = wasLost;
  events.onopen = () => {
    say(lost ? "Live again" : "Live");
    tellConnection(true, lost);
    if (lost) refreshSoon();
    lost = false;
  };
  events.onerror = () => {
    lost = true;
    say(signedOut ? "Signed out" : "Reconnecting …");
    tellConnection(false, true);
    if (events.readyState !== EventSource.CLOSED) return;
    refreshSoon(); // it tells whether the session has ended
    setTimeout(() => {
      if (stream === events && !signedOut) listen(path, true); // else another was opened meanwhile
    }, SECONDS_AFTER_REFUSAL * 1000);
  };
  // Every kind of activity is an event of that name; the kinds stand on the page.
  for (const kind of (document.body.dataset.kinds || "").split(" ").filter(Boolean)) {
    events.addEventListener(kind, (event) => {
      document.dispatchEvent(new CustomEvent("node-activity", { detail: event }));
      refreshSoon();
    });
  }
}

if (isLive) {
  if (document.body.dataset.events) listen(document.body.dataset.events);
  setInterval(refreshSoon, SECONDS_WITHOUT_EVENTS * 1000);
  document.addEventListener("visibilitychange", refreshSoon);
}

const UNITS = [[31536000, "year"], [2592000, "month"], [86400, "day"], [3600, "hour"], [60, "minute"]];

/** A time as people say it, as the node writes it. */
export function relativeTime(seconds, now) {
  const distance = now - seconds;
  for (const [unit, name] of UNITS) {
    const count = Math.floor(Math.abs(distance) / unit);
    if (count === 0) continue;
    const words = `${count} ${name}${count > 1 ? "s" : ""}`;
    return distance > 0 ? `${words} ago` : `in ${words}`;
  }
  return distance >= 0 ? "just now" : "in a moment";
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[datetime]")) {
    time.textContent = relativeTime(Date.parse(time.dateTime) / 1000, Date.now() / 1000);
  }
}, SECONDS_FOR_TIMES * 1000);
