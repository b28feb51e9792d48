// Part of viewer.js: what is seen from a question to its answer. The picture shows at once, dimmed, with what is happening
// and for how long.
let asked = { name: "", why: "file", ticket: null }; // the last question; the server has not heard of it while ticket is null
let began = null; // when the person began to wait; null while nobody waits
let clock = 0, dimming = 0, previewUrl = null;

function wait({ file, name, why }) {
  if (began !== null && asked.ticket !== null) trigger("stop", { ticket: asked.ticket });
  asked = { name, why, ticket: null };
  began = performance.now();
  turns++; // an answer that is being decoded comes too late
  at(".start").hidden = true;
  at(".work").hidden = at(".waiting").hidden = false;
  at("progress").hidden = true;
  say("", false);
  at(".doing").textContent = `Sending ${name}`;
  if (file !== null) preview(file);
  clearTimeout(dimming);
  dimming = setTimeout(() => at(".frame").classList.add("dim"), file === null ? 150 : 0); // a quick answer does not flicker
  clearInterval(clock);
  clock = setInterval(tick, 250);
  tick();
  fit();
  if (why !== "threshold") reveal();
}

function tick() {
  at(".clock").textContent = `… ${Math.floor((performance.now() - began) / 1000)} s`;
}

function endWaiting() {
  began = null;
  clearInterval(clock);
  clearTimeout(dimming);
  at(".frame").classList.remove("dim");
  at(".waiting").hidden = true;
}

// The file in the place of the last answer. Not every picture that the server reads can be shown by the browser.
function preview(file) {
  answer = photo = null;
  canvas.hidden = video.hidden = at(".found").hidden = at(".tools").hidden = true;
  offer([]);
  hidePreview();
  zoomTo(1);
  previewUrl = URL.createObjectURL(file);
  if (file.type.startsWith("video/")) {
    Object.assign(video, { src: previewUrl, controls: false, hidden: false });
  } else {
    Object.assign(at(".preview"), { src: previewUrl, hidden: false });
  }
  placeNames();
}

function hidePreview() {
  if (previewUrl !== null) URL.revokeObjectURL(previewUrl);
  previewUrl = null;
  at(".preview").hidden = true;
  at(".preview").removeAttribute("src");
  video.removeAttribute("src");
  video.controls = true;
}

function receive(value) {
  if (began === null || (value.ticket ?? null) !== asked.ticket) return; // of a question before, or canceled
  if (!value.working) {
    if (!value.stopped) show(value);
    return;
  }
  const { frame, frames } = value;
  at(".doing").textContent = `Segmenting ${asked.name}` + (frame ? `, frame ${frame}${frames ? ` of ${frames}` : ""}` : "");
  at("progress").hidden = !frames;
  if (frames) Object.assign(at("progress"), { max: frames, value: frame });
}

function giveUp(message, isError) {
  endWaiting();
  if (photo === null) at(".work").hidden = isError || previewUrl === null;
  say(message, isError);
}

at(".cancel").addEventListener("click", () => {
  if (asked.ticket !== null) trigger("stop", { ticket: asked.ticket });
  giveUp(`${asked.name}: canceled.`, false);
});
at(".preview").addEventListener("error", () => {
  at(".preview").hidden = true;
});
document.addEventListener("page:asked", (event) => wait(event.detail));
document.addEventListener("page:sent", (event) => {
  asked.ticket = event.detail;
  if (began === null) trigger("stop", { ticket: asked.ticket }); // canceled before it was sent
  else at(".doing").textContent = `Waiting for the model: ${asked.name}`;
});
document.addEventListener("page:failed", () => {
  setTimeout(() => document.querySelectorAll(".toast-close").forEach((close) => close.click())); // gradio says it too
  if (began === null) return;
  giveUp(`${asked.name} got no answer: more questions wait than may, or the server failed. Ask again in a moment.`, true);
});
document.addEventListener("page:refused", (event) => {
  say(event.detail, true);
  reveal();
});

// The sample of the model that is chosen, until the first question.
function offerSample(model) {
  const sample = props.samples[model];
  at(".sample").hidden = !sample;
  at(".sketch").toggleAttribute("hidden", Boolean(sample));
  if (sample) at(".sample img").src = `data:image/jpeg;base64,${sample.data}`;
  at(".sample").onclick = () => {
    const file = new File([bytesOf(sample.data)], sample.name, { type: "image/jpeg" });
    document.dispatchEvent(new CustomEvent("page:try", { detail: file }));
  };
}
document.addEventListener("page:model", (event) => offerSample(event.detail));
offerSample(props.first);
