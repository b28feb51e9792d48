// The answer, over the picture. gradio calls this once with `element`, `props`, `watch`, `trigger`; drawing.js, waiting.js
// and taking_home.js are parts of the same script. `props.value` is what `Answerer.answer` (answers.py) yields.
// Segments are numbered from 1 in `map`, which tells for each pixel which one is seen, and in `solid`, the same without
// stray pixels. `masks` holds a bit for each
// pixel of each instance, also where another one covers it; null if nothing is covered.
const at = (selector) => element.querySelector(selector);
const canvas = at("canvas"), video = at("video"), tip = at(".tip"), list = at(".segments"), stage = at(".stage");
let turns = 0, answer = null, photo = null, map = null, solid = null, masks = null, hidden = new Set(), selected = 0, hovered = 0;

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
  if (!value.picture) return [null, null, null, null];
  const picture = createImageBitmap(new Blob([bytesOf(value.picture)]));
  const bits = value.masks === null ? null : new Uint8Array(await inflated(value.masks));
  const [seen, rims] = [value.map, value.solid].map(async (packed) => new Uint16Array(await inflated(packed)));
  return [await picture, await seen, await rims, bits];
}

async function show(value) {
  const turn = ++turns, [picture, seen, rims, bits] = await decoded(value);
  if (turn !== turns) return;
  endWaiting();
  const isSamePicture = answer !== null && photo !== null && picture !== null && answer.name === asked.name;
  [answer, photo, map, solid, masks] = [{ ...value, name: asked.name }, picture, seen, rims, bits];
  if (!isSamePicture) hidden = new Set();
  selected = hovered = 0;
  at(".detail").textContent = "";
  hidePreview();
  video.hidden = !value.video;
  if (value.video) video.src = value.video;
  canvas.hidden = at(".found").hidden = at(".tools").hidden = photo === null;
  at(".work").hidden = photo === null && !value.video;
  if (photo !== null) {
    canvas.setAttribute("aria-label", `${value.message} Listed below.`);
    listClasses();
    refilter();
  }
  zoomTo(1);
  offer(value.files ?? []);
  say(value.message, value.error);
  if (asked.why !== "threshold") reveal();
}

// The one place for what the page has to say: of an answer, or what went wrong. The next question clears it.
function say(message, isError) {
  at(".told").classList.toggle("error", isError);
  at(".told").textContent = message;
}

// On a phone the answer lies below the question.
function reveal() {
  const { top } = element.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 3) element.scrollIntoView({ block: "start" });
}

function listClasses() {
  const names = [...new Set(answer.segments.map((found) => found.name))].sort();
  hidden = new Set([...hidden].filter((name) => names.includes(name)));
  at(".classes").hidden = names.length === 0;
  at(".switches").replaceChildren(...names.map((name) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !hidden.has(name);
    box.value = name;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(name);
      else hidden.add(name);
      refilter();
    });
    label.append(box, ` ${name} (${answer.segments.filter((found) => found.name === name).length})`);
    return label;
  }));
}

function refilter() {
  if (masks !== null) uncover();
  prepare();
  if (selected && !isShown(selected)) select(0);
  listSegments();
  draw();
  placeNames();
}

// Places in `answer.segments`, in the order that is chosen.
function ordered() {
  const places = answer.segments.map((_, place) => place), found = answer.segments;
  const by = {
    size: (a, b) => (found[b].area ?? 0) - (found[a].area ?? 0),
    score: (a, b) => (found[b].score ?? 0) - (found[a].score ?? 0),
    class: (a, b) => found[a].name.localeCompare(found[b].name),
  };
  return places.sort(by[at(".order select").value]);
}

function listSegments() {
  list.replaceChildren(...ordered().flatMap((place) => {
    const found = answer.segments[place];
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

at(".order select").addEventListener("change", listSegments);
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && photo !== null) select(0);
});
for (const [selector, isOn] of [[".all", true], [".none", false]]) {
  at(selector).addEventListener("click", () => {
    for (const box of at(".switches").querySelectorAll("input")) box.checked = isOn;
    hidden = new Set(isOn ? [] : answer.segments.map((found) => found.name));
    refilter();
  });
}
watch("value", () => {
  if (props.value) receive(props.value);
});
