// The item explorer's search: words, what one model got and another did not, difficulty.
"use strict";
(async () => {
  const SHOWN = 200, byId = (id) => document.getElementById(id), form = byId("explore");
  const fields = form.querySelectorAll("input, select"), {key} = form.dataset;
  const data = await hebenchLoad(`items/${key}`), n = data.ids.length;
  const mean = hebenchScores(data.mean, n), suspect = new Set(data.suspect);
  const fits = {better: (x, y) => x > y, worse: (x, y) => x < y, differ: (x, y) => x > y || x < y};
  const scores = async (slug) =>
    slug && hebenchScores((await hebenchLoad(`scores/${slug}`))[key], n);
  let turn = 0; // the newest view, while scores of an older one may still come

  async function show({q, a, b, only, sort, wrong}) {
    const now = ++turn;
    const hit = q && hebenchFound(data, q), left = await scores(a), right = await scores(b);
    if (now !== turn) return;
    const places = [...data.ids.keys()].filter((i) => (!hit || hit[i]) &&
      (!wrong || suspect.has(i)) && (!left || !right || !only || fits[only](left[i], right[i])));
    const rank = mean.map((x) => (Number.isNaN(x) ? 2 : sort === "hard" ? x : -x));
    if (sort) places.sort((i, j) => rank[i] - rank[j]);
    const facts = [["mean", mean], ["a", left], ["b", right]].filter(([, of]) => of);
    byId("found").replaceChildren(...places.slice(0, SHOWN).map((i) => hebenchFill("hit", {
      href: `${Math.floor(i / data.page) + 1}.html#item-${i + 1}`,
      id: data.ids[i],
      lead: data.lead ? data.lead[i] : "",
      facts: facts.map(([name, of]) =>
        hebenchText(`items.${name}`, {score: hebenchPercent(of[i])})).join(" · "),
    })));
    byId("count").textContent = hebenchText("items.found", {n: places.length}) +
      (places.length > SHOWN ? ` ${hebenchText("items.first", {n: SHOWN})}` : "");
  }

  form.addEventListener("input", () => {
    const view = hebenchView(fields);
    history.replaceState(null, "", hebenchHash(view));
    show(view);
  });
  const restore = () => {
    if (!location.hash.includes("=")) return;
    hebenchRestore(fields);
    show(hebenchView(fields)); // what the fields took of it: models that the page has
  };
  addEventListener("hashchange", restore);
  restore();
})();
