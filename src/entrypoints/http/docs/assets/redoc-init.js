// ReDoc in the fonts of the reader's own system; it would name two that come from elsewhere.
window.addEventListener("load", () => {
  const system = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  Redoc.init(
    "/openapi.json",
    { theme: { typography: { fontFamily: system, headings: { fontFamily: system } } } },
    document.getElementById("redoc"),
  );
});
