// The rating page: votes go into the queue and the next page is there at once; keys, undo, view.
// Without this script every form works by itself.

import { openDrafts } from "./drafts.js";
import { openQueue, post, uuid } from "./queue.js";
import { markable } from "./spans.js";

const root = document.documentElement, item = document.getElementById("item");
const find = (id) => document.getElementById(id);
const strings = JSON.parse(find("strings").textContent);
const number = (value) => `\u2066${value}\u2069`;

function say(key, n) {
  const known = strings[key];
  const form = { 1: "one", 2: "two" }[n];
  const text = typeof known === "string" ? known : known[form] ?? known.other;
  return text.replace("{n}", number(n));
}

// ------------------------------------------------------------------------------ how it looks

root.classList.add("js");
const switches = document.querySelector("[data-switches]");
switches?.addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter;
  button.setAttribute("aria-pressed", root.classList.toggle(button.value));
  const on = [...switches.querySelectorAll("[aria-pressed=true]")].map((one) => one.value);
  document.cookie = `hebench_view=${on.join(".")};path=/;max-age=31536000;samesite=lax`;
});

// ------------------------------------------------------------------------------ time on a page

let looked = 0, since = performance.now();
const pause = () => {
  if (!document.hidden) since = performance.now();
  else {
    looked += performance.now() - since;
    keepDraft();
  }
};
const seconds = () => (looked + (document.hidden ? 0 : performance.now() - since)) / 1000;
document.addEventListener("visibilitychange", pause);
const startClock = (before) => ([looked, since] = [1000 * before, performance.now()]);

// ------------------------------------------------------------------------------- the next page

const ahead = []; // pages to come: {slot, html}
const seen = new Map(); // slot -> html, for taking back
const done = new Set(); // slots that were answered here: a late answer of the server may hold them
let claiming = null, message = "";

const slotShown = () => item.querySelector("[data-slot]")?.dataset.slot;

const formShown = () => item?.querySelector("form.ballot");

// Makes a page that was just put in its place ready, filled in as far as the rater had come.
function prepare() {
  const mark = markable(item.firstElementChild);
  const before = drafts.restore(formShown(), mark);
  startClock(before.seconds);
  if (before.filled) find("spoken").textContent = say("restored");
}

function keepDraft() {
  if (formShown()) drafts.keep(formShown(), seconds());
}

function show(page) {
  // Made and escaped by the server, as the first page was.
  item.innerHTML = page.html;
  seen.set(page.slot, page.html);
  prepare();
  scrollTo(0, 0);
  item.querySelector("h1").focus({ preventScroll: true });
}

function showMessage(html) {
  item.innerHTML = html;
  item.querySelector("h1").focus({ preventScroll: true });
}

async function claim() {
  const before = receipts, quiet = queue.idle();
  let found;
  try {
    const held = ahead.map((page) => ["held", page.slot]);
    const answer = await post("/claim", [["ahead", "yes"], ...held], item.dataset.token);
    if (!answer.ok) return;
    found = await answer.json();
  } catch {
    return;
  }
  message = found.message;
  const held = new Set([...queue.waiting().map((entry) => entry.slot), ...done, slotShown()]);
  const known = new Map(ahead.map((page) => [page.slot, page]));
  const pages = found.pages.filter((page) => !held.has(page.slot));
  ahead.splice(0, ahead.length, ...pages.map((page) => known.get(page.slot) ?? page));
  // While votes are on their way, the server's count may hold them or not.
  if (quiet && queue.idle() && receipts === before) {
    setProgress(found.progress.answered, found.progress.total);
  }
}

function refill() {
  claiming ??= claim().finally(() => (claiming = null));
  return claiming;
}

// Asks for pages once the server has all votes: a question on its way may be older than they are.
async function refillAfterVotes() {
  await queue.flush();
  await claiming;
  await refill();
}

async function next() {
  if (!ahead.length) {
    item.replaceChildren();
    item.setAttribute("aria-busy", "true");
    await refillAfterVotes();
    item.removeAttribute("aria-busy");
    if (slotShown()) return; // one that was taken back, or found by looking again, meanwhile
  }
  const page = ahead.shift();
  if (page) show(page);
  else showMessage(navigator.onLine && message ? message : find("offline").innerHTML);
  if (ahead.length < 3) refill();
}

// Where there was nothing to do, look again: others gave pages back, or the connection is here.
async function lookAgain() {
  if (slotShown()) return;
  await refillAfterVotes();
  if (ahead.length && !slotShown()) next();
}

let answered = 0, total = 0, receipts = 0;
function setProgress(done, all) {
  [answered, total] = [done, all];
  const bar = find("progress"), now = done + queue.waiting().length;
  bar.value = now;
  bar.max = Math.max(all, 1);
  find("progress-text").textContent = strings.progress
    .replace("{answered}", number(now))
    .replace("{total}", number(all));
}

// ------------------------------------------------------------------------------------- voting

const notice = find("notice"), shared = item && "shared" in item.dataset;
function tell({ state, waiting, refused, receipt }) {
  const parts = [];
  if (state === "signed_out") parts.push(say(shared ? "signed_out_shared" : "signed_out", waiting));
  else if (waiting && state !== "sending") parts.push(say("waiting", waiting));
  if (refused) parts.push(say("refused", refused));
  if (receipt?.reason) parts.push(say(`not_counted_${receipt.reason}`));
  notice.hidden = !parts.length;
  if (notice.textContent !== parts.join(" ")) notice.textContent = parts.join(" ");
  if (receipt) receipts += 1;
  if (receipt) setProgress(answered + (receipt.replayed ? 0 : 1), total);
}

const queue = item && openQueue(item.dataset.rater, item.dataset.token, tell);
const drafts = item && openDrafts(item.dataset.study, item.dataset.rater);

function cast(form, button) {
  const body = new FormData(form), id = uuid();
  if (button?.name) body.append(button.name, button.value);
  body.set("id", id);
  body.set("seconds", seconds().toFixed(2));
  for (const name of ["token", "shown"]) body.delete(name);
  const slot = body.get("slot");
  try {
    queue.add({ id, slot, body: new URLSearchParams(body).toString() });
  } catch {
    return plainly(form, button); // this browser keeps nothing for us
  }
  drafts.drop(form);
  done.add(slot);
  unheard = null;
  setProgress(answered, total);
  find("spoken").textContent = say("saved");
  queue.flush().then(() => ahead.length < 3 && refill());
  next();
}

function plainly(form, button) {
  const chosen = document.createElement("input");
  Object.assign(chosen, { type: "hidden", name: button?.name ?? "", value: button?.value ?? "" });
  form.append(chosen);
  form.submit();
}

let unheard = null; // the id of a taking back that was not done, as far as is known: asked again, it is the same

async function undo() {
  const last = await queue.takeBack();
  let page = last && { slot: last.slot, html: seen.get(last.slot) };
  if (!last) {
    const id = unheard ?? uuid();
    unheard = null;
    let refused = false;
    try {
      const answer = await post("/undo", { id }, item.dataset.token);
      refused = !answer.ok;
      page = (await answer.json()).page;
      if (refused) throw answer;
    } catch {
      unheard = id;
      notice.textContent = say(refused ? "undo_refused" : "undo_offline");
      notice.hidden = false;
      return;
    }
    if (page) setProgress(answered - 1, total);
  }
  find("spoken").textContent = say(page ? "undone" : "nothing_to_undo");
  if (!page) return;
  done.delete(page.slot);
  // It was read before: its clock goes on from what the vote that was dropped had said, and that of
  // the page in its place from now.
  if (last) drafts.keepTime(last.slot, Number(new URLSearchParams(last.body).get("seconds")));
  if (!page.html) return location.reload();
  const slot = slotShown();
  if (slot && slot !== page.slot) {
    keepDraft();
    ahead.unshift({ slot, html: seen.get(slot) });
  }
  show(page);
  setProgress(answered, total);
}

// --------------------------------------------------------------------------------------- keys

function press(event) {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const arrow = event.code.startsWith("Arrow"), enter = event.code.endsWith("Enter");
  const place = event.target.closest?.("input, textarea, select, button, a, summary");
  const radio = place?.matches("input[type=radio], input[type=checkbox]");
  if (place && (!radio || arrow || enter)) return;
  if (root.classList.contains("quiet") && !arrow && !enter) return;
  if (event.code === "KeyZ") return find("undo").requestSubmit();
  if (event.code === "KeyM") return item.firstElementChild?.dispatchEvent(new Event("mark"));
  const code = event.code.replace("Numpad", "Digit").replace("DigitEnter", "NumpadEnter");
  const groups = [...item.querySelectorAll("fieldset")].filter(
    (group) => group.querySelector("[type=radio]") && !group.querySelector(":checked"),
  );
  const within = groups[0] ?? item;
  const chosen = within.querySelector(`${groups[0] ? "input" : "button"}[data-key~="${code}"]`);
  if (!chosen) return;
  event.preventDefault();
  chosen.click();
}

if (item) {
  item.addEventListener("submit", (event) => {
    event.preventDefault();
    // Enter on a radio is no judgement. By the attribute: old browsers know no such method.
    if (event.submitter?.getAttribute("formmethod") === "dialog") return;
    cast(event.target, event.submitter);
  });
  // The second click of a double one would fall on the next page.
  for (const kind of ["mousedown", "click"]) {
    item.addEventListener(kind, (event) => {
      if (event.detail > 1 && event.target.closest("button")) event.preventDefault();
    });
  }
  find("undo").addEventListener("submit", (event) => {
    event.preventDefault();
    undo();
  });
  document.addEventListener("keydown", press);
  const bar = find("progress"), slot = slotShown();
  if (slot) seen.set(slot, item.innerHTML);
  setProgress(bar.value, Number(bar.max));
  if (slot) prepare();
  // A vote on this very page may have waited here since a tab was closed.
  const stale = queue.waiting().some((entry) => entry.slot === slot);
  queue.flush().then(refill).then(() => stale && slotShown() === slot && next());
  item.addEventListener("input", keepDraft);
  addEventListener("pagehide", keepDraft);
  addEventListener("online", lookAgain);
  setInterval(lookAgain, 60_000);
} else markable(document.querySelector(".item"));
