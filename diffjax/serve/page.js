"use strict";
const at = id => document.getElementById(id), form = at("form"), fields = form.elements;
const MOST = 512;  // pixels of a side of an upload
let about = null, running = null, pace = null;  // pace: milliseconds per row, as measured here

const say = text => at("message").textContent = text;

// Why an answer is no success; that of a proxy may not be JSON.
async function why(answer) {
  try { return (await answer.json()).error.message; } catch { return `the answer is ${answer.status}`; }
}

function moved(...names) {
  for (const name of names) fields[name].dispatchEvent(new Event("input"));
}

// The quality slider counts steps, says how long they take once a request was timed, and the error
// where the run has measured it: that of the most steps up to these.
function measured(steps) {
  if (about && about.guidance != null && +fields.guidance.value != about.guidance) return "";  // of another guidance
  const points = about && about.errors[fields.sampler.value] || [];
  const last = points.filter(([count]) => count <= steps).pop();
  return last ? `, error ${last[1] < 10 ? last[1].toPrecision(2) : Math.round(last[1])} ${about.unit}` : "";
}

function quality() {
  const part = at("editor").hidden ? 1 : +fields.strength.value;  // of the steps, from an image
  const steps = +fields.steps.value, passes = pace && (pace.rows[fields.sampler.value] || 1) * steps * part;
  const waves = about ? Math.ceil(fields.num.value / about.slots) : 1;
  const seconds = pace && pace.milliseconds * passes * waves / 1000;
  at("steps-value").textContent = `${steps} steps` + (pace ? `, ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : "") + measured(steps);
}
for (const name of ["guidance", "num", "strength", "brush"]) {
  fields[name].addEventListener("input", () => at(name + "-value").textContent = fields[name].value);
}
for (const name of ["steps", "num", "sampler", "strength", "guidance"]) fields[name].addEventListener("input", quality);

function options(select, names, chosen, values = names) {
  names.forEach((name, k) => select.add(new Option(name, values[k], false, values[k] === chosen)));
}

async function begin() {
  let answer;
  moved("guidance", "num", "strength", "brush");
  for (;;) {
    answer = await fetch("v1/about").catch(() => null);
    if (answer && answer.ok) break;
    at("about").textContent = answer ? await why(answer) : "the server does not answer";
    await new Promise(wake => setTimeout(wake, 1000));
  }
  about = await answer.json();
  at("about").textContent = `${about.network}, step ${about.step}, ${about.kind} ${about.shape.join(" x ")}, ${about.slots} slots`;
  options(fields.sampler, about.samplers, about.sampler);
  options(fields.label, about.classes, null, about.classes.map((_, k) => String(k)));
  fields.steps.max = Math.min(200, about.limits.steps);
  fields.steps.value = about.steps;
  fields.num.max = Math.min(32, about.limits.num);
  if (about.guidance != null) {
    fields.guidance.max = Math.max(8, about.guidance);
    fields.guidance.value = about.guidance;
  }
  moved("steps", "num", "guidance");
  at("labels").hidden = !about.classes.length;
  at("prompt").hidden = !about.prompts;
  at("negative").hidden = !about.prompts || !about.guided;
  at("guidance").hidden = !about.guided;
  at("key").hidden = !about.keys;
  at("upload").hidden = at("edit").hidden = about.kind != "image" || about.stages > 1;
}

// An upload, cut and scaled here, and the paint over what may change.
const picture = at("picture").getContext("2d"), paint = at("mask").getContext("2d");
let painted = false;

const loaded = source => new Promise((done, failed) => {
  const image = new Image();
  image.onload = () => done(image);
  image.onerror = () => failed(new Error("the file is no image that this browser can read"));
  image.src = source;
});

const read = file => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(file);
});

async function upload(source, mask) {
  const image = await loaded(source), [high, wide] = about.shape, ratio = wide / high;
  const width = Math.min(image.width, image.height * ratio), height = width / ratio;
  const scale = Math.min(1, MOST / Math.max(width, height));
  for (const canvas of [at("picture"), at("mask")]) {
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
  }
  at("paint").style.aspectRatio = ratio;
  const { width: w, height: h } = at("picture");
  picture.drawImage(image, (image.width - width) / 2, (image.height - height) / 2, width, height, 0, 0, w, h);
  painted = !!mask;
  if (mask) {  // black is kept, and paint is what is not
    paint.drawImage(await loaded(mask), 0, 0, w, h);
    const pixels = paint.getImageData(0, 0, w, h);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([224, 48, 48, pixels.data[i]], i);
    paint.putImageData(pixels, 0, 0);
  }
  at("editor").hidden = false;
  quality();
}

function masked() {  // white where there is paint
  const { width, height } = at("mask"), out = document.createElement("canvas"), on = out.getContext("2d");
  out.width = width;
  out.height = height;
  const pixels = paint.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.fill(pixels.data[i + 3], i, i + 3), pixels.data[i + 3] = 255;
  on.putImageData(pixels, 0, 0);
  return out.toDataURL("image/png");
}

function unload() {
  fields.image.value = "";
  at("editor").hidden = true;
  quality();
  clear();
}

function clear() {
  painted = false;
  paint.clearRect(0, 0, at("mask").width, at("mask").height);
}

let last = null;
function draw(event) {
  const box = at("mask").getBoundingClientRect(), scale = at("mask").width / box.width;
  const point = [(event.clientX - box.x) * scale, (event.clientY - box.y) * scale];
  paint.strokeStyle = "rgb(224 48 48)";
  paint.lineCap = paint.lineJoin = "round";
  paint.lineWidth = fields.brush.value / 100 * at("mask").width;
  paint.beginPath();
  paint.moveTo(...(last || point));
  paint.lineTo(point[0] + 0.01, point[1]);
  paint.stroke();
  last = point;
  painted = true;
}
at("mask").addEventListener("pointerdown", event => {
  at("mask").setPointerCapture(event.pointerId);
  last = null;
  draw(event);
});
at("mask").addEventListener("pointermove", event => event.buttons && draw(event));
at("clear").addEventListener("click", clear);
at("remove").addEventListener("click", unload);
fields.image.addEventListener("change", async () => {
  if (!fields.image.files.length) return unload();
  clear();
  await read(fields.image.files[0]).then(upload).catch(error => { unload(); say(error.message); });
});

function request() {
  const asked = { num: +fields.num.value, steps: +fields.steps.value, sampler: fields.sampler.value };
  asked.every = Math.max(1, Math.round(asked.steps / 12));
  if (fields.label.value) asked.label = +fields.label.value;
  if (fields.prompt.value) asked.prompt = fields.prompt.value;
  if (!at("negative").hidden && fields.negative.value) asked.negative = fields.negative.value;
  if (fields.seed.value) asked.seed = +fields.seed.value;
  if (fields.index.value) asked.index = +fields.index.value;
  if (!at("guidance").hidden) asked.guidance = +fields.guidance.value;
  if (!at("editor").hidden) {
    asked.image = at("picture").toDataURL("image/png");
    asked.strength = +fields.strength.value;
    if (painted) asked.mask = masked();
  }
  return asked;
}

// The gallery is kept in this browser, or in memory where the browser keeps nothing.
const items = new Map();
const stored = new Promise(done => {
  try {
    const opening = indexedDB.open("diffjax", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("items", { keyPath: "id" });
    opening.onsuccess = () => done(opening.result);
    opening.onerror = () => done(null);
  } catch { done(null); }
});

async function inStore(mode, use) {
  const base = await stored;
  if (!base) return [];
  return new Promise(done => {
    const transaction = base.transaction("items", mode), asked = use(transaction.objectStore("items"));
    transaction.oncomplete = () => done(asked.result);
    transaction.onabort = transaction.onerror = () => { say("this browser has no room for the image"); done([]); };
  });
}

function cell() {
  const figure = document.createElement("figure"), open = document.createElement("button"), image = new Image();
  const bar = document.createElement("progress"), caption = document.createElement("figcaption");
  open.type = "button";
  open.disabled = true;
  image.alt = "";
  bar.value = 0;
  open.append(image);
  figure.append(open, bar, caption);
  return { figure, open, image, bar, caption };
}

const words = item => [item.label == null ? null : about.classes[item.label], item.prompt, `seed ${item.seed}, number ${item.number}`].filter(Boolean).join(", ");

function kept(cell, item) {
  items.set(item.id, { ...item, cell });
  const choose = document.createElement("input");
  choose.type = "checkbox";
  choose.setAttribute("aria-label", "choose");
  choose.addEventListener("change", () => { cell.figure.classList.toggle("chosen", choose.checked); count(); });
  cell.open.disabled = false;
  cell.open.setAttribute("aria-label", `open ${words(item)}`);
  cell.open.addEventListener("click", () => show(item.id));
  cell.image.src = "data:image/png;base64," + item.png;
  cell.image.alt = "sample";
  cell.bar.hidden = true;
  cell.caption.textContent = words(item);
  cell.figure.append(choose);
  count();
}

const chosen = () => [...items.values()].filter(item => item.cell.figure.classList.contains("chosen"));

function count() {
  at("gallery").hidden = !items.size;
  at("delete").disabled = !chosen().length;
  at("all").textContent = items.size && chosen().length == items.size ? "Choose none" : "Choose all";
}

// An image leaves the page once the browser has deleted it: it would come back after a reload.
async function drop(...ids) {
  await inStore("readwrite", store => ids.map(id => store.delete(id)).at(-1));
  for (const id of ids) {
    if (!items.has(id)) continue;  // dropped twice
    items.get(id).cell.figure.remove();
    items.delete(id);
  }
  count();
}

at("delete").addEventListener("click", () => drop(...chosen().map(item => item.id)));
at("all").addEventListener("click", () => {
  const on = chosen().length < items.size;
  for (const { cell } of items.values()) {
    cell.figure.classList.toggle("chosen", on);
    cell.figure.querySelector("input").checked = on;
  }
  count();
});

// One image, large, with the settings that give it again.
let shown = null;
const ABOUT = ["label", "prompt", "negative", "sampler", "steps", "guidance", "strength", "seed", "number", "passes"];

function show(id) {
  shown = items.get(id);
  at("large-image").src = "data:image/png;base64," + shown.png;
  const value = { ...shown.asked, ...shown };
  if (value.label != null) value.label = about.classes[value.label];
  const lines = ABOUT.filter(name => value[name] != null && (name != "strength" || shown.asked.image));
  at("large-about").replaceChildren(...lines.flatMap(name => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value[name];
    return [term, text];
  }));
  if (!at("large").open) at("large").showModal();
}

function next(by) {
  const order = [...at("samples").children].map(figure => [...items.values()].find(item => item.cell.figure == figure)).filter(Boolean);
  const place = order.findIndex(item => item.id == shown.id) + by;
  if (order[place]) show(order[place].id);
}

at("large").addEventListener("keydown", event => {
  if (event.key == "ArrowLeft") next(-1);
  if (event.key == "ArrowRight") next(1);
});
at("close").addEventListener("click", () => at("large").close());
at("large").addEventListener("click", event => event.target == at("large") && at("large").close());
at("drop").addEventListener("click", () => { at("large").close(); drop(shown.id); });
at("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = at("large-image").src;
  link.download = `${shown.seed}_${shown.number}.png`;
  link.click();
});
at("edit").addEventListener("click", async () => {
  at("large").close();
  clear();
  await upload(at("large-image").src);
  at("editor").scrollIntoView({ behavior: "smooth", block: "center" });
});
at("reuse").addEventListener("click", async () => {
  const { asked, seed, number } = shown;
  at("large").close();
  for (const name of ["steps", "sampler", "guidance", "strength"]) if (asked[name] != null) fields[name].value = asked[name];
  for (const name of ["label", "prompt", "negative"]) fields[name].value = asked[name] ?? "";
  if (asked.label == null && shown.label != null) fields.label.value = shown.label;
  fields.seed.value = seed;
  fields.index.value = number;
  fields.num.value = 1;
  moved("steps", "guidance", "strength", "num");
  unload();
  if (asked.image) await upload(asked.image, asked.mask);
  form.scrollIntoView({ behavior: "smooth" });
});

// Events of the server: a row, a sample, the end.
function told(cells, asked, name, data) {
  const cell = cells[data.place];
  if (name == "row") {
    if (data.png) cell.image.src = "data:image/png;base64," + data.png;
    cell.bar.value = data.row / data.rows;
    const now = performance.now();
    if (data.row == 1) Object.assign(cell, { began: now });
    if (data.row == data.rows && data.rows > 2) {
      const rows = { ...(pace && pace.rows), [asked.sampler]: data.rows / (asked.steps * (asked.strength ?? 1)) };
      pace = { milliseconds: (now - cell.began) / (data.rows - 1), rows };
      quality();
    }
  }
  if (name != "sample") return;
  cell.ended = true;
  if (data.error) {
    cell.bar.hidden = true;
    cell.caption.textContent = data.error;
    return;
  }
  const { place, ...item } = data;
  item.id = crypto.getRandomValues(new Uint32Array(2)).join("-");
  Object.assign(item, { asked, time: Date.now() });
  kept(cell, item);
  return inStore("readwrite", store => store.put(item));
}

async function stream(asked, signal) {
  const headers = { "Content-Type": "application/json" };
  if (fields.key.value) headers.Authorization = `Bearer ${fields.key.value}`;
  const answer = await fetch("v1/samples/events", { method: "POST", signal, headers, body: JSON.stringify(asked) });
  if (!answer.ok) throw new Error(await why(answer));
  const cells = Array.from({ length: asked.num }, cell), saved = [];
  at("samples").prepend(...cells.map(c => c.figure));
  try {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "", part, ended = false;
    while (!(part = await reader.read()).done) {
      const events = (text += part.value).split(/\r?\n\r?\n/);
      text = events.pop();
      for (const event of events) {
        const name = /^event: ?(.*)$/m.exec(event), data = /^data: ?(.*)$/m.exec(event);
        ended = ended || name && name[1] == "end";
        if (name && data) saved.push(told(cells, asked, name[1], JSON.parse(data[1])));
      }
    }
    if (!ended) throw new TypeError("the stream broke off");
    await Promise.all(saved);
  } finally {
    for (const cell of cells) if (!cell.ended) cell.figure.remove();
  }
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  const began = performance.now();
  running = new AbortController();
  at("go").disabled = true;
  at("stop").disabled = false;
  say("");
  try {
    const asked = request();
    await stream(asked, running.signal);
    say(`${asked.num} samples in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    const lost = "the connection to the server was lost; samples that are missing here were not finished";
    say(error.name == "AbortError" ? "stopped" : error instanceof TypeError ? lost : error.message);
  }
  at("go").disabled = false;
  at("stop").disabled = true;
});
at("stop").addEventListener("click", () => running && running.abort());

begin().then(() => inStore("readonly", store => store.getAll())).then(found => {
  for (const item of found.sort((a, b) => a.time - b.time)) {
    const one = cell();
    at("samples").prepend(one.figure);
    kept(one, item);
  }
});
