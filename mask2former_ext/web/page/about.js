// What the model is, knows, and cannot know: `props.value` is what `about` (about.py) says, and its `name` on the page.
function show({ name, model, knows, limits, classes }) {
  element.querySelector(".about-title").textContent = `Model: ${name}`;
  element.querySelector(".about-knows").textContent = `${model} ${knows}`;
  element.querySelector(".about-limits").textContent = limits;
  element.querySelector(".about-classes").textContent = classes.join(", ");
  element.querySelector("details").hidden = classes.length === 0;
  document.dispatchEvent(new CustomEvent("page:model", { detail: name }));
}

watch("value", () => show(props.value));
show(props.value);
