// What a person with a keyboard, a screen reader or weak eyes would stumble over on a page: a list of texts.
(() => {
  const found = [];
  const seen = (node) => node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const named = (node) => {
    const by = (node.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean);
    const label = by.map((id) => document.getElementById(id)?.textContent).join(" ") || node.getAttribute("aria-label")
      || Array.from(node.labels || []).map((each) => each.textContent).join(" ");
    return (label || node.textContent || node.title || "").trim();
  };
  const all = (selector) => Array.from(document.querySelectorAll(selector)).filter(seen);
  const told = (node) => node.outerHTML.slice(0, 120);

  if (!document.documentElement.lang) found.push("the document has no language");
  if (!document.title) found.push("the document has no title");
  if (document.querySelectorAll("main").length !== 1) found.push("there is not one main");
  const ids = Array.from(document.querySelectorAll("[id]")).map((node) => node.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => found.push(`two things are called ${id}`));
  document.querySelectorAll("[aria-labelledby], [aria-describedby]").forEach((node) => {
    for (const name of ["aria-labelledby", "aria-describedby"]) {
      for (const id of (node.getAttribute(name) || "").split(/\s+/).filter(Boolean)) {
        if (!document.getElementById(id)) found.push(`${name} names ${id}, which is not there`);
      }
    }
  });
  const levels = all("h1, h2, h3, h4").map((node) => Number(node.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) found.push("there is not one h1");
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) found.push(`an h${level} follows an h${levels[at - 1]}`); });
  all("a[href], button, summary, input:not([type=hidden]), select, [role=img], [role=region], nav").forEach((node) => {
    if (!named(node)) found.push(`no name: ${told(node)}`);
  });
  all("input:not([type=hidden]), select").forEach((node) => {
    if (!node.labels.length && !node.getAttribute("aria-label")) found.push(`no label: ${told(node)}`);
  });
  const landmarks = all("nav").map(named);
  landmarks.filter((name, at) => landmarks.indexOf(name) !== at).forEach((name) => found.push(`two navigations: ${name}`));
  document.querySelectorAll("table").forEach((table) => {
    if (!table.caption?.textContent) found.push("a table has no caption");
    if (!table.querySelector("thead th[scope=col]")) found.push("a table has no headings");
    if (Array.from(table.tBodies[0].rows).some((row) => !row.querySelector("th[scope=row]"))) found.push("a row has no heading");
  });
  all("*").forEach((node) => {
    const scrolls = node.scrollWidth > node.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(node).overflowX);
    if (scrolls && node.tabIndex < 0) found.push(`a keyboard cannot scroll ${told(node)}`);
  });
  all("a[href], button, summary, select, input:not([type=hidden])").forEach((node) => {
    const box = node.getBoundingClientRect();
    const inText = getComputedStyle(node).display === "inline";
    if (!inText && box.height < 24 && box.top >= 0) found.push(`too small to hit (${box.height}): ${told(node)}`);
  });

  // Contrast: WCAG 2.2, 1.4.3. Colours are read off a canvas, in whatever notation a style has them.
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const read = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (front, back) => [0, 1, 2].map((at) => front[at] * front[3] + back[at] * (1 - front[3]));
  const ground = (node) => {
    if (node === null) return [255, 255, 255];
    const color = read(getComputedStyle(node).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : over(color, ground(node.parentElement));
  };
  const light = (color) => {
    const [r, g, b] = color.map((each) => each / 255).map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const checked = new Set();
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || checked.has(node) || node.closest("script, style, noscript, option") || !seen(node)) continue;
    checked.add(node);
    const style = getComputedStyle(node);
    const back = ground(node);
    const front = over(read(node.ownerSVGElement ? style.fill : style.color), back);
    const [one, two] = [light(front), light(back)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < needed) found.push(`contrast ${ratio.toFixed(2)}: ${text.data.trim().slice(0, 40)}`);
  }
  return found;
})();
