// Ranks the sections of window.bookIndex for ?q=... by BM25; words of a title count more.
(() => {
  "use strict";
  const K = 1.2, B = 0.6, TITLE = 5, PAGE = 1.2, PHRASE = 8, MOST = 30, AROUND = 90;
  const API = "book/api/", NAME = /_|.[A-Z]/; // a name as code writes it, no word of a sentence

  // "Equivariant networks" -> ["equivariant", "network"]: lower case, no accents, no plural.
  function words(text) {
    const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
    return (plain.match(/[\p{L}\p{N}]+/gu) || []).map(stem);
  }
  function stem(word) {
    if (word.length > 5 && word.endsWith("ies")) return word.slice(0, -3) + "y";
    if (word.length > 3 && word.endsWith("s") && !/(ss|us|is)$/.test(word)) return word.slice(0, -1);
    return word;
  }
  function counted(list) {
    const found = new Map();
    for (const word of list) found.set(word, (found.get(word) || 0) + 1);
    return found;
  }

  const { sections, synonyms } = window.bookIndex;
  const documents = sections.map((section) => {
    const body = words(section.text);
    const title = words(section.title), page = words(section.page);
    return { section, length: body.length, body: counted(body), title, page,
      all: new Set([...body, ...title, ...page]) };
  });
  const mean = documents.reduce((sum, one) => sum + one.length, 0) / documents.length;

  // Each word of the query: itself, and what the book says for it.
  function asked(query) {
    const raw = query.normalize("NFKD").toLowerCase().match(/[\p{L}\p{N}]+/gu) || [];
    return raw.map((word) => [[stem(word)], words(synonyms[word] || "")].filter((one) => one.length));
  }
  function has(document, choice) {
    return choice.every((word) => document.all.has(word));
  }
  function idf(word) {
    const n = documents.filter((one) => one.all.has(word)).length;
    return Math.log(1 + (documents.length - n + 0.5) / (n + 0.5));
  }
  function score(document, choice, rarity) {
    return choice.reduce((sum, word) => {
      const often = document.body.get(word) || 0;
      const norm = K * (1 - B + (B * document.length) / mean);
      let value = (often * (K + 1)) / (often + norm);
      if (document.title.includes(word)) value += TITLE / Math.sqrt(document.title.length);
      if (document.page.includes(word)) value += PAGE / Math.sqrt(document.page.length);
      return sum + rarity.get(word) * value;
    }, 0) / choice.length;
  }

  // Whether a section is of the very name that was typed, and no chapter is called so.
  function isNamed(document, query) {
    return document.section.at.startsWith(API) && document.section.title === query &&
      NAME.test(query) && !synonyms[query.toLowerCase()] &&
      !documents.some((one) => !one.section.page && !one.section.at.startsWith(API) &&
        words(query).every((word) => one.title.includes(word)));
  }

  function find(query) {
    const terms = asked(query);
    const phrase = words(query).join(" ");
    const rarity = new Map(terms.flat(2).map((word) => [word, idf(word)]));
    const ranked = documents.map((document) => {
      const met = terms.filter((choices) => choices.some((choice) => has(document, choice)));
      let total = met.reduce((sum, choices) => sum + Math.max(...choices
        .filter((choice) => has(document, choice)).map((choice) => score(document, choice, rarity))), 0);
      if (terms.length > 1 && ` ${document.title.join(" ")} `.includes(` ${phrase} `)) total += PHRASE;
      total *= isNamed(document, query.trim()) ? Infinity : document.section.weight;
      return { document, met: met.length, total };
    }).filter((one) => one.met > 0);
    const most = Math.max(0, ...ranked.map((one) => one.met));
    return ranked.filter((one) => one.met === most)
      .sort((a, b) => b.total - a.total).slice(0, MOST).map((one) => one.document.section);
  }
  window.findSections = find;

  // The words around the first hit, marked.
  function excerpt(text, query) {
    const wanted = new Set(asked(query).flat(2));
    const at = [...text.matchAll(/[\p{L}\p{N}]+/gu)].find((hit) => words(hit[0]).some((w) => wanted.has(w)));
    const start = Math.max(0, (at ? at.index : 0) - AROUND);
    const part = text.slice(start, start + 2.5 * AROUND);
    const line = document.createElement("p");
    line.className = "context";
    line.append(start > 0 ? "… " : "");
    let last = 0;
    for (const hit of part.matchAll(/[\p{L}\p{N}]+/gu)) {
      if (!words(hit[0]).some((word) => wanted.has(word))) continue;
      line.append(part.slice(last, hit.index));
      const mark = document.createElement("mark");
      mark.textContent = hit[0];
      line.append(mark);
      last = hit.index + hit[0].length;
    }
    line.append(part.slice(last) + " …");
    return line;
  }

  function show(query) {
    const box = document.getElementById("search-results");
    box.replaceChildren();
    const found = find(query);
    const count = document.createElement("p");
    count.setAttribute("role", "status");
    count.className = "search-summary";
    count.textContent = found.length
      ? `${found.length === MOST ? "The best " : ""}${found.length} sections for “${query}”.`
      : `No section has “${query}”. Try one word of it.`;
    const list = document.createElement("ul");
    list.className = "search";
    for (const section of found) {
      const item = document.createElement("li"), link = document.createElement("a");
      link.href = section.at;
      link.textContent = section.title;
      item.append(link, section.page ? ` in ${section.page}` : "", excerpt(section.text, query));
      list.append(item);
    }
    box.append(count, list);
  }

  const query = new URLSearchParams(location.search).get("q");
  const box = document.getElementById("search-results");
  if (box && query) {
    for (const field of document.querySelectorAll("form.bd-search input[type=search]")) field.value = query;
    show(query);
  }
})();
