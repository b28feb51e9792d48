(file, model, task, threshold) => {
  // Runs when a question is sent. Its ticket is random, so that nobody else can stop it; answers repeat it.
  const ticket = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  document.dispatchEvent(new CustomEvent("page:sent", { detail: ticket }));
  return [file && { name: file.name, data: file.data, ticket }, model, task, threshold];
}
