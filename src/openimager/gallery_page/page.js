/* The gallery page. What comes from the tables is inserted as text, never as markup.

   Its views are grids of items: photos, or the boxes that have, or should have, a crop. The form
   `controls` holds the view, the filters and the order. */

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const percent = (share) => `${(100 * share).toFixed(share < 0.01 || (share > 0.995 && share < 1) ? 1 : 0)} %`;
const controls = $("controls");
const inCrops = () => controls.view.value === "crops";

/* ---- Elements ---- */
/** Make an element. Children that are strings become text. */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const button = (text, onclick) => make("button", { type: "button", onclick }, text);

/** Make a link, or plain text if the address is not one of the web, such as javascript:. */
function link(text, address) {
  const content = make("bdi", {}, text || address || "not recorded");
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return content;
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, content);
}

function colored(className, category, ...children) {
  const node = make("span", { className }, ...children);
  node.style.setProperty("--color", color.get(category));
  return node;
}

const named = (category) => make("span", {}, colored("swatch", category), make("bdi", {}, category));

/** Make the words in place of a photo or crop that does not exist. */
const absent = (what, why) =>
  make("span", { className: "absent" }, make("strong", {}, make("bdi", {}, what)), " ", make("bdi", {}, why));

/** Make an image, or words if its file is missing: a package need not hold the photos. */
function image(path, alt) {
  const node = make("img", { alt, decoding: "async", draggable: false });
  node.onerror = () => node.replaceWith(absent("missing", "The file is not beside this page."));
  node.src = path.split("/").map(encodeURIComponent).join("/");
  return node;
}

/** Store the marks of boxes, if given, in this browser, which may refuse; return what it has. */
function keptMarks(marks) {
  const key = `openimager marks ${location.pathname}`;
  try {
    if (marks) localStorage.setItem(key, JSON.stringify(marks));
    return JSON.parse(localStorage.getItem(key)) ?? {};
  } catch { return {}; }
}

/* ---- The tables ---- */
/** Return the rows of a table that is stored by column; repeated text is stored as codes. */
function rows(table) {
  const columns = Object.entries(table).map(([name, cells]) =>
    [name, cells.codes ? cells.codes.map((code) => cells.values[code]) : cells]);
  return Array.from(columns[0][1], (_, i) => Object.fromEntries(columns.map(([name, cells]) => [name, cells[i]])));
}

const data = JSON.parse($("data").textContent);
const [photos, boxes] = [rows(data.photos), rows(data.boxes)];
for (const photo of photos) {
  const aspect = (photo.Width || 4) / (photo.Height || 3);
  const words = `${photo.ImageID} ${photo.Title} ${photo.Author}`.toLowerCase();
  const Duplicates = photo.Group ? "some" : "none";
  Object.assign(photo, { photo, boxes: [], words, Duplicates, aspect: photo.Rotation % 180 ? 1 / aspect : aspect });
}
const predicted = boxes.some((box) => box.Predicted);
const [before, kept] = [keptMarks(), {}];
const SHARES = [[0.01, "under 1 %"], [0.1, "1 to 10 %"], [0.5, "10 to 50 %"], [Infinity, "over 50 %"]];
for (const box of boxes) {
  const photo = photos[box.Photo];
  const key = `${photo.ImageID},${box.n}`;
  // Without n: after a download of other categories it may mean another box.
  const mark = [photo.ImageID, box.Category, box.X0, box.Y0, box.X1, box.Y1].join();
  const share = (box.X1 - box.X0) * (box.Y1 - box.Y0);
  Object.assign(box, { photo, key, mark, share, aspect: 1, crop: box.Folder || box.CropError });
  box.Share = SHARES.find(([limit]) => share < limit)[1];
  box.Answer = box.Predicted ? (box.Predicted === box.Category ? "right" : "wrong") : predicted && "none";
  if (before[mark]) kept[mark] = before[mark];
  box.Marked = kept[mark] ?? (box.Excluded ? "yes" : "no");
  photo.boxes.push(box);
}
const crops = boxes.filter((box) => box.crop);
const COLORS = ["#2f9bff", "#ffa51f", "#19c37d", "#f283d0", "#6fd3ff", "#ff6a3d", "#ffe14d", "#a98bff"];
const color = new Map(data.categories.map((name, k) => [name, COLORS[k] ?? `hsl(${k * 137.5} 85% 62%)`]));

/* ---- Filters: the template lists them, each with the column of photos or boxes that it is about ---- */
// Filters are applied to boxes, so a photo without boxes needs an empty entry to be found.
const entries = photos.flatMap((photo) => (photo.boxes.length ? photo.boxes : [{ photo, empty: true }]));
const FACETS = Array.from($("facets").children, (node) => {
  const { column, of, order = "", fixed } = node.dataset;
  const value = (entry) => (of === "photo" ? entry.photo : entry)[column] || "";
  const used = new Set(entries.map(value));
  const values = new Set(fixed ? order.split(",") : [...order.split(","), ...[...used].sort()]);
  const parts = [...values].filter((each) => each && (fixed || used.has(each))).map((each) => {
    const input = make("input", { type: "checkbox", name: node.name, value: each });
    const count = make("span", { className: "count" });
    const label = make("label", {}, input, column === "Category" ? named(each) : make("bdi", {}, each), " ", count);
    return { value: each, input, count, label };
  });
  node.append(make("div", {}, ...parts.map((part) => part.label)));
  node.hidden = parts.length < 2;
  return { node, value, parts };
});

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
    if ((item === entry && !entry.crop) || !entry.photo.words.includes(text)) continue;
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

const errorRank = ({ Answer, Probability }) => ({ wrong: 1 + Probability, right: 1 - Probability })[Answer] ?? -1;
const SORTS = {
  ImageID: () => 0,
  "most boxes": (a, b) => b.boxes.length - a.boxes.length,
  "smallest box": (a, b) => a.share - b.share,
  "confident errors first": (a, b) => errorRank(b) - errorRank(a),
  "least confident first": (a, b) => (a.Probability ?? 2) - (b.Probability ?? 2),
};

/* ---- State: the form and the open photo, kept in the address's fragment ---- */
for (const [view, all] of Object.entries({ photos, crops })) $(`count-${view}`).textContent = number(all.length);
if (!predicted) $("sort-crops").querySelectorAll("[data-predicted]").forEach((option) => option.remove());
const DEFAULTS = new FormData(controls);
const state = { items: [], matching: new Set(), current: 0, open: null };

function readFragment() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const control of controls.elements) {
    const values = kept.has(control.name) ? kept.getAll(control.name) : [DEFAULTS.get(control.name)];
    if (control.matches("[type=checkbox], [type=radio]")) control.checked = values.includes(control.value);
    else control.value = values[0];
  }
  state.open = [...photos, ...crops].find((item) => (item.key ?? item.ImageID) === kept.get("open")) ?? null;
}

function writeFragment() {
  const changed = [...new FormData(controls)].filter(([name, value]) => value !== DEFAULTS.get(name));
  const kept = new URLSearchParams(changed);
  if (state.open) kept.set("open", state.open.key ?? state.open.ImageID);
  history.replaceState(null, "", `#${kept}`);
}

/** Show what the form says. */
function refresh() {
  const { items, matching } = match();
  const view = controls.view.value;
  Object.assign(state, { matching, current: 0, items: items.sort(SORTS[$(`sort-${view}`).value]) });
  const counted = [...matching].filter((entry) => (inCrops() ? entry.Answer === "wrong" : !entry.empty)).length;
  const more = !inCrops() ? `, ${number(counted)} boxes` : predicted ? `, ${number(counted)} predicted wrongly` : "";
  $("status").textContent = `${number(items.length)} of ${number((inCrops() ? crops : photos).length)} ${view}${more}`;
  showCounts();
  writeFragment();
  layout();
}

function showCounts() {
  for (const { parts, counts } of FACETS) for (const { value, count, label } of parts) {
    count.textContent = number(counts.get(value).items);
    label.classList.toggle("empty", !counts.get(value).items);
  }
  $("marked").textContent = `${number(marked().length)} marked as wrong`;
  $("save").disabled = $("unmark").disabled = !marked().length;
}

/** Clear the filters, but keep one value if it is given. */
function only(key, kept) {
  $("photo").close();
  controls.q.value = "";
  for (const input of $("facets").querySelectorAll("input")) input.checked = input.name === key && input.value === kept;
  refresh();
}

/* ---- Photos and boxes ---- */
// What turns a photo back that a browser has turned or mirrored by its EXIF orientation.
const UNDO = { 1: "", 2: "scaleX(-1)", 3: "rotate(180deg)", 4: "scaleY(-1)", 5: "rotate(90deg) scaleY(-1)",
  6: "rotate(-90deg)", 7: "rotate(90deg) scaleX(-1)", 8: "rotate(90deg)" };

/** Make an upright photo with boxes. The element has exactly the photo's proportions. */
function frame(photo, outlined) {
  const picture = image(`images/${photo.ImageID}.jpg`, `Photo ${photo.ImageID}`);
  const swapped = (photo.Orientation > 4) !== (photo.Rotation % 180 > 0);
  const [width, height] = swapped ? [100 / photo.aspect, 100 * photo.aspect] : [100, 100];
  picture.style = `left: 50%; top: 50%; width: ${width}%; height: ${height}%;
    transform: translate(-50%, -50%) rotate(${-photo.Rotation}deg) ${UNDO[photo.Orientation]}`;
  const node = make("span", { className: "frame" }, picture);
  node.style.setProperty("--aspect", photo.aspect);
  for (const box of outlined) {
    const look = box === state.open ? "box chosen" : state.matching.has(box) ? "box" : "box other";
    const outline = colored(box.Y0 > 0.05 ? `${look} low` : look, box.Category, make("bdi", {}, box.Category));
    const [left, top, right, bottom] = [box.X0, box.Y0, 1 - box.X1, 1 - box.Y1].map((share) => `${100 * share}%`);
    Object.assign(outline.style, { left, top, right, bottom });
    node.append(outline);
  }
  return node;
}

const prediction = ({ Answer, Predicted, Probability }) => (!Predicted ? ""
  : make("span", { className: Answer }, "→ ", make("bdi", {}, Predicted), ` ${percent(Probability)}`));

/** Make the checkbox that marks a crop as wrong; none for a box without a row in crops.csv. */
function marker(box) {
  const input = make("input", { type: "checkbox", checked: isMarked(box), onchange: () => toggleMarks(box) });
  input.dataset.index = boxes.indexOf(box);
  return box.crop ? make("label", { className: "mark" }, input, "wrong") : "";
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
    const stays = (index >= first && index <= last) || node.contains(document.activeElement);
    if (!stays && shown.delete(index)) node.remove();
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
  const open = button("", () => show(item));
  const node = make("li", { ariaSetSize: state.items.length, ariaPosInSet: index + 1 }, open, marker(item));
  node.style = `left: ${spot.left}px; top: ${spot.top}px; width: ${spot.width}px; height: ${spot.height}px`;
  if (inCrops()) {
    const file = `${item.photo.ImageID}_${item.n}`;
    open.append(item.Folder ? image(`${item.Folder}/${file}${item.Format}`, `Crop ${file}`)
      : absent("no crop", item.CropError));
    open.append(make("span", { className: "caption" }, named(item.Category), prediction(item)));
  } else if (item.Status === "ok") {
    open.append(frame(item, item.boxes.filter((box) => state.matching.has(box))));
    open.lastChild.style.width = `${Math.min(spot.width, spot.inner * item.aspect)}px`;
  } else open.append(absent(item.Status, item.Error));
  return node;
}

function focusTile(index) {
  if (!spots[index]) return;
  state.current = index;
  if (!shown.has(index)) scrollBy(0, spots[index].top + $("grid").getBoundingClientRect().top - innerHeight / 2);
  render();
  shown.get(index).scrollIntoView({ block: "nearest" });
  shown.get(index).firstChild.focus({ preventScroll: true });
}

/** Return the nearest tile of the row above (-1) or below (1); the current one if there is none. */
function nextRow(step) {
  const from = spots[state.current];
  const middle = (spot) => spot.left + spot.width / 2;
  const distance = (spot) => 1e6 * Math.abs(spot.top - from.top) + Math.abs(middle(spot) - middle(from));
  const beyond = spots.filter((spot) => Math.sign(spot.top - from.top) === step);
  return spots.indexOf(beyond.sort((a, b) => distance(a) - distance(b))[0] ?? from);
}

/* ---- One photo ---- */
function show(item) {
  const { photo } = item;
  Object.assign(state, { open: item, current: state.items.indexOf(item) });
  $("photo-title").textContent = `${number(state.current + 1)} of ${number(state.items.length)} ${controls.view.value}`;
  const lost = photo.Status !== "ok" && absent(photo.Status, photo.Error);
  $("stage").replaceChildren(lost || frame(photo, photo.boxes));
  const facts = {
    Title: link(photo.Title, photo.OriginalLandingURL),
    Author: link(photo.Author, photo.AuthorProfileURL),
    Licence: link(photo.License, photo.License),
    Changes: photo.Changes,
    ImageID: make("code", {}, photo.ImageID),
    Subset: photo.Subset,
    Outcome: lost ? lost.cloneNode(true) : `on disk, from ${photo.Source}`,
    Size: photo.Width && `${photo.Width} × ${photo.Height} pixels, ${number(Math.round(photo.Bytes / 1000))} kB`,
    Turned: photo.Rotation && `${photo.Rotation}° counter-clockwise`,
    "Near-duplicates": photo.Group && button("show them", () => only("group", photo.Group)),
  };
  const pairs = Object.entries(facts).filter(([, fact]) => fact);
  const list = pairs.flatMap(([term, fact]) => [make("dt", {}, term), make("dd", {}, make("bdi", {}, fact))]);
  const count = make("h3", {}, photo.boxes.length === 1 ? "1 box" : `${photo.boxes.length} boxes`);
  $("facts").replaceChildren(make("dl", {}, ...list), count, make("ol", {}, ...photo.boxes.map(boxFacts)));
  if (!$("photo").open) $("photo").showModal();
  writeFragment();
}

function boxFacts(box) {
  const flags = (state) => data.flags.filter((flag) => box[flag] === state).map((flag) => flag.slice(2)).join(", ");
  const words = [`${percent(box.share)} of the photo`, `box source ${box.Source || "unknown"}`,
    flags("yes") || "no flags", flags("unknown") && `unknown: ${flags("unknown")}`,
    box.Split && `split ${box.Split}`, box.CropError];
  const small = make("small", {}, ...words.filter(Boolean).map((word) => make("bdi", {}, word)));
  const className = box === state.open ? "chosen" : "";
  return make("li", { className }, named(box.Category), " ", prediction(box), small, marker(box));
}

/* ---- Crops marked as wrong ---- */
const isMarked = (box) => box.Marked === "yes";
const marked = () => crops.filter(isMarked);

function toggleMarks(...toggled) {
  for (const box of toggled) if (box?.crop) kept[box.mark] = box.Marked = isMarked(box) ? "no" : "yes";
  for (const input of document.querySelectorAll(".mark input")) input.checked = isMarked(boxes[input.dataset.index]);
  match();
  showCounts();
  keptMarks(kept);
}

function save() {
  const text = ["ImageID,n", ...marked().map((box) => box.key), ""].join("\n");
  make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "exclude.csv" }).click();
}

/* ---- Events ---- */
/** Move in the grid, or through the open photos. */
function move(columns, rows) {
  const index = rows ? nextRow(rows) : Math.min(Math.max(state.current + columns, 0), spots.length - 1);
  if (state.open && spots[index]) show(state.items[index]);
  else focusTile(index);
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  Home: [-Infinity, 0], End: [Infinity, 0] };
addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox]), select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const [columns, rows] = MOVES[event.key] ?? [0, 0];
  if (columns || (rows && !state.open)) move(columns, rows);
  else if (event.key === "b") controls.boxes.click();
  else if (event.key === "x") toggleMarks(state.open ?? state.items[state.current]);
  else if (event.key === "/" && !state.open) controls.q.focus();
  else return;
  event.preventDefault();
});
addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
addEventListener("hashchange", start);
new ResizeObserver(layout).observe($("grid").parentElement);
controls.addEventListener("input", ({ target }) => target.name && (target.name === "size" ? layout : refresh)());
const CLICKS = { save, unmark: () => toggleMarks(...marked()), clear: () => only(),
  previous: () => move(-1, 0), next: () => move(1, 0), close: () => $("photo").close() };
for (const [id, action] of Object.entries(CLICKS)) $(id).addEventListener("click", action);
$("photo").addEventListener("close", () => { state.open = null; writeFragment(); focusTile(state.current); });

function start() {
  readFragment();
  refresh();
  if (state.items.includes(state.open)) show(state.open);
}
start();
