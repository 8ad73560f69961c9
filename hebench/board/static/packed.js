// What the pages' scripts share: scores as packed.py packs them, text as hebrew.py
// normalises it, the view in the URL's hash, and templates of the page to fill.
"use strict";

// n scores: bits, or 32-bit numbers, of which seven decimals hold.
function hebenchScores(packed, n) {
  const data = packed.slice(1);
  if (packed[0] === "f") {
    return hebenchNumbers(data, Float32Array).reduce(
      (all, x, i) => { all[i] = Math.round(x * 1e7) / 1e7; return all; }, new Float64Array(n));
  }
  const bytes = hebenchNumbers(data, Uint8Array);
  return new Float64Array(n).map((_, i) => bytes[i >> 3] >> (i & 7) & 1);
}

// Profile "hebrew": no invisibles, points or quotation marks, no final letters, words only.
const hebenchNormalise = (text) => text.normalize("NFKC")
  .replace(/[\xad\u061c\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g, "")
  .replace(/[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7'`‘’‛′׳"“”„‟″״]/g, "")
  .replace(/[ךםןףץ]/g, (letter) => String.fromCharCode(letter.charCodeAt(0) + 1))
  .toLowerCase().replace(/[\p{P}\p{S}\s]+/gu, " ").trim();

// For each item, whether its text or id holds the query.
function hebenchFound({ids, text}, query) {
  const wanted = hebenchNormalise(query);
  return ids.map((id, i) => `${hebenchNormalise(id)} ${text ? text[i] : ""}`.includes(wanted));
}

// The view: fields' values by id, in the hash and back.
const hebenchHash = (view) =>
  "#" + new URLSearchParams(Object.entries(view).filter(([, value]) => value));

const hebenchView = (fields) => Object.fromEntries(Array.from(fields, (field) =>
  [field.id, field.type === "checkbox" ? +field.checked : field.value]));

function hebenchRestore(fields) {
  const view = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  for (const field of fields) {
    if (field.type === "checkbox") field.checked = field.id in view;
    else field.value = view[field.id] || "";
    if (field.selectedIndex < 0) field.value = ""; // a choice that the page does not have
  }
  return view;
}

// In percent with one decimal, halves as Python rounds them.
const hebenchPercent = (share) => (Number.isNaN(share) ? "–"
  : (100 * share - (100 * share % 1 === 0.25) / 99).toFixed(1));

// A filled copy of a template: data-append names what an element holds, other data an attribute.
function hebenchFill(id, values) {
  const copy = document.getElementById(id).content.cloneNode(true);
  for (const slot of copy.querySelectorAll("*")) {
    for (const [name, key] of Object.entries(slot.dataset)) {
      if (name === "append") slot.append(...[values[key]].flat());
      else if (values[key] !== undefined) slot.setAttribute(name, values[key]);
    }
  }
  return copy;
}
