// What a reader would notice on a page: it is wider than the screen, faint text, controls without a name or too small to hit.
(() => {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => rgb(colour).slice(0, 3).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return getComputedStyle(e).backgroundColor;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18, 18, 18)" : "rgb(255, 255, 255)";
  };
  const contrast = (a, b) => { const [low, high] = [light(a), light(b)].sort((x, y) => x - y); return (high + 0.05) / (low + 0.05); };
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const words = [...document.querySelectorAll("body *")].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const seen = words.filter((e) => e.getClientRects().length && !e.closest("svg, script, .skip"));
  const faint = seen.map((e) => [contrast(getComputedStyle(e).color, ground(e)), e.outerHTML.slice(0, 120)]).sort((a, b) => a[0] - b[0]);
  const controls = [...document.querySelectorAll("button, input, video, [role=region], [role=img]")];
  const nameless = controls.filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length)));
  return {
    width: innerWidth, pageWidth: document.documentElement.scrollWidth, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    faintest: faint[0], nameless: nameless.map((e) => e.outerHTML.slice(0, 120)),
    small: [...document.querySelectorAll("button")].filter((e) => e.getBoundingClientRect().height < 32).length,
  };
})()
