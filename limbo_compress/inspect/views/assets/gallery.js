// The gallery of limbo-inspect. What comes from the data is only ever set as text, never as markup.
"use strict";

const gallery = (() => {
  const KINDS = ["unknown", "synthetic", "real"];
  const GAP = 8;
  const CAPTION = 46; // height of a cell beyond its thumbnail, in pixels
  const MANY = 100; // items of the metadata's tree that are shown at once
  const MOST_VALUES = 1000; // of a column, in a list to choose from

  let rows; // data/rows.js
  let summary; // data/summary.js
  let chosen = []; // places of the rows that pass the filters
  let column; // of the table of samples: the one by which rows are chosen
  let sorted; // the one in whose order they are
  let current = 0; // the cell that has the focus, or gets it next: a place in `chosen`
  let columns = 1;
  let rendered = new Map(); // lines of the grid that are in the document
  const details = new Map(); // promises of data/details/N.js
  const waiting = new Map(); // what to call when a script hands over its data
  const missing = new Set(); // files that could not be read

  const $ = (id) => document.getElementById(id);

  // An element with text and children.
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
    return element;
  }

  function makeSvg(name, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  const count = (number) => number.toLocaleString("en");
  const path = (place) => {
    const folder = rows.folders[rows.folder[place]];
    return folder || rows.files[place] ? `${folder}/${rows.files[place]}` : "";
  };
  const categories = (place) => rows.sets[rows.set[place]];
  const color = (category) => {
    const number = rows.categories.indexOf(category);
    return number < 0 ? "rgb(246 246 244)" : `rgb(${rows.colors[number].join(" ")})`;
  };

  // --- data ---

  // The scripts in data/ call this. JSON.parse has no side effects, whatever the text is.
  function receive(name, text) {
    const value = JSON.parse(text);
    if (name === "rows") rows = value;
    else if (name === "summary") summary = value;
    else waiting.get(name)?.(value);
    if (rows && (name === "rows")) start();
    if (rows && summary && (name === "rows" || name === "summary")) describe();
  }

  // Galleries are copied, not always as a whole.
  function miss(file) {
    missing.add(file);
    const first = [...missing].slice(0, 3).join(", ");
    const more = missing.size > 3 ? ` and ${count(missing.size - 3)} more` : "";
    $("missing").textContent = `Missing or damaged: ${first}${more}. Copy the whole folder of the gallery again.`;
    return `${file} is missing or damaged`;
  }

  // What the page itself names has been read by now, or never will be.
  function checkFiles() {
    if (!getComputedStyle(document.documentElement).getPropertyValue("--paper")) {
      miss("gallery.css");
      document.querySelector("main").hidden = true; // nothing would be in its place
    }
    if (!rows) miss("data/rows.js");
    if (!summary) miss("data/summary.js");
  }

  function loadDetails(place) {
    const number = Math.floor(place / rows.per_details);
    if (!details.has(number)) {
      const name = `details/${number}`;
      const loading = new Promise((resolve, reject) => {
        waiting.set(name, resolve);
        const script = make("script", { src: `data/${name}.js` });
        for (const event of ["load", "error"]) {
          script.addEventListener(event, () => {
            script.remove();
            reject(new Error("nothing was received")); // unless something was
          });
        }
        document.head.append(script);
      });
      loading.catch(() => details.delete(number));
      details.set(number, loading);
    }
    return details.get(number).then((list) => list[place % rows.per_details]);
  }

  // --- filters ---

  function fill(select, first, options) {
    select.replaceChildren(make("option", { value: "" }, first));
    for (const [value, text] of options) select.append(make("option", { value }, text));
    select.disabled = options.length === 0;
  }

  const tally = (keys) => {
    const counts = new Map();
    for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
    return counts;
  };

  function short(text, length = 60) {
    return text.length > length ? `${text.slice(0, length / 2)}…${text.slice(-length / 2)}` : text;
  }

  function makeFilters() {
    const perCategory = new Map();
    for (const [set, number] of tally(rows.set)) {
      for (const category of rows.sets[set]) {
        perCategory.set(category, (perCategory.get(category) ?? 0) + number);
      }
    }
    const named = rows.categories.flatMap((name, number) =>
      perCategory.has(number) ? [[number, `${short(name)} (${count(perCategory.get(number))})`]] : []);
    fill($("by-category"), "any", named);
    fill($("by-missing"), "none", named);
    const folders = [...tally(rows.folder)].filter(([folder]) => rows.folders[folder]);
    fill($("by-folder"), "all", folders.map(([folder, number]) =>
      [folder, `${short(rows.folders[folder])} (${count(number)})`]));
    const kinds = [...tally(rows.kinds)].filter(([kind]) => kind > 0);
    fill($("by-kind"), "all", kinds.map(([kind, number]) => [kind, `${KINDS[kind]} (${count(number)})`]));
    const odd = Object.entries(rows.odd).filter(([, numbers]) => numbers.length);
    fill($("by-odd"), "all rows", odd.map(([why, numbers]) => [why, `${why} (${count(numbers.length)})`]));
    const names = rows.columns.map(({ name }) => short(name));
    fill($("by-column"), "any", names.map((name, number) => [number, name]));
    fill($("by-order"), "row", names.flatMap((name, number) =>
      [[number + 1, name], [-number - 1, `${name}, descending`]]));
    $("by-column").addEventListener("input", chooseColumn);
    // Not on "change": that comes when the focus leaves the text, between the halves of a click.
    $("filters").addEventListener("input", applyFilters);
    $("filters").addEventListener("reset", () => setTimeout(() => {
      chooseColumn();
      applyFilters();
    }));
    $("filters").addEventListener("submit", (event) => event.preventDefault());
  }

  // What a column says of a row, or of all that have one of its values; a row may have none: -1.
  function valueText({ values }, id) {
    const value = id < 0 ? "not given" : values[id];
    if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
    return short(leftOut(value) ?? String(value));
  }

  // Show what rows can be chosen by in a column.
  function chooseColumn() {
    column = rows.columns[$("by-column").value];
    const counts = column ? [...tally(column.ids)].sort(([a], [b]) => a - b) : [];
    fill($("by-value"), "any", counts.slice(0, MOST_VALUES).map(([id, number]) =>
      [id, `${valueText(column, id)} (${count(number)})`]));
    if (counts.length > MOST_VALUES) {
      $("by-value").append(make("option", { disabled: "" }, `and ${count(counts.length - MOST_VALUES)} more`));
    }
    const hasNumbers = column?.values.some((value) => typeof value === "number");
    for (const id of ["by-from", "by-to"]) {
      $(id).value = "";
      $(id).parentElement.hidden = !hasNumbers;
    }
    $("by-value").parentElement.hidden = !column;
  }

  function isInColumn(place, id, from, to) {
    const value = column.values[column.ids[place]];
    return (id === null || column.ids[place] === id) && (from === null || value >= from) && (to === null || value <= to);
  }

  function applyFilters() {
    const text = $("by-text").value.toLowerCase();
    const numberOf = (id) => ($(id).value === "" ? null : Number($(id).value));
    const [has, lacks, folder, kind] = ["by-category", "by-missing", "by-folder", "by-kind"].map(numberOf);
    const [value, from, to, order] = ["by-value", "by-from", "by-to", "by-order"].map(numberOf);
    const odd = $("by-odd").value && new Set(rows.odd[$("by-odd").value]);
    chosen = rows.numbers.map((_, place) => place).filter((place) =>
      (has === null || categories(place).includes(has)) &&
      (lacks === null || !categories(place).includes(lacks)) &&
      (folder === null || rows.folder[place] === folder) &&
      (kind === null || rows.kinds[place] === kind) &&
      (!odd || odd.has(rows.numbers[place])) &&
      (!column || isInColumn(place, value, from, to)) &&
      (!text || path(place).toLowerCase().includes(text)));
    sorted = order && rows.columns[Math.abs(order) - 1];
    // The values of a column are sorted. Rows without one come last.
    const { ids } = sorted ?? {};
    if (ids) chosen.sort((a, b) => (ids[a] < 0) - (ids[b] < 0) || Math.sign(order) * (ids[a] - ids[b]));
    current = 0;
    $("count").textContent = `${count(chosen.length)} of ${count(rows.numbers.length)} rows`;
    layOut();
  }

  // --- grid ---

  const cellWidth = () => Math.max(rows.thumb.width, 96) + 16;
  const lineHeight = () => rows.thumb.height + CAPTION + GAP;

  function layOut() {
    const grid = $("grid");
    columns = Math.max(1, Math.floor((grid.clientWidth + GAP) / (cellWidth() + GAP)));
    const lines = Math.ceil(chosen.length / columns);
    grid.style.height = `${lines * lineHeight()}px`;
    grid.setAttribute("aria-rowcount", lines);
    grid.setAttribute("aria-colcount", columns);
    for (const line of rendered.values()) line.remove();
    rendered = new Map();
    render();
  }

  // Keep the lines near the window in the document, and no others.
  function render() {
    const top = $("grid").getBoundingClientRect().top;
    const spare = window.innerHeight / 2;
    const first = Math.max(0, Math.floor((-top - spare) / lineHeight()));
    const last = Math.min(
      Math.ceil(chosen.length / columns) - 1,
      Math.floor((-top + window.innerHeight + spare) / lineHeight()));
    const focused = Math.floor(current / columns);
    for (const [number, line] of rendered) {
      if ((number < first || number > last) && number !== focused) {
        line.remove();
        rendered.delete(number);
      }
    }
    for (let number = first; number <= last; number++) renderLine(number);
    if (chosen.length) renderLine(focused);
  }

  function renderLine(number) {
    if (rendered.has(number)) return;
    const line = make("div", { class: "line", role: "row", "aria-rowindex": number + 1 });
    line.style.top = `${number * lineHeight()}px`;
    const start = number * columns;
    chosen.slice(start, start + columns).forEach((place, column) => {
      line.append(make("div", { role: "gridcell", "aria-colindex": column + 1 }, makeCell(start + column, place)));
    });
    rendered.set(number, line);
    // In their order, for those who read the document line by line.
    const after = [...rendered.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    $("grid").insertBefore(line, after === undefined ? null : rendered.get(after));
  }

  function makeCell(index, place) {
    const { width, height, columns: across } = rows.thumb;
    const at = place % rows.per_sprite;
    const file = `data/thumbs/${Math.floor(place / rows.per_sprite)}.jpg`;
    const thumb = make("img", { class: "thumb", src: file, alt: "", width, height });
    thumb.style.objectPosition = `${-(at % across) * width}px ${-Math.floor(at / across) * height}px`;
    thumb.addEventListener("error", () => {
      miss(file);
      thumb.alt = "no picture";
    });
    const names = short(categories(place).map((category) => rows.categories[category]).join(", "), 200);
    const value = sorted ? `${valueText(sorted, sorted.ids[place])} · ` : "";
    const caption = make("span", { class: "caption" }, make("b", {}, rows.numbers[place]), " ", value, names);
    const cell = make("button", { class: "cell", type: "button", tabindex: index === current ? 0 : -1 }, thumb, caption);
    cell.style.width = `${cellWidth()}px`;
    cell.dataset.index = index;
    return cell;
  }

  const cellAt = (index) => $("grid").querySelector(`.cell[data-index="${index}"]`);

  function focusCell(index) {
    const before = cellAt(current);
    if (before) before.tabIndex = -1;
    current = Math.max(0, Math.min(index, chosen.length - 1));
    render();
    const cell = cellAt(current);
    if (!cell) return;
    cell.tabIndex = 0;
    cell.focus({ preventScroll: true });
    cell.scrollIntoView({ block: "nearest" });
  }

  function moveInGrid(event) {
    const page = columns * Math.max(1, Math.floor(window.innerHeight / lineHeight()) - 1);
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns,
      PageDown: page, PageUp: -page, Home: -chosen.length, End: chosen.length,
    };
    const step = steps[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    focusCell(current + step);
  }

  // --- a row ---

  let opened = 0; // the place of the row that is shown

  function open(index) {
    current = index;
    $("detail").showModal();
    show();
  }

  async function show() {
    const place = (opened = chosen[current]);
    const [width, height] = rows.size;
    const names = categories(place).map((category) => rows.categories[category]).join(", ");
    $("detail-title").textContent = `Row ${rows.numbers[place]}` + (names ? `: ${names}` : "");
    $("picture").src = `data/pictures/${place}.jpg`;
    $("picture").alt = `Row ${rows.numbers[place]}`;
    const stage = $("stage").style;
    stage.aspectRatio = `${width} / ${height}`;
    stage.maxWidth = `calc(66vh * ${width / height})`;
    $("overlay").setAttribute("viewBox", `0 0 ${width} ${height}`);
    $("overlay").replaceChildren();
    $("legend").replaceChildren();
    $("metadata").replaceChildren();
    $("path").textContent = path(place) || "not known: the metadata have no index";
    $("copy").hidden = !path(place);
    for (const id of ["copied", "problem", "picture-problem"]) $(id).textContent = "";
    $("previous").disabled = current === 0;
    $("next").disabled = current === chosen.length - 1;
    const row = await loadDetails(place).catch(() => undefined);
    if (opened !== place) return;
    if (row) showDetails(row);
    else $("problem").textContent = miss(`data/details/${Math.floor(place / rows.per_details)}.js`);
  }

  function showDetails(row) {
    drawOverlay(row);
    $("problem").textContent = row.problem;
    const seen = new Map();
    for (const [what, list] of [["box", row.boxes], ["contour", row.contours]]) {
      for (const [category] of list) {
        if (!seen.has(category)) seen.set(category, { box: 0, contour: 0 });
        seen.get(category)[what]++;
      }
    }
    for (const [category, found] of seen) {
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = color(category);
      const text = `${category ?? "(no category)"}: boxes ${found.box}, contours ${found.contour}`;
      $("legend").append(make("li", {}, swatch, text));
    }
    for (const [mask, outlines] of Object.entries(row.masks)) {
      const what = outlines === null ? "unknown, without a cryptomatte" : outlines.length ? "white, dashed" : "empty";
      $("legend").append(make("li", {}, `mask ${mask}: ${what}`));
    }
    const root = make("ul");
    if (row.metadata === null) root.append(make("li", { class: "hint" }, "none"));
    else addChildren(root, row.metadata, 0);
    $("metadata").append(root);
  }

  function lines(polygons) {
    let d = "";
    for (const points of polygons) {
      for (let i = 0; i < points.length; i += 2) d += `${i ? "L" : "M"}${points[i]} ${points[i + 1]}`;
      d += "Z";
    }
    return d;
  }

  function drawOverlay(row) {
    const layers = { contours: makeSvg("g", {}), masks: makeSvg("g", {}), boxes: makeSvg("g", {}) };
    for (const [category, polygons] of row.contours) {
      const line = makeSvg("path", { class: "contour", d: lines(polygons) });
      line.style.fill = line.style.stroke = color(category);
      layers.contours.append(line);
    }
    for (const outlines of Object.values(row.masks)) {
      const d = lines(outlines ?? []);
      layers.masks.append(makeSvg("path", { class: "mask-shade", d }), makeSvg("path", { class: "mask", d }));
    }
    for (const [category, [left, top, right, bottom]] of row.boxes) {
      const d = `M${left} ${top}H${right}V${bottom}H${left}Z`;
      const box = makeSvg("path", { class: "box", d });
      box.style.stroke = color(category);
      layers.boxes.append(makeSvg("path", { class: "shade", d }), box);
    }
    for (const [name, layer] of Object.entries(layers)) {
      layer.id = `layer-${name}`;
      $("overlay").append(layer);
    }
    switchLayers();
  }

  function switchLayers() {
    for (const name of ["boxes", "contours", "masks"]) {
      const layer = $(`layer-${name}`);
      if (layer) layer.style.display = $(`show-${name}`).checked ? "" : "none";
    }
  }

  function step(by) {
    const next = current + by;
    if (next < 0 || next >= chosen.length) return;
    current = next;
    show();
  }

  function keyInDetail(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const layer = { b: "boxes", c: "contours", m: "masks" }[event.key.toLowerCase()];
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") step(event.key === "ArrowRight" ? 1 : -1);
    else if (layer) {
      $(`show-${layer}`).checked = !$(`show-${layer}`).checked;
      switchLayers();
    } else return;
    event.preventDefault();
  }

  async function copyPath() {
    try {
      await navigator.clipboard.writeText($("path").textContent);
      $("copied").textContent = "copied";
    } catch {
      window.getSelection().selectAllChildren($("path"));
      $("copied").textContent = "selected: copy it with your keyboard";
    }
  }

  // --- the tree of metadata ---

  // What the page was not given, in words; null for any other value. Lists and plain values are as in
  // the metadata; every object is the gallery's own (see `_shown` in gallery.py).
  function leftOut(value) {
    if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
    if ("points" in value) return `${count(value.points)} points`;
    if ("deep" in value) return `${count(value.deep)} items, nested too deeply to list`;
    if ("number" in value) return value.number;
    if ("cut" in value) return `${JSON.stringify(value.cut)} … of ${count(value.length)} characters`;
    return null;
  }

  function addChildren(list, value, from) {
    const entries = value.dict ?? (value.list ?? value).map((item, i) => [i, item]);
    for (const [key, item] of entries.slice(from, from + MANY)) list.append(makeNode(key, item));
    if (entries.length <= from + MANY) {
      if (value.more) list.append(make("li", { class: "leaf hint" }, `and ${count(value.more)} more, not listed`));
      return;
    }
    const more = make("button", { type: "button" }, `${count(entries.length - from - MANY)} more`);
    more.addEventListener("click", () => {
      more.parentElement.remove();
      addChildren(list, value, from + MANY);
    });
    list.append(make("li", {}, more));
  }

  function makeNode(key, value) {
    const label = make("span", { class: "key" }, `${leftOut(key) ?? key}: `);
    const words = leftOut(value);
    if (words !== null) return make("li", { class: "leaf" }, label, make("span", { class: "hint" }, words));
    const isPlain = (item) => item === null || typeof item !== "object";
    if (isPlain(value) || (Array.isArray(value) && value.length < 5 && value.every(isPlain))) {
      return make("li", { class: "leaf" }, label, JSON.stringify(value, null, 1).replace(/\n */g, " "));
    }
    const size = (items) => items.length + (value.more ?? 0);
    const hint = value.dict ? `{${size(value.dict)}}` : `[${size(value.list ?? value)}]`;
    const node = make("details", {}, make("summary", {}, label, make("span", { class: "hint" }, hint)));
    node.addEventListener("toggle", () => {
      if (node.children.length > 1) return;
      const list = make("ul");
      addChildren(list, value, 0);
      node.append(list);
    });
    if (key === "image" || key === "provenance") node.open = true;
    return make("li", {}, node);
  }

  // --- figures ---

  function describe() {
    const chosenRows = summary.rows === summary.total ? "" : `, chosen from ${count(summary.total)}`;
    $("about").textContent =
      `${count(summary.rows)} rows${chosenRows}, ${count(rows.categories.length)} categories. ` +
      `limbo-inspect ${summary.version}: ${summary.files.map((file) => file.path).join(", ")}`;
    const figures = $("figures");
    const build = () => {
      if (figures.open && !$("figures-body").hasChildNodes()) drawFigures();
    };
    figures.addEventListener("toggle", build);
    build();
  }

  function card(title, ...content) {
    const section = make("section", { class: "card" }, make("h2", {}, title), ...content);
    $("figures-body").append(section);
    if (section.scrollWidth > section.clientWidth) section.tabIndex = 0; // to scroll with the keyboard
  }

  function table(heads, lines) {
    const head = make("tr", {}, ...heads.map((text) => (text ? make("th", { scope: "col" }, text) : make("td"))));
    const body = lines.map(([name, ...cells]) =>
      make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) =>
        cell instanceof Node ? cell : make("td", {}, typeof cell === "number" ? count(cell) : cell))));
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  }

  function meter(number, of) {
    const bar = make("span");
    bar.style.width = `${of ? (100 * number) / of : 0}%`;
    const cell = make("td", { class: "meter", "aria-hidden": "true" }, bar);
    return cell;
  }

  function counted(title, what, counts) {
    const entries = counts.slice(0, MANY);
    if (!entries.length) return;
    const most = Math.max(...entries.map(([, number]) => number));
    const lines = entries.map(([name, number]) => [short(name || "(not given)", 200), number, meter(number, most)]);
    if (counts.length > MANY) lines.push([`and ${count(counts.length - MANY)} more`, "", ""]);
    card(title, table([what, "samples", ""], lines));
  }

  function drawFigures() {
    const damaged = Object.entries(summary.damaged);
    card("Files", table(["file", "shape", "type", "bytes"], summary.files.map((file) =>
      [file.path, file.shape.join(" × "), file.dtype, file.bytes])));
    if (damaged.length) {
      const lines = damaged.slice(0, MANY).map(([row, why]) => [row, make("td", { class: "text" }, why)]);
      card(`Damaged metadata: ${count(damaged.length)} rows`, table(["row", "problem"], lines));
    }
    drawCategories();
    const made = Object.entries(summary.provenance).slice(0, MANY);
    const commands = made.map(([prefix, line]) => [prefix, make("td", { class: "text" }, line)]);
    if (commands.length) card("Made by", table(["prefix", "command"], commands));
    const known = summary.rows - damaged.length;
    const parts = Object.entries(summary.parts).map(([part, number]) =>
      [part, number, known - number, damaged.length]);
    for (const [mask, number] of Object.entries(summary.masks)) {
      const unknown = summary.unknown_masks[mask];
      parts.push([`mask ${mask}`, number, summary.rows - number - unknown, unknown]);
    }
    if (parts.length) card("Samples", table(["", "with", "without", "unknown"], parts));
    counted("Campaigns", "folder", Object.entries(summary.campaigns));
    counted("Source images", "pixels", summary.sizes.map(([w, h, number]) => [`${w} × ${h}`, number]));
    counted("Licenses", "license", Object.entries(summary.licenses));
    counted("Copyrights", "copyright", Object.entries(summary.copyrights));
    if (summary.channels) drawChannels(summary.channels);
    const odd = Object.entries(rows.odd).map(([why, numbers]) => [why, numbers.length]);
    if (odd.length) card("Odd rows", table(["", "rows"], odd));
  }

  function drawCategories() {
    const byNumber = Object.entries(summary.categories).sort(([, a], [, b]) => b.samples - a.samples);
    if (!byNumber.length) return;
    card("Categories", table(["category", "samples", "", "annotations", "boxes", "contours"],
      byNumber.slice(0, MANY).map(([name, found]) =>
        [short(name), found.samples, meter(found.samples, summary.rows), found.annotations, found.boxes, found.contours])));
    const mixed = Object.entries(summary.mixed).map(([set, found]) => [set, make("td", { class: "text" }, found.join(", "))]);
    if (mixed.length) card("Names that may mean the same", table(["set", "categories"], mixed));
    const names = byNumber.slice(0, 12).map(([name]) => name);
    const pairs = new Map(summary.together.map(([a, b, number]) => [JSON.stringify([a, b]), number]));
    const both = (a, b) => a === b ? summary.categories[a].samples
      : pairs.get(JSON.stringify([a, b])) ?? pairs.get(JSON.stringify([b, a])) ?? 0;
    if (names.length > 1) {
      card("Together in a sample", table(["", ...names.map((name) => short(name, 16))],
        names.map((a) => [short(a, 16), ...names.map((b) => both(a, b))])));
    }
  }

  function drawChannels(channels) {
    const digits = (values) => values.map((value) => value.toFixed(4));
    const most = Math.max(1, ...channels.histogram.flat());
    const plot = makeSvg("svg", {
      class: "plot", viewBox: "0 0 63 100", preserveAspectRatio: "none", role: "img",
      "aria-label": "Histogram of red, green and blue in sRGB, from black to white",
    });
    channels.histogram.forEach((curve, channel) => {
      const points = curve.map((number, x) => `${x},${(100 - (98 * number) / most).toFixed(2)}`).join(" ");
      plot.append(makeSvg("polyline", { class: ["red", "green", "blue"][channel], points }));
    });
    card("Channels", plot, table(["", "R", "G", "B"], [
      ["mean, linear", ...digits(channels.linear_mean)],
      ["deviation, linear", ...digits(channels.linear_std)],
      ["mean, sRGB", ...digits(channels.srgb_mean)],
      ["deviation, sRGB", ...digits(channels.srgb_std)],
    ]));
  }

  // --- start ---

  function start() {
    document.querySelector("main").hidden = false;
    makeFilters();
    applyFilters();
    window.addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
    new ResizeObserver(() => requestAnimationFrame(relayOut)).observe($("grid"));
    $("grid").addEventListener("keydown", moveInGrid);
    $("grid").addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) open(Number(cell.dataset.index));
    });
    $("detail").addEventListener("keydown", keyInDetail);
    $("detail").addEventListener("close", () => focusCell(current));
    $("previous").addEventListener("click", () => step(-1));
    $("next").addEventListener("click", () => step(1));
    $("close").addEventListener("click", () => $("detail").close());
    $("copy").addEventListener("click", copyPath);
    $("picture").addEventListener("error", () => {
      $("picture-problem").textContent = miss($("picture").getAttribute("src"));
    });
    for (const name of ["boxes", "contours", "masks"]) $(`show-${name}`).addEventListener("change", switchLayers);
  }

  // Anew only if another number of columns fits; else the focus would be lost for nothing.
  function relayOut() {
    const fitting = Math.max(1, Math.floor(($("grid").clientWidth + GAP) / (cellWidth() + GAP)));
    if (fitting !== columns) layOut();
    else render();
  }

  $("about").textContent = $("about").className = "";
  document.addEventListener("DOMContentLoaded", checkFiles);
  return { receive };
})();
