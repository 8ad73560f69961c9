// Leaving: what this browser keeps of a rater goes with the rater. Drafts go on signing out and
// once a link is withdrawn; with delete-my-data, votes that still wait here go, too.

import { clearDrafts } from "./drafts.js";

function clearAll() {
  for (const key of Object.keys(localStorage)) {
    if (key.startsWith("hebench")) localStorage.removeItem(key);
  }
}

const clear = { drafts: clearDrafts, all: clearAll };
for (const place of document.querySelectorAll("[data-clear]")) {
  if (place.localName === "form") place.addEventListener("submit", clear[place.dataset.clear]);
  else clear[place.dataset.clear]();
}
