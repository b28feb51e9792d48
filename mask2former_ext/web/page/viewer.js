// What was found, over the picture. gradio calls this once with `element`, `props`, `watch`; `props.value` is the answer
// of `Answerer.answer` (answers.py). Segments are numbered from 1 in `map`, which tells for each pixel which one is seen.
// `masks` holds a bit for each pixel of each instance, also where another one covers it; null if nothing is covered.
const at = (selector) => element.querySelector(selector);
const canvas = at("canvas"), video = at("video"), tip = at(".tip"), list = at(".segments");
const OPACITY = { plain: 0.5, active: 0.75, other: 0.2 };
const READABLE_SIDE = 480, LONGEST_SIDE = 4000;
let turns = 0, answer = null, photo = null, map = null, masks = null, hidden = new Set(), selected = 0, hovered = 0;

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const segment = (number) => answer.segments[number - 1];
const isShown = (number) => number > 0 && !hidden.has(segment(number).name);

function describe(number) {
  const { name, score, area } = segment(number);
  const share = (100 * area) / (answer.width * answer.height);
  const parts = [name];
  if (score !== null) parts.push(`score ${score.toFixed(2)}`);
  if (area !== null) parts.push(`${area.toLocaleString("en")} px (${share < 1 ? "<1" : share.toFixed(0)}%)`);
  return parts.join(", ");
}

async function inflated(base64) {
  const packed = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(packed).arrayBuffer();
}

async function decoded(value) {
  if (!value.picture) return [null, null, null];
  const picture = createImageBitmap(new Blob([bytesOf(value.picture)]));
  const bits = value.masks === null ? null : new Uint8Array(await inflated(value.masks));
  return [await picture, new Uint16Array(await inflated(value.map)), bits];
}

async function show(value) {
  const turn = ++turns, [picture, numbers, bits] = await decoded(value);
  if (turn !== turns) return;
  [answer, photo, map, masks] = [value, picture, numbers, bits];
  hidden = new Set();
  selected = hovered = 0;
  at(".detail").textContent = "";
  at(".told").classList.toggle("error", value.error);
  video.hidden = !value.video;
  if (value.video) video.src = value.video;
  else video.removeAttribute("src");
  canvas.hidden = at(".found").hidden = photo === null;
  if (photo !== null) {
    canvas.setAttribute("aria-label", `${value.message} Listed below.`);
    listClasses();
    draw();
  }
  placeNames();
  offer(value.files ?? []);
  at(".told").textContent = value.message;
}

function offer(files) {
  at(".files").replaceChildren(...files.map(({ label, name, url }) => {
    const link = document.createElement("a");
    Object.assign(link, { textContent: label, download: name, href: url });
    return link;
  }));
}

function overlay() {
  const { width, height } = answer, active = isShown(hovered) ? hovered : selected;
  const pixels = new ImageData(width, height), out = pixels.data;
  const reach = Math.max(1, Math.round(Math.min(width, height) / 300));
  const looks = [null, ...answer.segments.map((found, place) => {
    const [r, g, b] = [1, 3, 5].map((start) => parseInt(found.color.slice(start, start + 2), 16));
    const opacity = active === 0 ? OPACITY.plain : active === place + 1 ? OPACITY.active : OPACITY.other;
    return isShown(place + 1) ? [r, g, b, Math.round(255 * opacity)] : null;
  })];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const number = map[p], look = looks[number];
      if (!look) continue;
      const isEdge = (x >= reach && map[p - reach] !== number) || (y >= reach && map[p - reach * width] !== number)
        || (x + reach < width && map[p + reach] !== number) || (y + reach < height && map[p + reach * width] !== number);
      out[4 * p] = look[0];
      out[4 * p + 1] = look[1];
      out[4 * p + 2] = look[2];
      out[4 * p + 3] = isEdge ? 255 : look[3];
    }
  }
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(pixels, 0, 0);
  return layer;
}

// Names on the picture: of segments that are larger than their name, as many as fit beside each other.
function placeNames() {
  at(".names").replaceChildren();
  if (photo === null) return;
  const frame = canvas.getBoundingClientRect(), scale = frame.width / answer.width, taken = [];
  answer.segments.forEach(({ name, score, area, center, color }, place) => {
    if (!center || !isShown(place + 1)) return;
    const label = document.createElement("span");
    label.textContent = score === null ? name : `${name} ${score.toFixed(2)}`;
    label.style.borderColor = color;
    at(".names").append(label);
    const { width, height } = label.getBoundingClientRect();
    const left = Math.max(0, Math.min(center[0] * scale - width / 2, frame.width - width));
    const top = Math.max(0, Math.min(center[1] * scale - height / 2, frame.height - height));
    const meets = (other) => left < other.left + other.width && other.left < left + width
      && top < other.top + height && other.top < top + height;
    if (area * scale * scale < width * height || taken.some(meets)) {
      label.remove();
      return;
    }
    Object.assign(label.style, { left: `${left}px`, top: `${top}px` });
    taken.push({ left, top, width });
  });
}

function draw() {
  const { width, height } = answer, wanted = Math.ceil(READABLE_SIDE / Math.min(width, height));
  const factor = Math.max(1, Math.min(wanted, Math.floor(LONGEST_SIDE / Math.max(width, height))));
  canvas.width = factor * width;
  canvas.height = factor * height;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  context.drawImage(overlay(), 0, 0, canvas.width, canvas.height);
  context.lineWidth = 3;
  answer.segments.forEach(({ area, box, color }, place) => {
    if (area !== null || !isShown(place + 1)) return;
    context.strokeStyle = color;
    context.strokeRect(factor * box[0], factor * box[1], factor * (box[2] - box[0]), factor * (box[3] - box[1]));
  });
}

function listClasses() {
  const names = [...new Set(answer.segments.map((found) => found.name))].sort();
  at(".classes").hidden = names.length === 0;
  at(".switches").replaceChildren(...names.map((name) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.value = name;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(name);
      else hidden.add(name);
      refilter();
    });
    label.append(box, ` ${name} (${answer.segments.filter((found) => found.name === name).length})`);
    return label;
  }));
  listSegments();
}

// Of the instances that are shown the smaller lies on top: what a hidden one covered is seen.
function uncover() {
  const pixels = answer.width * answer.height;
  const shown = answer.segments.map((_, place) => place).filter((place) => isShown(place + 1));
  map.fill(0);
  for (const place of shown.sort((a, b) => answer.segments[b].area - answer.segments[a].area)) {
    for (let p = 0, bit = place * pixels; p < pixels; p++, bit++) {
      if (masks[bit >> 3] & (128 >> (bit & 7))) map[p] = place + 1;
    }
  }
}

function refilter() {
  if (masks !== null) uncover();
  if (selected && !isShown(selected)) select(0);
  listSegments();
  draw();
  placeNames();
}

function listSegments() {
  list.replaceChildren(...answer.segments.flatMap((found, place) => {
    if (hidden.has(found.name)) return [];
    const item = document.createElement("li"), button = document.createElement("button");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = found.color;
    button.type = "button";
    button.dataset.number = place + 1;
    button.append(swatch, describe(place + 1));
    button.setAttribute("aria-pressed", selected === place + 1);
    for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => hover(place + 1));
    for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => hover(0));
    button.addEventListener("click", () => select(selected === place + 1 ? 0 : place + 1));
    item.append(button);
    return [item];
  }));
}

function hover(number) {
  if (number === hovered) return;
  hovered = number;
  draw();
}

function select(number) {
  selected = number;
  at(".detail").textContent = number ? describe(number) : "";
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", Number(button.dataset.number) === number);
  }
  draw();
}

function numberUnder(event) {
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) * answer.width) / box.width);
  const y = Math.floor(((event.clientY - box.top) * answer.height) / box.height);
  const isInside = x >= 0 && y >= 0 && x < answer.width && y < answer.height;
  const number = isInside ? map[y * answer.width + x] : 0;
  if (number) return isShown(number) ? number : 0;
  // Of what is known by its box alone, the best one there.
  const inBox = ({ area, box }, place) => area === null && isShown(place + 1) && x >= box[0] && y >= box[1] && x < box[2] && y < box[3];
  return answer.segments.findIndex(inBox) + 1;
}

canvas.addEventListener("pointermove", (event) => {
  const number = numberUnder(event), box = canvas.getBoundingClientRect();
  hover(number);
  tip.hidden = number === 0;
  if (number === 0) return;
  tip.textContent = describe(number);
  const x = event.clientX - box.left, y = event.clientY - box.top;
  tip.style.left = `${Math.max(0, Math.min(x + 12, box.width - tip.offsetWidth))}px`;
  tip.style.top = `${y > tip.offsetHeight + 12 ? y - tip.offsetHeight - 12 : y + 20}px`;
});
canvas.addEventListener("pointerleave", () => {
  tip.hidden = true;
  hover(0);
});
canvas.addEventListener("click", (event) => {
  const number = numberUnder(event);
  select(number === selected ? 0 : number);
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape") select(0);
});
for (const [selector, isOn] of [[".all", true], [".none", false]]) {
  at(selector).addEventListener("click", () => {
    for (const box of at(".switches").querySelectorAll("input")) box.checked = isOn;
    hidden = new Set(isOn ? [] : answer.segments.map((found) => found.name));
    refilter();
  });
}
new ResizeObserver(placeNames).observe(canvas);
watch("value", () => {
  if (props.value) show(props.value);
});
