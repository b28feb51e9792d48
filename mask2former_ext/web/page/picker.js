// The drop zone. gradio calls this once with `element`, `props`, `trigger`. The file stays in the browser and travels
// with each question, so that the server keeps nothing. The parts of the page talk by events of the document:
// page:try (a File to take), page:refused (a message), page:asked (a question is put), page:again (put it again),
// page:sent (its ticket), page:failed (no answer will come), page:model (the name of the model that is chosen).
const input = element.querySelector("input");
const zone = element.querySelector(".drop");
const chosen = element.querySelector(".chosen");
const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`page:${name}`, { detail }));

function take(file) {
  if (!file) return;
  if (file.size > props.max_bytes) {
    tell("refused", `${file.name} has ${(file.size / 1e6).toFixed(1)} MB, but at most ${props.max_bytes / 1e6} MB are taken.`);
    return;
  }
  const reader = new FileReader();
  reader.onerror = () => tell("refused", `${file.name} cannot be read.`);
  reader.onload = () => {
    chosen.textContent = file.name;
    props.value = { name: file.name, data: reader.result.slice(reader.result.indexOf(",") + 1) };
    tell("asked", { file, name: file.name, why: "file" });
    trigger("submit");
  };
  reader.readAsDataURL(file);
}

input.addEventListener("change", () => {
  take(input.files[0]);
  input.value = "";
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  zone.addEventListener(kind, (event) => {
    event.preventDefault();
    zone.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("page:try", (event) => take(event.detail));
document.addEventListener("page:again", (event) => {
  if (!props.value) return;
  tell("asked", { file: null, name: props.value.name, why: event.detail });
  trigger("submit");
});
