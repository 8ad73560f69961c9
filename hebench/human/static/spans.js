// Marking parts of an answer with the mouse or a finger. A mark is a check box like those of the
// sentences, so that it can be taken off, reached with the keyboard, and sent by a plain form.

// Where a point of the page stands in the original text, in code points. A character that is
// shown as its code (class control) is one.
function placeOf(node, offset) {
  const block = (node.nodeType === 1 ? node : node.parentElement).closest("[data-at]");
  if (!block) return null;
  const range = document.createRange();
  range.setStart(block, 0);
  range.setEnd(node, offset);
  const before = range.cloneContents();
  for (const control of before.querySelectorAll(".control")) control.textContent = "x";
  return Number(block.dataset.at) + [...before.textContent].length;
}

// The part of a text between two such places.
function rangeOf(text, start, end) {
  const range = document.createRange();
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  let block = null, at = 0, begun = false;
  for (let node; (node = walker.nextNode());) {
    const own = node.parentElement.closest("[data-at]");
    if (!own) continue;
    if (own !== block) [block, at] = [own, Number(own.dataset.at)];
    const control = node.parentElement.closest(".control");
    const signs = control ? [node.data] : [...node.data], next = at + signs.length;
    const offset = (place) => signs.slice(0, place - at).join("").length;
    if (!begun && start < next) {
      range.setStart(node, offset(Math.max(start, at)));
      begun = true;
    }
    if (at < end) range.setEnd(node, offset(Math.min(end, next)));
    at = next;
  }
  return range;
}

// The chosen part of a text: [start, end, words], or nothing.
function chosenIn(text) {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0).cloneRange();
  if (!range.intersectsNode(text)) return null;
  if (!text.contains(range.startContainer)) range.setStart(text.querySelector("[data-at]"), 0);
  if (!text.contains(range.endContainer)) {
    const last = [...text.querySelectorAll("[data-at]")].at(-1);
    range.setEnd(last, last.childNodes.length);
  }
  const start = placeOf(range.startContainer, range.startOffset);
  const end = placeOf(range.endContainer, range.endOffset);
  return start !== null && end !== null && start < end ? { start, end, range } : null;
}

// Prepares a page with a text to mark; gives a function that marks `start-end`, as boxes name it.
export function markable(item) {
  const text = item.querySelector("[data-mark]");
  if (!text) return;
  const marks = item.querySelector("[data-marks]");
  const button = item.querySelector("[data-mark-selection]");
  const ranges = new Map(); // check box -> what it marks
  const paint = () => {
    if (!CSS.highlights) return;
    const on = [...ranges].filter(([box]) => box.checked).map(([, range]) => range);
    CSS.highlights.set("marked", new Highlight(...on));
  };
  const add = (value, range) => {
    const known = [...item.querySelectorAll("[name=span]")].find((box) => box.value === value);
    if (known) known.checked = true;
    else {
      const line = document.createElement("li"), label = document.createElement("label");
      const box = document.createElement("input"), words = document.createElement("bdi");
      Object.assign(box, { type: "checkbox", name: "span", value, checked: true });
      label.className = "choice";
      words.append(range.cloneContents());
      label.append(box, words);
      line.append(label);
      marks.append(line);
      ranges.set(box, range);
    }
    paint();
  };
  const mark = () => {
    const chosen = chosenIn(text);
    if (!chosen) return;
    add(`${chosen.start}-${chosen.end}`, chosen.range);
    getSelection().removeAllRanges();
    marks.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const ofValue = (value) => rangeOf(text, ...value.split("-").map(Number));
  for (const box of marks.querySelectorAll("[name=span]")) ranges.set(box, ofValue(box.value));
  button.addEventListener("click", mark);
  item.addEventListener("change", paint);
  item.addEventListener("mark", mark);
  paint();
  return (value) => add(value, ofValue(value));
}
