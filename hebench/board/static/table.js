// The main table: sort, search, filter, choose columns. The state is the track's form; what differs
// from its defaults stands in the URL's hash: #base&q=dicta&sort=size.
"use strict";
(() => {
  const FIRST = 8, tracks = new Map(); // cells before those of tasks; id of a track -> its restore
  const order = new Intl.Collator(document.documentElement.lang, {numeric: true});
  const text = (key, values) => hebenchText(`table.${key}`, values);
  const percent = (x) => (100 * x - (100 * x % 1 === 0.25) / 99).toFixed(1); // halves as in Python
  const likely = (p) => { // pages.table.chance
    const whole = Math.floor(100 * p + 0.5 + 1e-9);
    return whole < 1 ? "<1%" : whole > 99 ? ">99%" : `${whole}%`;
  };
  const label = (cell) => (cell.querySelector("a, span, bdi") || cell).textContent.trim();
  const value = (cell) => cell.dataset.v ?? label(cell).replace("–", "");
  const numbers = (cell) => (cell.dataset.v ?? cell.textContent).match(/[\d.]+/g) || [];
  const sum = (list) => list.reduce((total, x) => total + x, 0);

  // Means and ranks over columns, as standings.ranking: Map of slug -> result.
  async function standings(track, keys) {
    const [board, ...pairs] = await Promise.all([hebenchLoad("board"),
      ...keys.map((key) => hebenchLoad(`pairs/${key}`)), hebenchScript("assets/stats.js")]);
    const {columns, units, rows} = board[track], places = keys.map((key) => columns.indexOf(key));
    const found = new Map(rows.map(([slug, ranked, packed]) => {
      const x = hebenchNumbers(packed, Float64Array);
      const parts = places.map((i) =>
        ({mean: x[3 * i], standardError: x[3 * i + 1], clusters: x[3 * i + 2]}));
      const n = sum(parts.map((part) => Number.isNaN(part.mean)));
      return [slug, n ? {n} : {ranked, ...hebenchStats.macroMean(parts)}];
    }));
    const whole = [...found.keys()].filter((slug) => found.get(slug).ranked), M = whole.length;
    if (!M) return found;
    const total = new Float64Array(M * M), dofs = places.map((i) => units[i] - 1);
    const parts = keys.map((_, k) => {
      const {models, v} = pairs[k];
      const x = hebenchNumbers(v, Float32Array), at = whole.map((slug) => models.indexOf(slug));
      let part = 0;
      for (let i = 0; i < M * M; i++) {
        const [low, high] = [at[i % M], at[i / M | 0]].sort((a, b) => a - b);
        if (low === high) continue;
        const one = x[low * models.length - low * (low + 3) / 2 + high - 1] / keys.length ** 2;
        total[i] += one;
        part += one;
      }
      return part;
    });
    const all = sum(parts), least = Math.min(...dofs);
    const dof = all && least > 0 ? all ** 2 / sum(parts.map((x, k) => x * x / dofs[k])) : least;
    const ranks = hebenchStats.rankSets(whole.map((slug) => found.get(slug).mean), total, dof);
    whole.forEach((slug, i) => Object.assign(found.get(slug),
      {range: [...new Set([ranks.low[i], ranks.high[i]])].join("–"), best: ranks.pBest[i]}));
    return found;
  }

  function start(section) {
    const find = (query) => section.querySelector(query);
    const all = (query) => [...section.querySelectorAll(query)];
    const form = find("form"), table = find("table"), status = find("[role=status]");
    const {cols, sort, dir} = form.elements, field = (name) => form.elements.namedItem(name);
    const heads = [...table.tHead.rows[0].cells], boxes = all(".picker input");
    const rows = all("[data-slug]").map((tr) => ({tr, kind: tr.parentNode.dataset.kind,
      name: hebenchNormalise(tr.cells[1].textContent), built: [0, 2, 3].map((i) => tr.cells[i])}));
    const ends = all(".scale span"), scale = ends.map((end) => end.textContent / 100);
    const sheet = new CSSStyleSheet();
    let asked = 0;
    document.adoptedStyleSheets.push(sheet);

    // The state: elements with a name, and what the HTML says they are
    const now = (e) => (e.type === "checkbox" ? `${e.checked}` : e.value);
    const built = (e) => (e.type === "checkbox" ? `${e.defaultChecked}`
      : e.options ? e.options[0].value : e.defaultValue);

    function restore(state) {
      form.reset();
      for (const [name, wanted] of new URLSearchParams(state)) {
        const e = field(name);
        if (e?.type === "checkbox") e.checked = wanted === "true";
        else if (e) e.value = wanted;
        if (e === cols) choose(wanted.split(","));
      }
      update();
    }

    function save() {
      const changed = [...form].filter((e) => e.name && now(e) !== built(e));
      const state = new URLSearchParams(changed.map((e) => [e.name, now(e)]));
      history.replaceState(null, "", `#${section.id}&${state}`);
    }

    function choose(keys) { // a set of columns, with or without a name
      const known = boxes.map((box) => box.value).filter((key) => keys.includes(key)).join();
      cols.lastElementChild.value = known;
      cols.value = known || built(cols);
    }

    function update() {
      filter();
      columns();
    }

    function filter() {
      const is = (name) => field(name).value, q = hebenchNormalise(is("q"));
      const [min, max] = [is("min") * 1e9, is("max") * 1e9 || Infinity];
      const hides = {
        kind: (row) => !field(row.kind).checked,
        q: (row) => !row.name.includes(q),
        size: ({tr}) => is("min") + is("max") && !(value(tr.cells[4]) >= min && value(tr.cells[4]) <= max),
        licence: ({tr}) => is("licence") && is("licence") !== label(tr.cells[5]),
        open: ({tr}) => is("open") && is("open") !== tr.cells[6].dataset.v};
      const said = [], hidden = new Set();
      for (const name in hides) {
        const found = rows.filter(hides[name]);
        found.forEach((row) => hidden.add(row));
        if (found.length) said.push(text(`hides_${name}`, {n: found.length}));
      }
      for (const row of rows) row.tr.hidden = hidden.has(row);
      for (const {dataset: {kind}, rows: [first]} of table.tBodies) {
        if (first.className === "label") first.hidden = !field(kind).checked;
      }
      const n = rows.length - hidden.size;
      status.textContent = [text("rows", {n, all: rows.length}), ...said].join(" ");
    }

    function arrange() {
      const i = Math.max(0, heads.findIndex((head) => head.dataset.key === sort.value));
      const sign = dir.value === "d" ? -1 : 1, numeric = heads[i].className === "num";
      const keys = new Map(rows.map(({tr}) =>
        [tr, numeric ? parseFloat(numbers(tr.cells[i])[0]) : value(tr.cells[i]) || NaN]));
      heads.forEach((head, k) => {
        head.ariaSort = k !== i ? "none" : sign < 0 ? "descending" : "ascending";
      });
      for (const body of table.tBodies) {
        const own = rows.map((row) => row.tr).filter((tr) => tr.parentNode === body);
        body.append(...own.sort((a, b) => {
          const x = keys.get(a), y = keys.get(b), missing = (x !== x) - (y !== y);
          return missing || sign * (numeric ? x - y : order.compare(x, y)) || 0;
        }));
      }
    }

    async function columns() {
      const ask = ++asked, keys = cols.value.split(",");
      boxes.forEach((box) => { box.checked = keys.includes(box.value); });
      sheet.replaceSync(boxes.map((box, i) => (box.checked ? ""
        : `#${section.id} tr > :nth-child(${FIRST + 1 + i}) {display: none}`)).join(""));
      find(".chosen").textContent = cols.selectedOptions[0].text;
      const found = cols.selectedIndex > 0 && await standings(section.id, keys).catch((name) => {
        if (typeof name !== "string") throw name;
        status.textContent = text("failed", {name});
      });
      if (ask !== asked || found === undefined) return;
      write(found);
      arrange();
    }

    // Mean, rank and chance of each row; without results, as they were built
    function write(found) {
      const means = found ? [...found.values()].filter((x) => !x.n) : [];
      const low = found ? Math.floor(10 * Math.min(1, ...means.map((x) => x.low))) / 10 : scale[0];
      const high = found ? Math.ceil(10 * Math.max(0, ...means.map((x) => x.high))) / 10 : scale[1];
      [low, high].forEach((end, i) => { ends[i].textContent = Math.round(100 * end); });
      for (const {tr, built} of rows) {
        const cells = found ? made(found.get(tr.dataset.slug), low, 100 / (high - low)) : built;
        [0, 2, 3].forEach((i, k) => tr.cells[i].replaceWith(cells[k]));
      }
    }

    function made({n, mean, low, high, range = "–", best}, from, unit) {
      const [rank, chance] = [range, best === undefined ? "–" : likely(best)].map((shown) => {
        const td = document.createElement("td");
        td.className = "num";
        td.textContent = shown;
        return td;
      });
      if (best !== undefined) chance.dataset.v = best;
      const td = find("template").content.firstElementChild.cloneNode(!n);
      td.dataset.v = n ? "" : mean;
      if (n) td.textContent = text("lacks", {n});
      else {
        const [bold, interval, svg] = td.children, [band, mark] = svg.children;
        bold.textContent = percent(mean);
        interval.textContent = `[${percent(low)}, ${percent(high)}]`;
        band.setAttribute("x", unit * (low - from));
        band.setAttribute("width", unit * (high - low));
        mark.setAttribute("x", unit * (mean - from));
      }
      return [rank, td, chance];
    }

    function csv() {
      const shown = heads.map((_, i) => i).filter((i) => i < FIRST || boxes[i - FIRST].checked);
      const score = (i) => i === 2 || i >= FIRST;
      const plain = (list) => list.map((x) => `"${x.replace(/[\u2066-\u2069]/g, "")
        .replace(/^[=+\-@]/, "'$&").replace(/"/g, '""')}"`).join();
      const titles = shown.flatMap((i) => [label(heads[i]), ...(score(i)
        ? ["low", "high"].map((key) => text(key, {name: label(heads[i])})) : [])]);
      const lines = [...table.rows].filter((tr) => tr.dataset.slug && !tr.hidden).map((tr) =>
        shown.flatMap((i) => (score(i) ? [0, 1, 2].map((k) => numbers(tr.cells[i])[k] || "")
          : [label(tr.cells[i])])));
      const link = document.createElement("a");
      const content = ["\ufeff" + [titles, ...lines].map(plain).join("\r\n")];
      link.href = URL.createObjectURL(new Blob(content, {type: "text/csv"}));
      link.download = "hebench.csv";
      link.click();
    }

    const acts = {csv,
      copy: () => navigator.clipboard.writeText(location.href).then(
        () => { status.textContent = text("copied"); },
        () => { status.textContent = text("not_copied"); }),
      reset: () => { restore(""); save(); }};

    section.addEventListener("click", ({target}) => {
      acts[target.dataset.do]?.();
      if (target.className !== "sort needs-js") return;
      const {key} = target.parentNode.dataset, numeric = target.parentNode.className === "num";
      dir.value = sort.value === key ? (dir.value === "d" ? "a" : "d")
        : numeric && key !== "rank" ? "d" : "a";
      sort.value = key;
      arrange();
      save();
    });
    form.addEventListener("input", ({target}) => {
      if (boxes.includes(target)) choose(boxes.filter((b) => b.checked).map((b) => b.value));
      update();
      save();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    tracks.set(section.id, restore);
  }

  function go() {
    const [id, ...state] = location.hash.slice(1).split("&"), [first] = tracks.keys();
    if (shown && !tracks.has(id)) return; // an anchor on the page
    shown = tracks.has(id) ? id : first;
    for (const track of tracks.keys()) document.getElementById(track).hidden = track !== shown;
    for (const tab of document.querySelectorAll(".tabs a")) {
      tab.ariaCurrent = tab.hash === `#${shown}` ? "true" : null;
    }
    tracks.get(shown)(state.join("&"));
  }

  let shown;
  document.querySelectorAll(".track").forEach(start);
  addEventListener("hashchange", go);
  go();
})();
