// What a rater filled in and did not send yet, and for how long the page was looked at, kept in this
// browser: a closed tab loses nothing of a half-filled page, and who has read a page has read it,
// though nothing be filled in yet. A draft belongs to one rater and one page; it goes when the page
// is sent, when the rater leaves, and when another rater works in this browser.

const PREFIX = "hebench-draft:";
const MOST = 5, LONGEST = 250_000; // drafts; characters of one
const OLDEST = 7 * 86_400_000; // milliseconds
const OURS = ["token", "slot", "id", "shown", "then"]; // what a page brings with it

const fieldsOf = (form) => [...new FormData(form)].filter(([name]) => !OURS.includes(name));

function all() {
  return Object.keys(localStorage)
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => ({ key, ...JSON.parse(localStorage.getItem(key)) }))
    .sort((one, other) => other.at - one.at);
}

export function clearDrafts() {
  for (const { key } of all()) localStorage.removeItem(key);
}

// mark: makes the check box of a marked part of the text, where a page has such.
function fill(form, fields, mark) {
  for (const [name, value] of fields) if (name === "span") mark?.(value);
  for (const field of form.elements) {
    const values = fields.filter(([name]) => name === field.name).map(([, value]) => value);
    if (["radio", "checkbox"].includes(field.type)) field.checked = values.includes(field.value);
    if (field.type !== "textarea" || !values.length) continue;
    field.value = values[0];
    if (field.value) field.closest("details")?.setAttribute("open", "");
  }
}

// Drafts of one rater in one study; those of others are gone from now on.
export function openDrafts(study, rater) {
  const keyOf = (slot) => `${PREFIX}${study}:${slot}`;
  const slotOf = (form) => form.elements.slot.value;
  const blank = new WeakMap(); // form -> its fields as the page came
  for (const draft of all()) {
    if (draft.by !== rater || draft.at < Date.now() - OLDEST) localStorage.removeItem(draft.key);
  }
  return {
    // Fills a new page in as it was left: the seconds it was looked at by then, 0 without a draft,
    // and whether anything was filled in.
    restore(form, mark) {
      blank.set(form, JSON.stringify(fieldsOf(form)));
      const draft = JSON.parse(localStorage.getItem(keyOf(slotOf(form))));
      const filled = Boolean(draft?.fields.length);
      if (filled) fill(form, draft.fields, mark);
      return { seconds: draft?.seconds ?? 0, filled };
    },
    keep(form, seconds) {
      const fields = fieldsOf(form), text = JSON.stringify(fields);
      const alone = text === blank.get(form) || text.length > LONGEST;
      this.keepTime(slotOf(form), seconds, alone ? [] : fields);
    },
    keepTime(slot, seconds, fields = []) {
      const draft = { by: rater, at: Date.now(), seconds, fields };
      try {
        localStorage.setItem(keyOf(slot), JSON.stringify(draft));
      } catch {
        return; // there is no room: the page itself still holds it
      }
      // Times alone go before what somebody wrote.
      const kept = all().sort((one, other) => !one.fields.length - !other.fields.length);
      for (const { key } of kept.slice(MOST)) localStorage.removeItem(key);
    },
    drop(form) {
      localStorage.removeItem(keyOf(slotOf(form)));
    },
  };
}
