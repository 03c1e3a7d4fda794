// Elements and words. What others wrote becomes text nodes and attributes, never HTML.

export const $ = (id) => document.getElementById(id);

/** An element. A property `onNAME` is a listener, `true` an empty attribute; `false` and null are left out. */
export function h(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

let hide;

/** Says something in view and aloud, for a while. */
export function toast(text) {
  clearTimeout(hide);
  $("toast").textContent = text;
  $("toast").hidden = false;
  hide = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

/** Says something to screen readers alone. */
export function announce(text) {
  $("announcer").append(h("span", null, text));
  while ($("announcer").childNodes.length > 5) $("announcer").firstChild.remove();
}

/** A listener that shows what went wrong as a sentence. */
export const guarded = (work) => async (event) => {
  event?.preventDefault?.();
  try {
    await work(event);
  } catch (error) {
    toast(error.message);
  }
};

/** Whether the person really wants it. Escape is a no. */
export function sure(text, yes) {
  const dialog = $("sure");
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclick = ({ target }) => { if (target.closest("button")) dialog.close(target.value); };
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}

export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** How long to wait before the nth try: twice as long each time, and at random, so that many do not come at once. */
export const backoff = (tries, most = 20_000) => Math.min(most, 500 * 2 ** tries) * (0.5 + Math.random() / 2);
