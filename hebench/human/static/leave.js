// Leaving: what this browser keeps of a rater goes with the rater. Drafts go on signing out and
// once a link is withdrawn; with delete-my-data, votes that still wait here go, too. Who signs out
// while votes wait is asked first.

import { clearDrafts } from "./drafts.js";
import { entriesOf } from "./queue.js";

function clearAll() {
  for (const key of Object.keys(localStorage)) {
    if (key.startsWith("hebench")) localStorage.removeItem(key);
  }
}

// Whether somebody whose votes wait here would rather stay.
const stays = ({ rater, unsent }) =>
  unsent && entriesOf(rater).some((entry) => !entry.refused) && !confirm(unsent);

const clear = { drafts: clearDrafts, all: clearAll };
for (const place of document.querySelectorAll("[data-clear]")) {
  const go = clear[place.dataset.clear];
  if (place.localName !== "form") go();
  else {
    place.addEventListener("submit", (event) => {
      if (stays(place.dataset)) event.preventDefault();
      else go();
    });
  }
}
