// The drop zone. gradio calls this once with `element`, `props`, `trigger`. The file stays in the browser and travels
// with each question, so that the server keeps nothing.
const input = element.querySelector("input");
const zone = element.querySelector(".drop");
const chosen = element.querySelector(".chosen");
const refused = element.querySelector(".refused");

function take(file) {
  refused.textContent = "";
  if (!file) return;
  if (file.size > props.max_bytes) {
    refused.textContent = `${file.name} has ${(file.size / 1e6).toFixed(1)} MB, but at most ${props.max_bytes / 1e6} MB are taken`;
    return;
  }
  const reader = new FileReader();
  reader.onerror = () => { refused.textContent = `${file.name} cannot be read`; };
  reader.onload = () => {
    chosen.textContent = file.name;
    props.value = { name: file.name, data: reader.result.slice(reader.result.indexOf(",") + 1) };
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
