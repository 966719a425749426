/* The gallery page. What comes from the tables is inserted as text, never as markup.

   Its two views are grids of items: an item of "photos" is a photo, an item of "crops" a box that has,
   or should have, a crop. The form `controls` holds the view, filters and order. */
"use strict";

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const percent = (share) => `${(100 * share).toFixed(share > 0.995 && share < 1 ? 1 : 0)} %`;
const controls = $("controls");
const inCrops = () => controls.view.value === "crops";

/* ---- Elements ---- */

/** Make an element. Children that are strings become text. */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Make a link, or plain text if the address is not one of the web, such as javascript:. */
function link(text, address) {
  const content = make("bdi", {}, text || address || "not recorded");
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return content;
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, content);
}

function colored(className, category) {
  const node = make("span", { className });
  node.style.setProperty("--color", color.get(category));
  return node;
}

/** Make the name of a category beside its colour. */
const named = (category) => make("span", {}, colored("swatch", category), make("bdi", {}, category));

/** Make the words in place of a photo or crop that does not exist. */
const absent = (what, why) => make("span", { className: "absent" }, make("strong", {}, what), " ", make("bdi", {}, why));

/** Make an image, or words if its file is missing: a package need not hold the photos. */
function image(path, alt) {
  const node = make("img", { alt, decoding: "async", draggable: false });
  node.onerror = () => node.replaceWith(absent("missing", "The file is not beside this page."));
  node.src = path.split("/").map(encodeURIComponent).join("/");
  return node;
}

/** Keep a text for this page in the browser, or return the one kept; a browser may refuse. */
function stored(text) {
  const key = `openimager marks ${location.pathname}`;
  try {
    return text === undefined ? localStorage.getItem(key) : localStorage.setItem(key, text);
  } catch {
    return null;
  }
}

/* ---- The tables ---- */

/** Return the rows of a table that is stored by column; repeated text is stored as codes. */
function rows(table) {
  const columns = Object.entries(table).map(([name, cells]) =>
    [name, cells.codes ? cells.codes.map((code) => cells.values[code]) : cells]);
  return Array.from(columns[0][1], (_, i) => Object.fromEntries(columns.map(([name, cells]) => [name, cells[i]])));
}

const data = JSON.parse($("data").textContent);
const photos = rows(data.photos);
for (const photo of photos) {
  const sides = [photo.Width || 4, photo.Height || 3];
  const [width, height] = photo.Rotation % 180 ? sides.reverse() : sides;
  const words = `${photo.ImageID} ${photo.Title} ${photo.Author}`.toLowerCase();
  Object.assign(photo, { photo, boxes: [], words, pixels: width * height, aspect: width / height });
}
const boxes = rows(data.boxes);
for (const box of boxes) {
  const photo = photos[box.Photo];
  const answer = box.Predicted && (box.Predicted === box.Category ? "right" : "wrong");
  Object.assign(box, { photo, answer, key: `${photo.ImageID},${box.n}`, aspect: 1, share: box.W * box.H });
  photo.boxes.push(box);
}
const crops = boxes.filter((box) => box.Folder || box.CropError);
const predicted = crops.some((box) => box.Predicted);
const marks = new Set(JSON.parse(stored() ?? "[]"));
const COLORS = ["#2f9bff", "#ffa51f", "#19c37d", "#f283d0", "#6fd3ff", "#ff6a3d", "#ffe14d", "#a98bff"];
const color = new Map(data.categories.map((name, k) => [name, COLORS[k] ?? `hsl(${k * 137.5} 85% 62%)`]));

/* ---- Filters ---- */

// Filters are asked about boxes, so a photo without one has an empty entry.
const entries = photos.flatMap((photo) => (photo.boxes.length ? photo.boxes : [{ photo, empty: true }]));
const SUBSETS = ["train", "validation", "test"];
const STATES = ["yes", "no", "unknown"];
const SHARES = [[0.01, "under 1 %"], [0.1, "1 to 10 %"], [0.5, "10 to 50 %"], [Infinity, "over 50 %"]];

/** Make a filter. `order` lists the values that come first; `all` shows those that do not occur, too. */
function facet(key, label, order, { box, photo, all }) {
  const value = (entry) => (photo ? photo(entry.photo) : entry.empty ? "" : box(entry)) || "";
  const used = new Set(entries.map(value));
  const values = [...new Set([...order, ...used])].filter((each) => each && (all || used.has(each)));
  const parts = values.map((each) => {
    const input = make("input", { type: "checkbox", name: key, value: each });
    const count = make("span", { className: "count" });
    const text = key === "category" ? named(each) : make("bdi", {}, each);
    return { value: each, input, count, label: make("label", {}, input, text, " ", count) };
  });
  const node = make("fieldset", {}, make("legend", {}, label), make("div", {}, ...parts.map((part) => part.label)));
  $("facets").append(node);
  return { key, value, parts, node };
}

const FACETS = [
  facet("category", "Category", data.categories, { box: (box) => box.Category }),
  facet("prediction", "Prediction", ["wrong", "right"], { box: (box) => box.answer || (predicted && "none") }),
  facet("predicted", "Predicted as", data.categories, { box: (box) => box.Predicted }),
  facet("suspect", "Suspect label", STATES, { box: (box) => box.Suspect }),
  facet("split", "Split", SUBSETS, { box: (box) => box.Split || "no crop" }),
  facet("subset", "Subset", SUBSETS, { photo: (photo) => photo.Subset }),
  facet("outcome", "Outcome", ["ok", "gone", "failed"], { photo: (photo) => photo.Status }),
  facet("source", "Photo from", [], { photo: (photo) => photo.Source || "nowhere" }),
  facet("boxsource", "Box source", [], { box: (box) => box.Source || "unknown" }),
  ...data.flags.map((flag, k) => facet(flag.slice(2).toLowerCase(), flag.slice(2), STATES,
    { all: true, box: (box) => ({ 0: "no", 1: "yes" })[box.Flags[k]] ?? "unknown" })),
  facet("boxsize", "Box size, share of the photo", SHARES.map(([, label]) => label),
    { box: (box) => SHARES.find(([limit]) => box.share < limit)[1] }),
  facet("duplicates", "Near-duplicates", ["some", "none"], { photo: (photo) => (photo.Group ? "some" : "none") }),
  facet("group", "Group of near-duplicates", [], { photo: (photo) => photo.Group }),
  facet("marked", "Marked as wrong", ["yes", "no"], { all: true, box: (box) => (marks.has(box.key) ? "yes" : "no") }),
];

/** Find what passes every filter; count each value under all filters but those of its own facet. */
function match() {
  const text = controls.q.value.toLowerCase();
  const [items, matching] = [new Set(), new Set()];
  for (const each of FACETS) {
    each.chosen = new Set(each.parts.filter(({ input }) => input.checked).map(({ value }) => value));
    each.counts = new Map(each.parts.map(({ value }) => [value, { items: 0, last: null }]));
  }
  for (const entry of entries) {
    const item = inCrops() ? entry : entry.photo;
    if ((item === entry && !entry.Folder && !entry.CropError) || !entry.photo.words.includes(text)) continue;
    const missed = FACETS.filter((each) => each.chosen.size && !each.chosen.has(each.value(entry)));
    if (missed.length > 1) continue;
    for (const each of missed.length ? missed : FACETS) {
      const count = each.counts.get(each.value(entry));
      if (count && count.last !== item) Object.assign(count, { items: count.items + 1, last: item });
    }
    if (!missed.length) items.add(item) && matching.add(entry);
  }
  return { items: [...items], matching };
}

const rank = { wrong: 0, right: 1, "": 2 };
const SORTS = {
  ImageID: () => 0,
  "most boxes": (a, b) => b.boxes.length - a.boxes.length,
  "largest photo": (a, b) => b.pixels - a.pixels,
  "smallest box": (a, b) => a.share - b.share,
  "confident errors first": (a, b) => rank[a.answer] - rank[b.answer] ||
    (a.answer === "wrong" ? b.Probability - a.Probability : a.Probability - b.Probability),
  "least confident first": (a, b) => (a.Probability ?? 2) - (b.Probability ?? 2),
};

/* ---- State: the form and the open photo, kept in the address's fragment so that it can be shared ---- */

if (!predicted) $("sort-crops").querySelectorAll("[data-predicted]").forEach((option) => option.remove());
const DEFAULTS = new FormData(controls);
const state = { items: [], matching: new Set(), current: 0, open: null };

function readFragment() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const control of controls.elements) {
    if (!control.name) continue;
    const values = kept.has(control.name) ? kept.getAll(control.name) : [DEFAULTS.get(control.name)];
    if (control.matches("[type=checkbox], [type=radio]")) control.checked = values.includes(control.value);
    else control.value = values[0];
  }
  state.open = [...photos, ...crops].find((item) => (item.key ?? item.ImageID) === kept.get("open")) ?? null;
}

function writeFragment() {
  const kept = new URLSearchParams([...new FormData(controls)].filter(([name, value]) => value !== DEFAULTS.get(name)));
  if (state.open) kept.set("open", state.open.key ?? state.open.ImageID);
  history.replaceState(null, "", `#${kept}`);
}

/** Show what the form says. */
function refresh() {
  const { items, matching } = match();
  const view = controls.view.value;
  Object.assign(state, { matching, current: 0, items: items.sort(SORTS[$(`sort-${view}`).value]) });
  const wrong = items.filter((item) => item.answer === "wrong").length;
  const drawn = [...matching].filter((entry) => !entry.empty).length;
  const more = !inCrops() ? `, ${number(drawn)} boxes` : predicted ? `, ${number(wrong)} predicted wrongly` : "";
  $("status").textContent = `${number(items.length)} of ${number((inCrops() ? crops : photos).length)} ${view}${more}`;
  $("clear").hidden = !controls.q.value && FACETS.every((each) => !each.chosen.size);
  $("nothing").hidden = items.length > 0;
  showCounts();
  writeFragment();
  layout();
}

function showCounts() {
  for (const { key, node, parts, chosen, counts } of FACETS) {
    node.hidden = !chosen.size && (key === "group" || parts.length < 2);
    for (const { value, input, count, label } of parts) {
      count.textContent = number(counts.get(value).items);
      label.classList.toggle("empty", !counts.get(value).items);
      label.hidden = key === "group" && !input.checked;
    }
  }
  const test = crops.filter((box) => marks.has(box.key) && box.Split === "test").length;
  $("marked").textContent = `${number(marks.size)} marked as wrong${test ? `, ${number(test)} of them in test` : ""}`;
  $("save").disabled = $("unmark").disabled = !marks.size;
}

/** Clear the filters, but keep one value if it is given. */
function only(key, kept) {
  controls.q.value = "";
  for (const each of FACETS) for (const { value, input } of each.parts) input.checked = each.key === key && value === kept;
  refresh();
}

/* ---- Photos and boxes ---- */

// CSS matrices: a turn counter-clockwise, and what a browser does for each EXIF orientation.
const ROTATION = { 0: [1, 0, 0, 1], 90: [0, -1, 1, 0], 180: [-1, 0, 0, -1], 270: [0, 1, -1, 0] };
const EXIF = { 1: [1, 0, 0, 1], 2: [-1, 0, 0, 1], 3: [-1, 0, 0, -1], 4: [1, 0, 0, -1],
  5: [0, 1, 1, 0], 6: [0, 1, -1, 0], 7: [0, -1, -1, 0], 8: [0, -1, 1, 0] };

/** Make an upright photo with boxes. The element has exactly the photo's proportions. */
function frame(photo, outlined, labels) {
  const picture = image(`images/${photo.ImageID}.jpg`, `Photo ${photo.ImageID}`);
  // Boxes ignore the EXIF orientation, but the browser has applied it: undo it (its inverse is its
  // transpose), then apply Rotation.
  const [a, b, c, d] = EXIF[photo.Orientation];
  const [p, q, r, s] = ROTATION[photo.Rotation];
  const matrix = [p * a + r * c, q * a + s * c, p * b + r * d, q * b + s * d];
  put(picture, "%", 50, 50, ...(matrix[0] ? [100, 100] : [100 / photo.aspect, 100 * photo.aspect]));
  picture.style.transform = `translate(-50%, -50%) matrix(${matrix}, 0, 0)`;
  const node = make("span", { className: "frame" }, picture);
  node.style.setProperty("--aspect", photo.aspect);
  for (const box of outlined) {
    const outline = put(colored("box", box.Category), "%", 100 * box.X, 100 * box.Y, 100 * box.W, 100 * box.H);
    outline.classList.toggle("other", !state.matching.has(box));
    outline.classList.toggle("chosen", box === state.open);
    if (labels) outline.append(make("bdi", {}, box.Category));
    node.append(outline);
  }
  return node;
}

function put(node, unit, left, top, width, height) {
  for (const [side, value] of Object.entries({ left, top, width, height })) node.style[side] = value + unit;
  return node;
}

function prediction({ Predicted, Probability, answer }) {
  return Predicted ? make("span", { className: answer }, "→ ", make("bdi", {}, Predicted), ` ${percent(Probability)}`) : "";
}

/** Make the checkbox that marks a crop as wrong; there is none without a crop. */
function marker(box) {
  const input = make("input", { type: "checkbox", checked: marks.has(box.key), onchange: () => mark(box) });
  input.dataset.key = box.key;
  return box.Folder ? make("label", { className: "mark" }, input, "wrong") : "";
}

/* ---- The grid: rows of one height; only tiles near the window are in the document ---- */

const GAP = 6;
const shown = new Map();
let spots = [];

function layout() {
  const caption = inCrops() ? (predicted ? 46 : 27) : 0;
  const size = Number(controls.size.value);
  let [top, row, sum] = [0, [], 0];
  spots = state.items.map((item, index) => {
    const spot = { aspect: Math.min(Math.max(item.aspect, 0.6), 2.4) };
    row.push(spot);
    sum += spot.aspect;
    const fit = ($("grid").clientWidth - GAP * (row.length - 1)) / sum;
    if (fit > size && index < state.items.length - 1) return spot;
    const inner = Math.min(fit, size);
    let left = 0;
    for (const each of row) {
      Object.assign(each, { left, top, inner, width: inner * each.aspect, height: inner + caption });
      left += each.width + GAP;
    }
    [top, row, sum] = [top + inner + caption + GAP, [], 0];
    return spot;
  });
  $("grid").style.height = `${top}px`;
  $("grid").replaceChildren();
  shown.clear();
  render();
}

function render() {
  const above = -$("grid").getBoundingClientRect().top;
  const first = spots.findIndex((spot) => spot.top + spot.height > above - innerHeight / 2);
  const last = spots.findLastIndex((spot) => spot.top < above + 1.5 * innerHeight);
  for (const [index, node] of shown) {
    if ((index >= first && index <= last) || node.contains(document.activeElement)) continue;
    node.remove();
    shown.delete(index);
  }
  let after = null;
  for (let index = last; index >= first && first >= 0; index -= 1) {
    if (!shown.has(index)) shown.set(index, $("grid").insertBefore(tile(index), after));
    after = shown.get(index);
  }
  // The Tab key reaches one tile; the arrow keys move on from it.
  if (!shown.has(state.current)) state.current = Math.max(spots.findIndex((spot) => spot.top >= above), 0);
  shown.forEach((node, index) => { node.firstChild.tabIndex = index === state.current ? 0 : -1; });
}

function tile(index) {
  const [item, spot] = [state.items[index], spots[index]];
  const open = make("button", { type: "button", onclick: () => show(item) });
  const node = make("li", { ariaSetSize: state.items.length, ariaPosInSet: index + 1 }, open);
  put(node, "px", spot.left, spot.top, spot.width, spot.height);
  if (inCrops()) {
    const file = `${item.photo.ImageID}_${item.n}`;
    open.append(item.Folder ? image(`${item.Folder}/${file}.jpg`, `Crop ${file}`) : absent("no crop", item.CropError));
    open.append(make("span", { className: "caption" }, named(item.Category), prediction(item)));
    node.append(marker(item));
    node.classList.toggle("marked", marks.has(item.key));
  } else if (item.Status === "ok") {
    open.append(frame(item, item.boxes.filter((box) => state.matching.has(box)), false));
    open.firstChild.style.width = `${Math.min(spot.width, spot.inner * item.aspect)}px`;
  } else open.append(absent(item.Status, item.Error));
  return node;
}

function focusTile(index) {
  state.current = index;
  if (!shown.has(index)) scrollBy(0, spots[index].top + $("grid").getBoundingClientRect().top - innerHeight / 2);
  render();
  shown.get(index).scrollIntoView({ block: "nearest" });
  shown.get(index).firstChild.focus({ preventScroll: true });
}

/** Return the nearest tile in the row above (-1) or below (1), or the current one if there is none. */
function nextRow(step) {
  const from = spots[state.current];
  const distance = (spot) => Math.abs(spot.left + spot.width / 2 - from.left - from.width / 2);
  const beyond = spots.filter((spot) => Math.sign(spot.top - from.top) === step);
  const { top } = beyond.at(step < 0 ? -1 : 0) ?? from;
  return spots.indexOf(spots.filter((spot) => spot.top === top).sort((a, b) => distance(a) - distance(b))[0]);
}

/* ---- One photo ---- */

function show(item) {
  const { photo } = item;
  const at = state.items.indexOf(item);
  Object.assign(state, { open: item, current: Math.max(at, 0) });
  $("photo-title").textContent = `${item.boxes ? "Photo" : "Crop"} ${number(at + 1)} of ${number(state.items.length)}`;
  $("stage").replaceChildren(photo.Status === "ok" ? frame(photo, photo.boxes, true) : absent(photo.Status, photo.Error));
  const facts = {
    Title: link(photo.Title, photo.OriginalLandingURL),
    Author: link(photo.Author, photo.AuthorProfileURL),
    Licence: link(photo.License, photo.License),
    Changes: photo.Changes,
    ImageID: make("code", {}, photo.ImageID),
    Subset: photo.Subset,
    Outcome: photo.Status === "ok" ? `on disk, from ${photo.Source}` : absent(photo.Status, photo.Error),
    Size: photo.Width && `${photo.Width} × ${photo.Height} pixels, ${number(Math.round(photo.Bytes / 1000))} kB`,
    Turned: photo.Rotation && `${photo.Rotation}° counter-clockwise`,
    "Near-duplicates": photo.Group && make("button", { type: "button", onclick: () => { $("photo").close(); only("group", photo.Group); } }, "show them"),
  };
  const list = Object.entries(facts).filter(([, fact]) => fact);
  $("facts").replaceChildren(
    make("dl", {}, ...list.flatMap(([term, fact]) => [make("dt", {}, term), make("dd", {}, fact)])),
    make("h3", {}, photo.boxes.length === 1 ? "1 box" : `${photo.boxes.length} boxes`),
    make("ol", {}, ...photo.boxes.map(boxFacts)));
  if (!$("photo").open) $("photo").showModal();
  writeFragment();
}

function boxFacts(box) {
  const flags = (sign) => data.flags.filter((_, k) => box.Flags[k] === sign).map((flag) => flag.slice(2).toLowerCase()).join(", ");
  const words = [`${percent(box.share)} of the photo`, `box source ${box.Source || "unknown"}`, flags("1") || "no flags",
    flags("?") && `unknown: ${flags("?")}`, box.Split && `split ${box.Split}`, box.CropError];
  const small = make("small", {}, words.filter(Boolean).join(" · "));
  const className = box === state.open ? "chosen" : "";
  return make("li", { className }, named(box.Category), " ", prediction(box), small, marker(box));
}

/* ---- Crops marked as wrong ---- */

function mark(box) {
  if (!marks.delete(box.key)) marks.add(box.key);
  showMarks();
}

function showMarks() {
  stored(JSON.stringify([...marks]));
  document.querySelectorAll("input[data-key]").forEach((input) => { input.checked = marks.has(input.dataset.key); });
  shown.forEach((node, index) => node.classList.toggle("marked", marks.has(state.items[index].key)));
  match();
  showCounts();
}

function save() {
  const text = ["ImageID,n", ...[...marks].sort(), ""].join("\n");
  make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "exclude.csv" }).click();
}

/* ---- Events ---- */

/** Move in the grid, or through the open photos; from the first or last nowhere. */
function move(columns, rows) {
  const index = rows ? nextRow(rows) : Math.min(Math.max(state.current + columns, 0), spots.length - 1);
  if (state.open) show(state.items[index]);
  else if (spots[index]) focusTile(index);
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0] };
addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox]), select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const [columns, rows] = MOVES[event.key] ?? [0, 0];
  if (columns || (rows && !state.open)) move(columns, rows);
  else if (event.key === "b") controls.boxes.click();
  else if (event.key === "x") mark(state.open ?? state.items[state.current]);
  else if (event.key === "/" && !state.open) controls.q.focus();
  else return;
  event.preventDefault();
});
addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
addEventListener("hashchange", start);
new ResizeObserver(layout).observe($("grid").parentElement);
controls.addEventListener("input", ({ target }) => target.name && (target.name === "size" ? layout : refresh)());
controls.addEventListener("submit", (event) => event.preventDefault());
const CLICKS = {
  clear: () => only(),
  "filters-toggle": () => { $("filters-toggle").ariaExpanded = document.body.classList.toggle("filters-open"); },
  save,
  unmark: () => { marks.clear(); showMarks(); },
  previous: () => move(-1, 0),
  next: () => move(1, 0),
  close: () => $("photo").close(),
};
for (const [id, action] of Object.entries(CLICKS)) $(id).addEventListener("click", action);
$("photo").addEventListener("close", () => { state.open = null; writeFragment(); focusTile(state.current); });

function start() {
  readFragment();
  refresh();
  if (state.open) show(state.open);
}

$("count-photos").textContent = number(photos.length);
$("count-crops").textContent = number(crops.length);
start();
