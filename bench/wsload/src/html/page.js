"use strict";
// Shows the values under the pointer, and hands out the raw data. Only text is ever set.
const tip = document.getElementById("tip");
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const [top, bottom, ...places] = JSON.parse(svg.dataset.hover);
  if (places.length === 0) continue;
  const cursor = document.createElement("div");
  cursor.className = "cursor";
  cursor.hidden = true;
  svg.parentNode.append(cursor);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    const near = places.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    cursor.hidden = tip.hidden = false;
    cursor.style.left = `${4 + near[0] * scale}px`;
    cursor.style.top = `${4 + top * scale}px`;
    cursor.style.height = `${(bottom - top) * scale}px`;
    const head = document.createElement("strong");
    head.textContent = near[1];
    tip.replaceChildren(head, ...near[2].map(([colour, name, words]) => {
      const line = document.createElement("div");
      const swatch = document.createElement("i");
      swatch.className = `s${(colour - 1) % 8 + 1}`;
      swatch.style.setProperty("--c", `var(--c${(colour - 1) % 8 + 1})`);
      const value = document.createElement("b");
      value.textContent = words;
      line.append(swatch, name, value);
      return line;
    }));
    const left = event.clientX + 16 + tip.offsetWidth > innerWidth;
    tip.style.left = `${left ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16}px`;
    tip.style.top = `${event.clientY + 12}px`;
  });
  svg.addEventListener("pointerleave", () => { cursor.hidden = tip.hidden = true; });
}
document.getElementById("download").addEventListener("click", () => {
  const reports = JSON.parse(document.getElementById("raw").textContent);
  const values = Object.values(reports);
  const text = JSON.stringify(values.length === 1 ? values[0] : reports, null, 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "wsload-report.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
