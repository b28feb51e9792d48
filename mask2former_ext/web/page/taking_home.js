// Part of viewer.js: the files of an answer, and the picture as it is seen: what is hidden stays hidden.
function offer(files) {
  const links = files.map(({ label, name, url }) => {
    const link = document.createElement("a");
    Object.assign(link, { textContent: label, download: name, href: url });
    return link;
  });
  at(".files").replaceChildren(...(photo === null ? links : [...pictureButtons(), ...links]));
}

function pictureButtons() {
  const save = button("Picture (PNG)", async () => {
    const link = document.createElement("a"), url = URL.createObjectURL(await picture());
    Object.assign(link, { download: answer.picture_name, href: url });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it when it can
  });
  // A browser has a clipboard for pictures on this machine and over https alone.
  if (!navigator.clipboard?.write || !window.ClipboardItem) return [save];
  const copy = button("Copy picture", async () => {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picture() })]);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy picture"; }, 2000);
  });
  return [save, copy];
}

function button(text, act) {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", textContent: text });
  made.addEventListener("click", () => act().catch((error) => say(`${text} failed: ${error.message}.`, true)));
  return made;
}

// A PNG of what the canvas shows, with the names on it.
function picture() {
  const made = document.createElement("canvas");
  [made.width, made.height] = [canvas.width, canvas.height];
  const context = made.getContext("2d");
  context.drawImage(canvas, 0, 0);
  const fontPx = Math.max(11, Math.round(Math.min(made.width, made.height) / 40));
  context.font = `${fontPx}px ${NAME_FONT}`;
  context.textBaseline = "middle";
  for (const { text, color, left, top, width, height } of namePlaces(made.width, made.height, fontPx)) {
    context.fillStyle = "#111c";
    context.fillRect(left, top, width, height);
    context.fillStyle = color;
    context.fillRect(left, top, fontPx / 3, height);
    context.fillStyle = "#fff";
    context.fillText(text, left + 0.7 * fontPx, top + height / 2);
  }
  return new Promise((resolve) => made.toBlob(resolve, "image/png"));
}
