// The AI's Markdown as elements. Whatever it says, no script, style, form or picture comes out of it.
import { marked } from "./marked.esm.js";
import DOMPurify from "./purify.es.mjs";

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

marked.use({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escaped(text), // it is shown, not obeyed
    // A picture would tell its server who reads what and when: it becomes a link that one may follow.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || "picture")}</a>`,
  },
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("rel", "noopener noreferrer");
  node.setAttribute("target", "_blank");
});

const ALLOWED = {
  ALLOWED_TAGS: ("a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i input li ol p pre s strong sub sup table tbody " +
    "td th thead tr ul").split(" "),
  ALLOWED_ATTR: ["href", "title", "align", "start", "type", "checked", "disabled"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true,
};

/** A fragment for the document. */
export const rendered = (text) => DOMPurify.sanitize(marked.parse(text), ALLOWED);
