// Votes on their way to the server. Each is kept in this browser, under an id of its own, until
// the server has acknowledged it: a lost connection or a closed tab loses nothing, and sending
// one twice changes nothing. One that the server refuses for good stays here, counted and shown.

const FIRST_WAIT = 3_000, LONGEST_WAIT = 60_000; // milliseconds
const NOT_NOW = [408, 429];

export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

// A request as this application's forms send it; answers JSON.
export async function post(path, body, token) {
  return fetch(path, {
    method: "POST",
    body: new URLSearchParams(body),
    headers: { Accept: "application/json", "X-Form-Token": token },
  });
}

const prefixOf = (name) => `hebench:${name}:`;

// What of a rater's votes is still in this browser, refused ones too, the oldest first.
export function entriesOf(name) {
  return Object.keys(localStorage)
    .filter((key) => key.startsWith(prefixOf(name)))
    .map((key) => JSON.parse(localStorage.getItem(key)))
    .sort((one, other) => one.at - other.at);
}

// Whether a refusal is of this browser's session, or of a token from before it, not of the vote.
async function needsLink(answer) {
  if (answer.status !== 403) return answer.status === 401;
  return (await answer.json()).error !== "forbidden";
}

// name: whose queue it is; token: for forms; changed: called after each step with the state.
export function openQueue(name, token, changed) {
  const prefix = prefixOf(name);
  let state = "idle", running = null, timer = 0, wait = FIRST_WAIT;

  const unsent = () => entriesOf(name).filter((entry) => !entry.refused);
  const waiting = () => unsent().filter((entry) => !entry.undo);
  const keep = (entry) => localStorage.setItem(prefix + entry.id, JSON.stringify(entry));
  const drop = (id) => localStorage.removeItem(prefix + id);
  const tell = (next, receipt) => {
    state = next;
    const refused = entriesOf(name).filter((entry) => entry.refused);
    changed({ state, waiting: waiting().length, refused: refused.length, receipt });
  };

  async function sendAll() {
    clearTimeout(timer);
    for (let entry; (entry = unsent()[0]);) {
      tell("sending");
      let answer, receipt, unknown;
      const undoing = entry.undo && entry.acknowledged;
      // Without a connection it cannot arrive; with one it may have, also if no answer comes.
      if (!entry.tried && navigator.onLine) keep((entry = { ...entry, tried: true }));
      try { // an answer may break off as a request may, or be another server's on the way
        answer = await (undoing
          ? post("/undo", { id: entry.undo }, token)
          : post("/vote", entry.body, token));
        receipt = answer.ok && (await answer.json());
        unknown = await needsLink(answer);
      } catch {
        return again("offline");
      }
      if (answer.ok) {
        if (entry.undo && !undoing) keep({ ...entry, acknowledged: true });
        else drop(entry.id);
        wait = FIRST_WAIT;
        tell("sending", entry.undo ? undefined : receipt);
      } else if (answer.status >= 500 || NOT_NOW.includes(answer.status)) return again("busy");
      else if (unknown) return tell("signed_out");
      else if (entry.undo && !undoing) drop(entry.id); // refused: there is nothing to take back
      else keep({ ...entry, refused: answer.status });
    }
    tell("idle");
  }

  function again(next) {
    timer = setTimeout(flush, wait);
    wait = Math.min(2 * wait, LONGEST_WAIT);
    tell(next);
  }

  function flush() {
    running ??= sendAll().finally(() => (running = null));
    return running;
  }

  // A request that began without a connection may be failing still when the connection is back:
  // what is sent then is sent after it, and soon.
  addEventListener("online", async () => {
    await running;
    wait = FIRST_WAIT;
    flush();
  });
  return {
    flush,
    waiting,
    idle: () => running === null,
    add(entry) {
      keep({ ...entry, at: Date.now() });
    },
    // The latest vote that is still here, taken back; nothing if all are sent. One that the server
    // may have without its answer having come back goes there again, and its taking back after it.
    async takeBack() {
      while (running) await running;
      const last = waiting().at(-1);
      if (last?.tried) keep({ ...last, undo: uuid() });
      else if (last) drop(last.id);
      tell(state);
      return last;
    },
  };
}
