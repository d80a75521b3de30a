// Makes the map of the mesh live: lines as wide as what goes through them, a dot for each announcement that travels,
// a pulse where comparing found a difference, and the numbers of the node that is pointed at.
//
// What moves is drawn in a layer of its own above the map (`#moving`), so the map below can be exchanged meanwhile.

import { refreshSoon } from "./live.js";

const SVG = "http://www.w3.org/2000/svg";
const DOTS_AT_ONCE = 5; // for one link; more would be a stream that nobody can count
const DOT_MILLISECONDS = 1100;
const DOTS_APART_MILLISECONDS = 160;
const PULSE_MILLISECONDS = 1600;
const SECONDS_AFTER_REFUSAL = 15;

const stage = document.getElementById("stage");
const moving = document.getElementById("moving");
const card = document.getElementById("map-card");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const counts = new Map(); // by node id, as last told
let feed = null;

const linkOf = (id) => stage.querySelector(`[data-link="${CSS.escape(id)}"]`);
const nodeOf = (id) => stage.querySelector(`.node[data-peer="${CSS.escape(id)}"]`);

function draw(kind, attributes) {
  const made = document.createElementNS(SVG, "circle");
  made.setAttribute("class", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  moving.append(made);
  return made;
}

/** Announcements on their way along a link: away from this node, or to it. */
function travel(id, count, away) {
  const line = linkOf(id);
  if (line === null || still.matches || document.hidden) return;
  const at = (name) => line[name].baseVal.value;
  const ends = [`translate(${at("x1")}px, ${at("y1")}px)`, `translate(${at("x2")}px, ${at("y2")}px)`];
  if (!away) ends.reverse();
  for (let index = 0; index < Math.min(count, DOTS_AT_ONCE); index++) {
    const dot = draw("dot", { r: 5, "data-peer": id });
    const timing = { duration: DOT_MILLISECONDS, delay: index * DOTS_APART_MILLISECONDS, easing: "ease-in-out", fill: "both" };
    dot.animate({ transform: ends, opacity: [0, 1, 1, 0], offset: [0, 0.1, 0.85, 1] }, timing);
    setTimeout(() => dot.remove(), timing.duration + timing.delay);
  }
}

/** Comparing with a node found something that was missing here. */
function pulse(id) {
  const body = nodeOf(id)?.querySelector(".body");
  if (!body || still.matches || document.hidden) return;
  const radius = body.r.baseVal.value;
  const ring = draw("pulse", { cx: body.cx.baseVal.value, cy: body.cy.baseVal.value, r: radius });
  ring.animate({ r: [`${radius}px`, `${radius + 26}px`], opacity: [1, 0] }, { duration: PULSE_MILLISECONDS, easing: "ease-out" });
  setTimeout(() => ring.remove(), PULSE_MILLISECONDS);
}

function move(peer) {
  const before = counts.get(peer.id);
  counts.set(peer.id, peer);
  if (before === undefined) return;
  if (peer.sent > before.sent) travel(peer.id, peer.sent - before.sent, true);
  if (peer.received > before.received) travel(peer.id, peer.received - before.received, false);
  if (peer.found > before.found) pulse(peer.id);
}

/** Write what is known of a peer where the page shows it. */
function write(peer) {
  const line = linkOf(peer.id);
  line?.setAttribute("stroke-width", peer.width);
  line?.setAttribute("stroke-dasharray", peer.dashes);
  const says = nodeOf(peer.id)?.querySelector("desc");
  if (says) says.textContent = peer.says;
  for (const row of document.querySelectorAll(`tr[data-peer="${CSS.escape(peer.id)}"]`)) {
    for (const place of row.querySelectorAll("[data-figure]")) {
      const text = peer.figures[place.dataset.figure];
      if (place.textContent !== text) place.textContent = text;
    }
  }
  if (card.dataset.peer === peer.id && !card.hidden) point(nodeOf(peer.id));
}

function listen() {
  feed = new EventSource("/mesh/live");
  feed.addEventListener("peers", (event) => {
    const told = JSON.parse(event.data);
    stage.dataset.feed = "live";
    for (const peer of told.peers) {
      move(peer);
      write(peer);
    }
    if (told.shape !== document.getElementById("map").dataset.shape) refreshSoon();
  });
  // A feed that was refused (all places are taken) is not opened again by itself.
  feed.onerror = () => {
    if (feed?.readyState !== EventSource.CLOSED) return;
    delete stage.dataset.feed;
    setTimeout(() => { if (feed?.readyState === EventSource.CLOSED) listen(); }, SECONDS_AFTER_REFUSAL * 1000);
  };
}

/** Show the numbers of a node in the corner of the map that is farthest from it. */
function point(node) {
  if (node === null) return;
  node.querySelector("title")?.remove(); // or the browser shows it as well
  const [name, id, list, more] = card.children;
  name.textContent = node.dataset.name;
  id.textContent = node.dataset.short === node.dataset.name ? "" : node.dataset.short;
  list.replaceChildren();
  for (const line of node.querySelector("desc").textContent.split("\n")) {
    const [label, text] = line.split(/: (.*)/);
    list.append(term("dt", text === undefined ? "" : label), term("dd", text ?? label));
  }
  more.textContent = node.dataset.extra;
  card.dataset.peer = node.dataset.peer || "";
  const box = node.getBoundingClientRect();
  const frame = stage.getBoundingClientRect();
  card.classList.toggle("right", box.left + box.width / 2 < frame.left + frame.width / 2);
  card.classList.toggle("low", box.top + box.height / 2 < frame.top + frame.height / 2);
  card.hidden = false;
}

function term(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function leave() {
  const focused = document.activeElement?.closest?.(".stage .node");
  if (focused) point(focused);
  else card.hidden = true;
}

function seeOrNot() {
  if (document.hidden) {
    feed?.close();
    feed = null;
    delete stage.dataset.feed;
    counts.clear();
  } else if (feed === null) {
    listen();
  }
}

stage.addEventListener("pointerover", (event) => {
  const node = event.target.closest(".node");
  if (node !== null) point(node);
  else leave();
});
stage.addEventListener("pointerleave", leave);
stage.addEventListener("focusin", (event) => {
  const node = event.target.closest(".node");
  if (node !== null) point(node);
});
stage.addEventListener("focusout", () => { card.hidden = true; });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") card.hidden = true; });
document.addEventListener("page-refreshed", () => {
  moving.setAttribute("viewBox", stage.querySelector(".mesh-map").getAttribute("viewBox"));
  for (const peer of counts.values()) write(peer);
});
// A finger cannot hover: its first tap shows the numbers, the second follows the link.
let tapped = null;
stage.addEventListener("click", (event) => {
  const node = event.target.closest(".node");
  if (node !== null && event.pointerType === "touch" && tapped !== node.dataset.peer) event.preventDefault();
  tapped = node === null ? null : node.dataset.peer;
});
document.addEventListener("visibilitychange", seeOrNot);
seeOrNot();
