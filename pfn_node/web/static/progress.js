// While the page says that something is under way (`data-busy`), it is asked for again without waiting for an event.

import { refreshSoon } from "./live.js";

const MILLISECONDS = 500;

setInterval(() => {
  if (document.querySelector("[data-busy]") !== null) refreshSoon();
}, MILLISECONDS);
