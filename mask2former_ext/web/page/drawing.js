// Part of viewer.js: what is drawn, where names go, zoom, and what lies under the pointer.
const OPACITY_OF_OTHERS = 0.4, OPACITY_OF_ACTIVE = 1.5; // of what the slider says, while one segment is pointed at
const READABLE_SIDE = 480, LONGEST_SIDE = 4000;
const NAME_PX = 13, NAME_FONT = "system-ui, sans-serif";
const LARGEST_ZOOM = 8, ZOOM_STEP = 1.5;
const pen = new OffscreenCanvas(1, 1).getContext("2d");
let zoom = 1, opacity = 0.5, painted = null;

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

// Each pixel becomes four, and steps along an edge are rounded (Scale2x, scale2x.it/algorithm).
function doubled(numbers, width, height) {
  const out = new Uint16Array(4 * numbers.length);
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0, q = 4 * y * width; x < width; x++, p++, q += 2) {
      const here = numbers[p], left = x > 0 ? numbers[p - 1] : here, right = x + 1 < width ? numbers[p + 1] : here;
      const above = y > 0 ? numbers[p - width] : here, below = y + 1 < height ? numbers[p + width] : here;
      const isCorner = left !== right && above !== below;
      out[q] = isCorner && left === above ? left : here;
      out[q + 1] = isCorner && right === above ? right : here;
      out[q + 2 * width] = isCorner && left === below ? left : here;
      out[q + 2 * width + 1] = isCorner && right === below ? right : here;
    }
  }
  return out;
}

// What is painted: `map`, and `solid`, in which stray pixels belong to what lies around them, so that they get no rim.
// Both are as large as the canvas. Of instances, which are uncovered one by one, the two are the same.
function prepare() {
  let { width, height } = answer;
  let [seen, rims] = [map, masks === null ? solid : map];
  while (Math.min(width, height) < READABLE_SIDE && 2 * Math.max(width, height) <= LONGEST_SIDE) {
    const isSame = seen === rims;
    seen = doubled(seen, width, height);
    rims = isSame ? seen : doubled(rims, width, height);
    [width, height] = [2 * width, 2 * height];
  }
  painted = { width, height, seen, rims };
}

function overlay() {
  const { width, height, seen, rims } = painted, active = isShown(hovered) ? hovered : selected;
  const pixels = new ImageData(width, height), out = pixels.data;
  const reach = Math.max(1, Math.round(Math.min(width, height) / 300));
  const looks = [null, ...answer.segments.map((found, place) => {
    const [r, g, b] = [1, 3, 5].map((start) => parseInt(found.color.slice(start, start + 2), 16));
    const factor = active === 0 ? 1 : active === place + 1 ? OPACITY_OF_ACTIVE : OPACITY_OF_OTHERS;
    return isShown(place + 1) ? [r, g, b, Math.round(255 * Math.min(1, factor * opacity))] : null;
  })];
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const look = looks[seen[p]], number = rims[p];
      if (!look) continue;
      const isEdge = (x >= reach && rims[p - reach] !== number) || (y >= reach && rims[p - reach * width] !== number)
        || (x + reach < width && rims[p + reach] !== number) || (y + reach < height && rims[p + reach * width] !== number);
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

function draw() {
  const factor = painted.width / answer.width;
  canvas.width = painted.width;
  canvas.height = painted.height;
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  context.drawImage(overlay(), 0, 0);
  context.lineWidth = 3;
  answer.segments.forEach(({ area, box, color }, place) => {
    if (area !== null || !isShown(place + 1)) return;
    context.strokeStyle = color;
    context.strokeRect(factor * box[0], factor * box[1], factor * (box[2] - box[0]), factor * (box[3] - box[1]));
  });
}

// Names of segments that are larger than their name, the largest first, as many as fit beside each other on a picture of
// this size: { text, color, left, top, width, height } each.
function namePlaces(frameWidth, frameHeight, fontPx) {
  const scale = frameWidth / answer.width, taken = [];
  pen.font = `${fontPx}px ${NAME_FONT}`;
  const places = answer.segments.map((_, place) => place);
  const bySize = places.sort((a, b) => (answer.segments[b].area ?? 0) - (answer.segments[a].area ?? 0));
  for (const place of bySize) {
    const { name, score, area, center, color } = answer.segments[place];
    if (!center || !isShown(place + 1)) continue;
    const text = score === null ? name : `${name} ${score.toFixed(2)}`;
    const width = Math.ceil(pen.measureText(text).width + 1.3 * fontPx), height = Math.round(1.5 * fontPx);
    const left = Math.max(0, Math.min(center[0] * scale - width / 2, frameWidth - width));
    const top = Math.max(0, Math.min(center[1] * scale - height / 2, frameHeight - height));
    const meets = (other) => left < other.left + other.width && other.left < left + width
      && top < other.top + height && other.top < top + height;
    if (area * scale * scale >= width * height && !taken.some(meets)) taken.push({ text, color, left, top, width, height });
  }
  return taken;
}

function placeNames() {
  at(".names").replaceChildren();
  if (photo === null || canvas.hidden) return;
  const frame = canvas.getBoundingClientRect();
  at(".names").append(...namePlaces(frame.width, frame.height, NAME_PX).map(({ text, color, left, top, width, height }) => {
    const label = document.createElement("span");
    label.textContent = text;
    Object.assign(label.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    Object.assign(label.style, { borderColor: color, font: `${NAME_PX}px/${height}px ${NAME_FONT}` });
    return label;
  }));
}

// Everything in the frame is as large as fits beside the list and on the screen, times the zoom.
function fit() {
  const parts = [[at(".preview"), "naturalWidth", "naturalHeight"], [video, "videoWidth", "videoHeight"], [canvas, "width", "height"]];
  const [part, width, height] = parts.map(([each, w, h]) => [each, each[w], each[h]]).find(([each, w]) => !each.hidden && w) ?? [];
  if (!part) return;
  const scale = Math.min(at(".frame").clientWidth / width, (0.8 * innerHeight) / height);
  stage.style.maxHeight = `${Math.ceil(scale * height)}px`;
  part.style.width = `${Math.max(1, zoom * scale * width)}px`;
  part.style.height = `${Math.max(1, zoom * scale * height)}px`;
  stage.classList.toggle("moves", zoom > 1);
  stage.tabIndex = zoom > 1 ? 0 : -1; // arrow keys move it
  placeNames();
}

// `x`, `y`: the point of the stage, in shares of it, that stays in its place.
function zoomTo(wanted, x = 0.5, y = 0.5) {
  const before = zoom, { clientWidth, clientHeight, scrollLeft, scrollTop } = stage;
  zoom = Math.max(1, Math.min(LARGEST_ZOOM, wanted));
  fit();
  const moved = (scroll, side, share) => ((scroll + share * side) * zoom) / before - share * side;
  stage.scrollTo(moved(scrollLeft, clientWidth, x), moved(scrollTop, clientHeight, y));
  at(".whole").textContent = `${Math.round(100 * zoom)}%`;
  at(".smaller").disabled = zoom === 1;
  at(".larger").disabled = zoom === LARGEST_ZOOM;
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

let grip = null; // where the pointer took hold of an enlarged picture
canvas.addEventListener("pointerdown", (event) => {
  const isHeld = zoom > 1 && event.pointerType === "mouse";
  grip = isHeld ? { x: event.clientX, y: event.clientY, left: stage.scrollLeft, top: stage.scrollTop, moved: false } : null;
});
addEventListener("pointermove", (event) => {
  if (grip === null || event.buttons === 0) return;
  const [x, y] = [event.clientX - grip.x, event.clientY - grip.y];
  grip.moved ||= Math.hypot(x, y) > 4;
  stage.scrollTo(grip.left - x, grip.top - y);
});
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
  const wasMoved = grip?.moved;
  grip = null;
  if (wasMoved) return;
  const number = numberUnder(event);
  select(number === selected ? 0 : number);
});
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey || photo === null) return; // also a pinch on a touchpad; the wheel alone moves the page
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  zoomTo(zoom * Math.exp(-event.deltaY / 200), ...share);
}, { passive: false });
at(".smaller").addEventListener("click", () => zoomTo(zoom / ZOOM_STEP));
at(".larger").addEventListener("click", () => zoomTo(zoom * ZOOM_STEP));
at(".whole").addEventListener("click", () => zoomTo(1));
at(".opacity").addEventListener("input", (event) => {
  opacity = event.target.value / 100;
  draw();
});
video.addEventListener("loadedmetadata", fit);
at(".preview").addEventListener("load", fit);
new ResizeObserver(fit).observe(at(".frame"));
addEventListener("resize", fit);
