// Paired tests of the reader's choice of models, columns and items, as paired.py makes them.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id), text = hebenchText, fill = hebenchFill;
  const form = byId("compare"), filters = ["q", "cluster", "differ"].map(byId);
  const all = (selector) => [...form.querySelectorAll(selector)];
  const options = Object.fromEntries(all("option").map((option) => [option.value, option]));
  const name = (slug) => options[slug].label;
  const part = (slug) => options[slug].closest("[data-track]"); // its track's controls
  const TESTS = ["McNemar", "cluster", "paired", "macro", "one"]; // parts of the tests' names
  let chosen = [], turn = 0; // slugs, the reference first

  // A column's scores, NaN in all of them where one was not judged or a filter leaves the item out.
  // more: for each model, whether its items' page would list others beside: it knows of two models
  // and of no cluster.
  async function read({key, n, codes}, files, {q, cluster, differ}) {
    const scores = files.map((file) => hebenchScores(file[key], n)), [first] = scores;
    const units = codes && hebenchNumbers(codes.slice(1), codes[0] < 3 ? Uint16Array : Uint32Array);
    const found = q && hebenchFound(await hebenchLoad(`items/${key}`), q);
    const more = scores.map(() => false);
    for (let i = 0; i < n; i++) {
      const kept = scores.every((of) => !Number.isNaN(of[i])) && (!found || found[i]) &&
        (!cluster || (units ? units[i] : i) === cluster - 1) &&
        (!differ || scores.some((of) => of[i] !== first[i]));
      if (kept) continue;
      const reference = first[i], listed = !Number.isNaN(reference) && (!found || found[i]);
      scores.forEach((of, m) => {
        more[m] ||= listed && !Number.isNaN(of[i]) && of[i] !== reference;
        of[i] = NaN;
      });
    }
    return {key, scores, units, more};
  }

  // The reference against model b: a result for each column, the mean over them last.
  function pair(columns, b) {
    const rows = columns.map(({key, scores, units, more}) =>
      ({key, b, listed: !more[b], ...hebenchStats.pairedDifference(scores[0], scores[b], units)}));
    const judged = rows.filter((row) => row.n);
    if (judged.length < 2) return rows;
    const total = (field) => judged.reduce((sum, row) => sum + row[field], 0);
    const mean = {b, ...hebenchStats.macroDifference(judged), test: "macro"};
    for (const field of ["n", "clusters", "better", "worse", "equal"]) mean[field] = total(field);
    for (const field of ["meanA", "meanB"]) mean[field] = total(field) / judged.length;
    return [...rows, mean];
  }

  const title = (key) => (key ? byId(key).parentNode.textContent.trim() : text("compare.all"));
  const points = (x) => (x < 0 ? "−" : "+") + hebenchPercent(Math.abs(x));
  const chance = (p) => (p < 0.001 ? "<0.001" : p.toFixed(3));

  function line({key, b, listed, ...row}, scale, q) {
    if (!row.n) return fill("none", {title: title(key)});
    const x = (value) => 60 + 59 * value / scale, missed = hebenchPercent(row.detectable);
    const link = (only) => !key || !listed ? undefined :
      document.body.dataset.home + `items/${key}/1.html` +
      hebenchHash({q, a: chosen[0], b: chosen[b], only});
    return fill("line", {
      ...row, missed, title: title(key), won: link("better"), lost: link("worse"),
      meanA: hebenchPercent(row.meanA), meanB: hebenchPercent(row.meanB),
      difference: points(row.difference), interval: `[${points(row.low)}, ${points(row.high)}]`,
      band: `M${x(row.low)} 4H${x(row.high)}V10H${x(row.low)}`,
      mark: `M${x(row.difference) - 1} 1h2v12h-2`,
      p: chance(row.p), holm: chance(row.holm),
      verdict: row.clusters < 2 ? "" : row.holm < 0.05
        ? text(row.difference > 0 ? "compare.a" : "compare.b")
        : text("compare.unseen", {points: missed}),
      test: text("compare." + TESTS.find((test) => row.test.includes(test))),
    });
  }

  function draw(columns, q, lost) {
    const pairs = chosen.slice(1).map((_, i) => pair(columns, i + 1));
    const tests = pairs.flat().filter((row) => row.n), a = name(chosen[0]);
    hebenchStats.holm(tests.map((row) => row.p)).forEach((p, i) => { tests[i].holm = p; });
    const scale = Math.max(...tests.flatMap((row) => [-row.low, row.high]));
    const parts = pairs.map((rows, i) => fill("pair", {
      head: text("compare.pair", {a, b: name(chosen[i + 1])}),
      rows: rows.map((row) => line(row, scale, q)),
    }));
    if (pairs.length > 1) parts.push(fill("means", {
      head: pairs[0].map(({key}) => fill("head", {title: title(key)})),
      rows: chosen.map((slug, m) => fill("model", {
        title: name(slug),
        cells: pairs[m && m - 1].map((row) =>
          fill("cell", {mean: hebenchPercent(m ? row.meanB : row.meanA)})),
      })),
    }));
    byId("result").replaceChildren(...parts);
    byId("family").textContent =
      text(tests.length ? "compare.family" : "compare.choose", {n: tests.length}) +
      (lost ? ` ${text("compare.lost", {n: lost})}` : "");
  }

  async function show() {
    const now = ++turn, view = hebenchView(filters), own = part(chosen[0]);
    const keys = [...own.querySelectorAll(":checked")].map((box) => box.id);
    history.replaceState(null, "", hebenchHash({models: chosen, columns: keys, ...view}));
    for (const other of all("[data-track]")) other.hidden = other !== own;
    for (const tab of all("nav a")) tab.ariaCurrent = tab.id === `to-${own.dataset.track}` || null;
    const focused = document.activeElement.name; // what is drawn anew loses it
    byId("chosen").replaceChildren(...chosen.map((slug, i) => fill("choice", {
      slug,
      name: name(slug),
      checked: i ? undefined : "",
      drop: text("compare.drop", {a: name(slug)}),
    })));
    if (focused === "first") byId("chosen").querySelector("input").focus();
    if (focused === "drop") own.querySelector("[name=add]").focus();
    const [columns, ...files] = await Promise.all(
      ["columns", ...chosen.map((slug) => `scores/${slug}`)].map(hebenchLoad));
    const wanted = columns.filter(({key}) => keys.includes(key));
    const shared = wanted.filter(({key}) => files.every((file) => key in file));
    const found = await Promise.all(shared.map((column) => read(column, files, view)));
    if (now === turn) draw(found, view.q, wanted.length - shared.length);
  }

  // The view of the hash; what it does not say is as the page was made: two models, first columns.
  function restore() {
    const {models, columns} = hebenchRestore(filters);
    const known = (models || "").split(",").filter((slug) => options[slug]?.label);
    const own = part(known[0] || Object.keys(options)[0]);
    chosen = known.filter((slug) => part(slug) === own);
    for (const option of own.querySelectorAll("option")) {
      if (chosen.length < 2 && !chosen.includes(option.value)) chosen.push(option.value);
    }
    for (const box of own.querySelectorAll("[type=checkbox]")) {
      box.checked = columns ? columns.split(",").includes(box.id) : box.defaultChecked;
    }
    show();
  }

  form.addEventListener("input", ({target: {name, value}}) => {
    if (name === "add") return; // not while a reader types
    if (name === "first") chosen = [value, ...chosen.filter((slug) => slug !== value)];
    show();
  });
  form.addEventListener("change", ({target}) => {
    const known = target.name === "add" && options[target.value]?.label;
    if (!known || part(target.value) !== part(chosen[0])) return;
    chosen = [...new Set([...chosen, target.value])];
    target.value = "";
    show();
  });
  form.addEventListener("click", ({target: {name, value}}) => {
    if (name === "drop" && chosen.length > 2) chosen = chosen.filter((slug) => slug !== value);
    else if (name !== "preset") return;
    for (const box of part(chosen[0]).querySelectorAll("[type=checkbox]")) {
      if (name === "preset") box.checked = value.split(" ").includes(box.id);
    }
    show();
  });
  addEventListener("hashchange", restore);
  restore();
})();
