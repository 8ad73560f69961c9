// The main table: sort, search, filter, choose columns. The state is the track's form; what differs
// from the HTML stands in the URL's hash: #base&q=dicta&sort=size.
"use strict";
(() => {
  const FIRST = 8, SCORED = [0, 2, 3]; // cells before those of tasks; of rank, mean, chance
  const order = new Intl.Collator(document.documentElement.lang, {numeric: true});
  const text = (key, values) => hebenchText(`table.${key}`, values);
  const label = (cell) => (cell.querySelector("a, span, bdi") || cell).textContent.trim();
  const value = (cell) => cell.dataset.v ?? label(cell);
  const numbers = (text) => text.match(/[\d.]+/g) || [];
  const sum = (list) => list.reduce((total, x) => total + x, 0);
  const likely = (p) => { // as show.chance
    const whole = Math.floor(100 * p + 0.5 + 1e-9);
    return whole < 1 ? "<1%" : whole > 99 ? ">99%" : `${whole}%`;
  };

  // Means and ranks over columns, as standings.ranking: Map of slug -> result.
  async function standings(track, keys) {
    const [board, ...pairs] = await Promise.all([hebenchLoad("board"),
      ...keys.map((key) => hebenchLoad(`pairs/${key}`)), hebenchScript("assets/stats.js")]);
    const {columns, units, rows} = board[track], places = keys.map((key) => columns.indexOf(key));
    const found = new Map(rows.map(([slug, ranked, packed]) => {
      const x = hebenchNumbers(packed, Float64Array), parts = places.map((i) =>
        ({mean: x[3 * i], standardError: x[3 * i + 1], clusters: x[3 * i + 2]}));
      const n = sum(parts.map(({mean}) => Number.isNaN(mean)));
      return [slug, n ? {n} : {ranked, ...hebenchStats.macroMean(parts)}];
    }));
    const whole = [...found.keys()].filter((slug) => found.get(slug).ranked), M = whole.length;
    if (!M) return found;
    const total = new Float64Array(M * M), dofs = places.map((i) => units[i] - 1);
    const parts = keys.map((_, k) => {
      const {models, v} = pairs[k], x = hebenchNumbers(v, Float32Array);
      const at = whole.map((slug) => models.indexOf(slug));
      return sum(total.map((_, i) => {
        const [low, high] = [at[i % M], at[i / M | 0]].sort((a, b) => a - b);
        const part = low === high ? 0
          : x[low * models.length - low * (low + 3) / 2 + high - 1] / keys.length ** 2;
        total[i] += part;
        return part;
      }));
    });
    const all = sum(parts), least = Math.min(...dofs);
    const dof = all && least > 0 ? all ** 2 / sum(parts.map((x, k) => x * x / dofs[k])) : least;
    const ranks = hebenchStats.rankSets(whole.map((slug) => found.get(slug).mean), total, dof);
    whole.forEach((slug, i) => Object.assign(found.get(slug), {best: ranks.pBest[i],
      range: [...new Set([ranks.low[i], ranks.high[i]])].join("–")}));
    return found;
  }

  function start(section) {
    const find = (query) => section.querySelector(query);
    const all = (query) => [...section.querySelectorAll(query)];
    const form = find("form"), table = find("table"), status = find("[role=status]");
    const {cols, sort, dir} = form.elements, field = (name) => form.elements.namedItem(name);
    const heads = [...table.tHead.rows[0].cells], boxes = all(".picker input");
    const rows = all("[data-slug]").map((tr) => ({tr, kind: tr.parentNode.dataset.kind,
      name: hebenchNormalise(tr.cells[1].textContent), built: SCORED.map((i) => tr.cells[i])}));
    const ends = all(".scale span"), scale = ends.map((end) => end.textContent / 100);
    const sheet = new CSSStyleSheet();
    let drawn; // columns that are shown
    document.adoptedStyleSheets.push(sheet);

    const now = (e) => (e.type === "checkbox" ? `${e.checked}` : e.value);
    const initial = (e) => (e.type === "checkbox" ? `${e.defaultChecked}`
      : e.options ? e.options[0].value : e.defaultValue);

    function restore(state) {
      form.reset();
      drawn = undefined; // the columns' boxes went back, too
      for (const [name, wanted] of new URLSearchParams(state)) {
        const e = field(name);
        if (e === cols) choose(wanted.split(","));
        else if (e?.type === "checkbox") e.checked = wanted === "true";
        else if (e) e.value = wanted;
      }
      update();
    }

    function save() {
      const state = [...form].filter((e) => e.name && now(e) !== initial(e));
      history.replaceState(null, "", `#${section.id}&` +
        new URLSearchParams(state.map((e) => [e.name, now(e)])));
    }

    function choose(keys) { // columns that may have no name as a set
      const known = boxes.map((box) => box.value).filter((key) => keys.includes(key)).join();
      cols.lastElementChild.value = known;
      cols.value = known || initial(cols);
    }

    function update() {
      filter();
      if (drawn === cols.value) arrange();
      else columns(drawn = cols.value);
    }

    function filter() {
      const [q, min, max, licence, open] = ["q", "min", "max", "licence", "open"]
        .map((name) => field(name).value);
      const words = hebenchNormalise(q), hides = {};
      let n = 0;
      for (const {tr, kind, name} of rows) {
        const is = (i) => value(tr.cells[i]), reasons = Object.entries({
          kind: !field(kind).checked,
          q: !name.includes(words),
          size: min + max && !(is(4) >= min * 1e9 && is(4) <= (max || Infinity) * 1e9),
          licence: licence && licence !== is(5),
          open: open && open !== is(6)}).filter(([, hidden]) => hidden);
        for (const [reason] of reasons) hides[reason] = (hides[reason] || 0) + 1;
        tr.hidden = reasons.length > 0;
        n += !tr.hidden;
      }
      for (const first of all(".label")) {
        first.hidden = !field(first.parentNode.dataset.kind).checked;
      }
      const off = boxes.length - cols.value.split(",").length;
      status.textContent = [text("rows", {n, all: rows.length}),
        ...Object.keys(hides).map((name) => text(`hides_${name}`, {n: hides[name]})),
        off ? text("columns", {n: off}) : ""].join(" ").trim();
    }

    function arrange() {
      const i = Math.max(0, heads.findIndex((head) => head.dataset.key === sort.value));
      const sign = dir.value === "d" ? -1 : 1, numeric = heads[i].className === "num";
      const keys = new Map(rows.map(({tr, tr: {cells: {[i]: cell}}}) => [tr, numeric
        ? parseFloat(numbers(cell.dataset.v ?? cell.textContent)[0])
        : value(cell).replace(/^–$/, "") || NaN]));
      heads.forEach((head, k) => {
        head.ariaSort = k !== i ? null : sign < 0 ? "descending" : "ascending";
      });
      for (const body of table.tBodies) {
        const own = rows.map(({tr}) => tr).filter((tr) => tr.parentNode === body);
        body.append(...own.sort((a, b) => {
          const x = keys.get(a), y = keys.get(b), missing = Number.isNaN(x) - Number.isNaN(y);
          return missing || sign * (numeric ? x - y : order.compare(x, y)) || 0;
        }));
      }
    }

    async function columns(chosen) {
      const keys = chosen.split(",");
      for (const box of boxes) box.checked = keys.includes(box.value);
      sheet.replaceSync(boxes.map((box, i) => (box.checked ? ""
        : `#${section.id} tr > :nth-child(${FIRST + 1 + i}) {display: none}`)).join(""));
      find(".chosen").textContent = cols.selectedOptions[0].text;
      const found = cols.selectedIndex > 0 && await standings(section.id, keys).catch((name) => {
        if (typeof name !== "string") throw name;
        status.textContent = text("failed", {name});
      });
      if (drawn !== chosen || found === undefined) return;
      write(found);
      arrange();
    }

    function write(found) { // without results: as it was built
      const means = found ? [...found.values()].filter((x) => !x.n) : [];
      const [low, high] = !means.length ? scale
        : [Math.floor(10 * Math.min(...means.map((x) => x.low))) / 10,
          Math.ceil(10 * Math.max(...means.map((x) => x.high))) / 10];
      ends[0].textContent = Math.round(100 * low);
      ends[1].textContent = Math.round(100 * high);
      for (const {tr, built} of rows) {
        const cells = found ? made(found.get(tr.dataset.slug), low, 100 / (high - low)) : built;
        SCORED.forEach((i, k) => tr.cells[i].replaceWith(cells[k]));
      }
    }

    function made({n, mean, low, high, range, best}, from, unit) {
      const cell = find("template").content.firstElementChild.cloneNode(!n);
      const [rank, chance] = [range, range && likely(best)].map((shown) => {
        const td = document.createElement("td");
        td.className = "num";
        td.textContent = shown || "–";
        return td;
      });
      chance.dataset.v = best ?? "";
      cell.dataset.v = mean ?? "";
      if (n) cell.textContent = text("lacks", {n});
      else {
        const [bold, interval, svg] = cell.children, [band, mark] = svg.children;
        bold.textContent = hebenchPercent(mean);
        interval.textContent = `[${hebenchPercent(low)}, ${hebenchPercent(high)}]`;
        band.setAttribute("x", unit * (low - from));
        band.setAttribute("width", unit * (high - low));
        mark.setAttribute("x", unit * (mean - from));
      }
      return [rank, cell, chance];
    }

    function csv() {
      const shown = heads.map((_, i) => i).filter((i) => i < FIRST || boxes[i - FIRST].checked);
      const score = (i) => i === 2 || i >= FIRST;
      const line = (list) => list.map((x) => `"${x.replace(/[\u2066-\u2069]/g, "")
        .replace(/^[=+\-@＝＋－＠]/, "'$&").replace(/"/g, '""')}"`).join();
      const titles = shown.flatMap((i) => [label(heads[i]), ...(score(i) ? ["low", "high"] : [])
        .map((key) => text(key, {name: label(heads[i])}))]);
      const three = ({dataset, textContent}) => // none where the text is that there is no score
        [0, 1, 2].map((k) => (dataset.v !== "" && numbers(textContent)[k]) || "");
      const lines = [...table.rows].filter((tr) => tr.dataset.slug && !tr.hidden).map(({cells}) =>
        shown.flatMap((i) => (score(i) ? three(cells[i]) : label(cells[i]))));
      const link = document.createElement("a"), content = [titles, ...lines].map(line).join("\r\n");
      link.href = URL.createObjectURL(new Blob(["\ufeff", content], {type: "text/csv"}));
      link.download = "hebench.csv";
      link.click();
    }

    const acts = {csv,
      copy: async () => {
        const done = await navigator.clipboard?.writeText(location.href).then(() => 1, () => 0);
        status.textContent = text(done ? "copied" : "not_copied");
      },
      reset: () => restore("")};
    section.addEventListener("click", ({target: {dataset, classList, parentNode: head}}) => {
      if (!dataset.do && !classList.contains("sort")) return;
      if (dataset.do) acts[dataset.do]();
      else {
        const {key} = head.dataset, down = head.className === "num" && key !== "rank";
        dir.value = (sort.value === key ? dir.value === "a" : down) ? "d" : "a";
        sort.value = key;
        arrange();
      }
      save();
    });
    form.addEventListener("input", ({target}) => {
      if (boxes.includes(target)) choose(boxes.filter((b) => b.checked).map((b) => b.value));
      update();
      save();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    return [section, restore];
  }

  let open; // the track that is shown
  function go() {
    const [id, ...state] = location.hash.slice(1).split("&");
    const asked = tracks.find(([{id: own}]) => own === id);
    if (open && id && !asked) return; // an anchor on the page
    open = asked || tracks[0];
    for (const [section] of tracks) section.hidden = section !== open[0];
    for (const tab of document.querySelectorAll(".tabs a")) {
      tab.ariaCurrent = tab.hash === `#${open[0].id}` ? "true" : null;
    }
    open[1](asked ? state.join("&") : "");
  }

  const tracks = [...document.querySelectorAll(".track")].map(start);
  addEventListener("hashchange", go);
  go();
})();
