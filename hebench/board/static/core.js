// What every script needs: strings and data files. All scripts are classic: file: knows no modules.
"use strict";
document.documentElement.classList.add("js");
const hebenchStore = {}, hebenchAsked = {};
const hebenchStrings = JSON.parse(document.getElementById("strings").textContent);

// Data files are scripts that call this: file: knows no fetch.
function hebenchData(name, payload) {
  hebenchStore[name] = payload;
}

// Promise of a script of the site, loaded once; rejected with its path.
function hebenchScript(path) {
  return (hebenchAsked[path] ||= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.root + path;
    script.onload = resolve;
    script.onerror = () => reject(path);
    document.head.append(script);
  }));
}

// Promise of the payload of data/<name>.js.
async function hebenchLoad(name) {
  await hebenchScript(`data/${name}.js`);
  return hebenchStore[name];
}

// A string in the page's language; `n` chooses the plural form. Values that are more than a number
// stand in isolates.
function hebenchText(key, values = {}) {
  const found = hebenchStrings[key];
  const text = found.other ? found[{1: "one", 2: "two"}[values.n]] || found.other : found;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name].toLocaleString("en");
    return /^[\d.,]*$/.test(value) ? value : `\u2068${value}\u2069`;
  });
}

// base64 of little-endian numbers, as all browsers' machines hold them.
function hebenchNumbers(base64, Type) {
  return new Type(Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)).buffer);
}

// The language switch keeps what the reader has set up.
for (const type of ["click", "auxclick", "contextmenu"]) {
  document.addEventListener(type, ({target}) => {
    const link = target.closest("[data-keep-state]");
    if (link) link.hash = location.hash;
  }, true);
}
